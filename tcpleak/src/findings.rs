//! What is found while a command runs: leaks that may be closed, or end with their process, before it ends.
//!
//! Pure: judged connections go in as they are found, and stay as they were last seen to be leaks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    case::Case,
    code_path::Resolved,
    judge::Judgement,
    process::ProcessInfo,
    survey::{ProcessId, Record, Task},
    tracker::Connection,
};

/// The leaks of a run.
#[derive(Default)]
pub struct Findings {
    found: BTreeMap<Id, Finding>,
    processes: HashMap<ProcessId, ProcessInfo>,
    paths: HashMap<u64, Resolved>,
}

/// Identity of a connection, whether a survey saw it or its end was told.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    opened_at: Option<Duration>,
    netns: u32,
    local: SocketAddr,
    remote: SocketAddr,
}

/// A leaked connection, as it was last seen.
struct Finding {
    connection: Connection,
    judgement: Judgement,
    owner: Option<Task>,
    holders: BTreeMap<(ProcessId, u32), Task>,
    endpoint: SocketAddr,
}

impl Findings {
    /// Keeps the leaks among these, and what is known of their processes and code paths.
    pub fn keep(
        &mut self,
        cases: &[Case<'_>],
        processes: HashMap<ProcessId, ProcessInfo>,
        paths: HashMap<u64, Resolved>,
    ) {
        for case in cases.iter().filter(|case| case.judgement.leak) {
            self.found
                .insert(Id::of(case.connection), Finding::of(case));
        }
        for (process, info) in processes {
            let known = self.processes.entry(process).or_default();
            // Of one that is about to end there is but the name.
            if info.exe.is_some() || known.exe.is_none() {
                *known = info;
            }
        }
        self.learn(paths);
    }

    /// Takes in code paths.
    pub fn learn(&mut self, paths: HashMap<u64, Resolved>) {
        self.paths.extend(paths);
    }

    /// Fingerprints of code paths that are not known yet.
    pub fn unresolved(&self) -> Vec<u64> {
        let records = self.found.values();
        let records = records.filter_map(|finding| finding.connection.record.as_ref());
        let wanted: HashSet<u64> = records.flat_map(Record::paths).collect();
        let unknown = |path: &u64| !self.paths.contains_key(path);
        wanted.into_iter().filter(unknown).collect()
    }

    /// The leaks, as cases of a report.
    pub fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        self.found.values().map(|finding| Case {
            connection: &finding.connection,
            judgement: finding.judgement.clone(),
            owner: finding.owner.as_ref(),
            holders: &finding.holders,
            endpoint: finding.endpoint,
        })
    }

    /// What is known of their processes.
    pub fn processes(&self) -> &HashMap<ProcessId, ProcessInfo> {
        &self.processes
    }

    /// The code paths by fingerprint.
    pub fn paths(&self) -> &HashMap<u64, Resolved> {
        &self.paths
    }
}

impl Id {
    fn of(connection: &Connection) -> Self {
        let record = connection.record.as_ref();
        Self {
            opened_at: record.and_then(|record| record.opened_at),
            netns: connection.socket.netns,
            local: connection.socket.local,
            remote: connection.socket.remote,
        }
    }
}

impl Finding {
    fn of(case: &Case<'_>) -> Self {
        Self {
            connection: case.connection.clone(),
            judgement: case.judgement.clone(),
            owner: case.owner.cloned(),
            holders: case.holders.clone(),
            endpoint: case.endpoint,
        }
    }
}
