//! What makes connections one group.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use super::{Context, path_kind};
use crate::{
    alike::Alike,
    case::Case,
    report::{PathKind, Verdict},
    survey::Use,
    title::own_functions,
};

/// What makes connections one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub place: Place,
    pub code: Code,
}

impl Key {
    /// A name that lasts as long as the key does.
    pub fn id(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Whose connections these are, where they lead, and in which condition they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub program: String,
    pub cgroup: Option<String>,
    pub verdict: Verdict,
    pub leak: bool,
    pub netns: u32,
    pub endpoint: SocketAddr,
}

/// The code behind the connections, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Code {
    /// What opened them.
    pub origin: Option<Alike>,
    /// The program's own functions on the path that last read. `None` when there are none: then
    /// nothing tells two uses apart.
    read: Option<Functions>,
    /// The same of the path that last wrote.
    write: Option<Functions>,
}

type Functions = Arc<[String]>;

impl Code {
    /// How much is not known.
    pub fn unknown(&self) -> usize {
        [
            self.origin.is_none(),
            self.read.is_none(),
            self.write.is_none(),
        ]
        .into_iter()
        .filter(|unknown| *unknown)
        .count()
    }

    /// The program's functions that used the connections last.
    pub fn last_used_in(&self) -> impl Iterator<Item = &String> {
        let paths = self.read.iter().chain(&self.write);
        paths.flat_map(|functions| functions.iter())
    }

    /// Whether this is the same code as `other`, and more of it is known.
    pub fn tells_more_than(&self, other: &Self) -> bool {
        fn fits<T: PartialEq>(more: &Option<T>, less: &Option<T>) -> bool {
            less.is_none() || more == less
        }
        self.unknown() < other.unknown()
            && fits(&self.read, &other.read)
            && fits(&self.write, &other.write)
            && fits(&self.origin, &other.origin)
    }
}

/// Makes the keys of one report. Each code path is looked at once, however many connections it has.
pub(super) struct Keys<'a> {
    context: &'a Context<'a>,
    origins: HashMap<(u64, PathKind), Option<Alike>>,
    uses: HashMap<u64, Option<Functions>>,
}

impl<'a> Keys<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            origins: HashMap::new(),
            uses: HashMap::new(),
        }
    }

    pub fn key(&mut self, case: &Case<'_>) -> Key {
        Key {
            place: self.place(case),
            code: self.code(case),
        }
    }

    fn place(&self, case: &Case<'_>) -> Place {
        let information = case
            .owner
            .and_then(|owner| self.context.processes.get(&owner.process));
        let comm = case
            .owner
            .map(|owner| owner.comm.clone())
            .unwrap_or_default();
        Place {
            program: information
                .and_then(|information| information.exe.clone())
                .unwrap_or(comm),
            cgroup: information.and_then(|information| information.cgroup.clone()),
            verdict: case.judgement.verdict,
            leak: case.judgement.leak,
            netns: case.connection.socket.netns,
            endpoint: case.endpoint,
        }
    }

    fn code(&mut self, case: &Case<'_>) -> Code {
        let Some(record) = &case.connection.record else {
            return Code::default();
        };
        Code {
            origin: record
                .origin
                .and_then(|path| self.origin(path, path_kind(record.birth))),
            read: self.functions(record.last_read),
            write: self.functions(record.last_write),
        }
    }

    fn origin(&mut self, fingerprint: u64, kind: PathKind) -> Option<Alike> {
        let paths = self.context.paths;
        self.origins
            .entry((fingerprint, kind))
            .or_insert_with(|| {
                let path = paths.get(&fingerprint)?;
                Some(Alike::new(path.of_kind(kind)))
            })
            .clone()
    }

    fn functions(&mut self, last: Option<Use>) -> Option<Functions> {
        let (fingerprint, paths) = (last?.path?, self.context.paths);
        self.uses
            .entry(fingerprint)
            .or_insert_with(|| {
                let path = paths.get(&fingerprint)?;
                let names = own_functions(&path.frames, path.incomplete);
                let names: Functions = names.into_iter().map(Into::into).collect();
                Some(names).filter(|names| !names.is_empty())
            })
            .clone()
    }
}
