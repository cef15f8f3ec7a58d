//! Connections of which no code path was captured, or not every one.
//!
//! A tracer that keeps its cost bounded does not capture everything. What it left out should not look
//! like another cause: it joins the group that it would be in, as long as there is only one.

use std::collections::BTreeMap;

use super::key::{Code, Key};
use crate::{case::Case, survey::Birth};

type Groups<'a> = BTreeMap<Key, Vec<Case<'a>>>;

/// Moves connections whose code is not known, or in part, to the only group of the same place with the
/// same code of which more is known. Where there are several, nothing tells which one it would be.
pub(super) fn join(groups: &mut Groups<'_>) {
    let mut unknown: Vec<Key> = groups
        .keys()
        .filter(|key| key.code.unknown() > 0)
        .cloned()
        .collect();
    // Those of which most is known first: they are then no second choice for the others.
    unknown.sort_by_key(|key| key.code.unknown());
    for key in unknown {
        if let Some(sibling) = only_sibling(groups, &key)
            && let Some(cases) = groups.remove(&key)
        {
            let (joining, staying) = cases.into_iter().partition::<Vec<_>, _>(was_traced);
            groups.entry(sibling).or_default().extend(joining);
            if !staying.is_empty() {
                groups.insert(key, staying);
            }
        }
    }
}

fn only_sibling(groups: &Groups<'_>, key: &Key) -> Option<Key> {
    // Nothing known sorts before everything: the groups of one place stand together.
    let first = Key {
        place: key.place.clone(),
        code: Code::default(),
    };
    let mut siblings = groups
        .range(first..)
        .map(|(other, _)| other)
        .take_while(|other| other.place == key.place)
        .filter(|other| other.code.tells_more_than(&key.code));
    let sibling = siblings.next()?;
    siblings.next().is_none().then(|| sibling.clone())
}

/// Whether the tracer was there when the connection was opened: what is not known of it was left out,
/// not missed.
pub(super) fn was_traced(case: &Case<'_>) -> bool {
    case.connection
        .record
        .as_ref()
        .is_some_and(|record| record.opener.is_some() && record.birth != Birth::BeforeTracer)
}
