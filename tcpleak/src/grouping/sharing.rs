//! What the code of several groups has in common: it tells nothing about one of them.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::key::{Code, Key};
use crate::alike::Alike;

/// How many kinds of use of the same program's connections went through a function.
pub(super) struct Sharing(HashMap<Siblings, HashMap<String, usize>>);

/// What groups have in common that came apart by their last use, or by their verdict after that.
#[derive(PartialEq, Eq, Hash)]
struct Siblings {
    program: String,
    cgroup: Option<String>,
    netns: u32,
    endpoint: SocketAddr,
    origin: Option<Alike>,
}

impl Sharing {
    /// Counts the functions of these groups. Two verdicts about the same code count once.
    pub fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut codes: HashMap<Siblings, BTreeSet<&Code>> = HashMap::new();
        for key in keys {
            codes
                .entry(Siblings::of(key))
                .or_default()
                .insert(&key.code);
        }
        let count = |codes: BTreeSet<&Code>| {
            let mut shared: HashMap<String, usize> = HashMap::new();
            for code in codes {
                let functions: BTreeSet<&String> = code.last_used_in().collect();
                for function in functions {
                    *shared.entry(function.clone()).or_default() += 1;
                }
            }
            shared
        };
        Self(
            codes
                .into_iter()
                .map(|(siblings, codes)| (siblings, count(codes)))
                .collect(),
        )
    }

    /// How many share a function with the group of this key.
    pub fn number(&self, key: &Key) -> impl Fn(&str) -> usize {
        let shared = self.0.get(&Siblings::of(key));
        move |function| {
            shared
                .and_then(|shared| shared.get(function))
                .copied()
                .unwrap_or_default()
        }
    }
}

impl Siblings {
    fn of(key: &Key) -> Self {
        Self {
            program: key.place.program.clone(),
            cgroup: key.place.cgroup.clone(),
            netns: key.place.netns,
            endpoint: key.place.endpoint,
            origin: key.code.origin.clone(),
        }
    }
}
