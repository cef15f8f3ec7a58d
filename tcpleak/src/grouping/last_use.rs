//! How the connections of a group were used last.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    case::Case,
    code_path::Resolved,
    report::{CodePath, Direction, LastUse, PathKind},
    survey::{Record, Use},
    title::own_functions,
};

/// How the connections were used last, at the time `now`; `None` when no use of them was seen.
pub(super) fn last_use(
    cases: &[Case<'_>],
    paths: &HashMap<u64, Resolved>,
    now: Duration,
) -> Option<LastUse> {
    let records = || {
        cases
            .iter()
            .filter_map(|case| case.connection.record.as_ref())
    };
    let read = |record: &Record| record.last_read.map(|last| (last, Direction::Read));
    let write = |record: &Record| record.last_write.map(|last| (last, Direction::Write));
    let (latest, direction) = records()
        .flat_map(|record| read(record).into_iter().chain(write(record)))
        .max_by_key(|(last, _)| last.at)?;
    let captured = |last: Option<Use>| last.and_then(|last| paths.get(&last.path?)).is_some();
    let sampled = records()
        .filter(|record| captured(record.last_read) || captured(record.last_write))
        .count();
    let reads = records().filter_map(|record| record.last_read);
    let writes = records().filter_map(|record| record.last_write);
    let (read, reads_since) = most_frequent(reads, PathKind::Read, paths);
    let (write, writes_since) = most_frequent(writes, PathKind::Write, paths);
    Some(LastUse {
        direction,
        ago_s: now.saturating_sub(latest.at).as_secs_f64(),
        unsampled: cases.len().saturating_sub(sampled) as u64,
        read,
        reads_since,
        write,
        writes_since,
    })
}

/// The connections that one code path used last.
#[derive(Default)]
struct Users {
    number: u64,
    since: u64,
}

impl Users {
    fn add(&mut self, more: &Self) {
        self.number += more.number;
        self.since = self.since.max(more.since);
    }
}

/// The path of most connections, those that show code of the program before all others; of several the
/// smallest, so that reports do not flicker. And the most uses that a connection has had since.
fn most_frequent(
    uses: impl Iterator<Item = Use>,
    kind: PathKind,
    paths: &HashMap<u64, Resolved>,
) -> (Option<CodePath>, u64) {
    let mut by_fingerprint: HashMap<u64, Users> = HashMap::new();
    for last in uses {
        let Some(fingerprint) = last.path else {
            continue;
        };
        let users = by_fingerprint.entry(fingerprint).or_default();
        users.add(&Users {
            number: 1,
            since: last.since_captured(),
        });
    }
    // The same code in two processes has two fingerprints.
    let mut by_code: BTreeMap<&Resolved, Users> = BTreeMap::new();
    for (fingerprint, users) in &by_fingerprint {
        if let Some(path) = paths.get(fingerprint) {
            by_code.entry(path).or_default().add(users);
        }
    }
    let most = by_code.into_iter().rev().max_by_key(|(path, users)| {
        let own = !own_functions(&path.frames, path.incomplete).is_empty();
        (own, users.number)
    });
    match most {
        Some((path, users)) => (Some(path.of_kind(kind)), users.since),
        None => (None, 0),
    }
}
