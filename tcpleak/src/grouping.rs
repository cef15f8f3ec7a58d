//! Makes the report: puts judged connections into groups that have one cause.
//!
//! Pure. What the groups need from the outside (names of processes, resolved code paths, the time
//! of day) comes in as data.

mod key;
mod last_use;
mod sharing;
mod unsampled;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;

use self::{
    key::{Key, Keys},
    last_use::last_use,
    sharing::Sharing,
};
use crate::{
    case::Case,
    code_path::Resolved,
    evidence::summarize,
    growth::Growth,
    process::ProcessInfo,
    report::{
        AgeKind, CONNECTIONS_LISTED, DESCRIPTORS_LISTED, Descriptors, FileHandles, Group, Holder,
        Opener, PathKind, Process, Qualifier, Report, SCHEMA, Totals,
    },
    survey::{Birth, ProcessId, State},
    title::title,
    tracker::{Connection, Tracker},
};

/// What the report needs beyond the surveys.
pub struct Context<'a> {
    /// Time of day of the latest survey.
    pub taken_at: Timestamp,
    /// Release of the running kernel.
    pub kernel: &'a str,
    /// What /proc says of each process.
    pub processes: &'a HashMap<ProcessId, ProcessInfo>,
    /// Resolved code paths by fingerprint.
    pub paths: &'a HashMap<u64, Resolved>,
    /// Whether a process is still there.
    pub alive: &'a dyn Fn(ProcessId) -> bool,
    /// The descriptors of suspects.
    pub descriptors: Vec<Descriptors>,
    /// Open files of the host.
    pub file_handles: Option<FileHandles>,
    /// Sentences for the reader from elsewhere.
    pub notes: Vec<String>,
}

/// Most leaks of ended processes that are kept; the oldest goes first.
const ENDED_KEPT: usize = 64;

/// Makes reports, and remembers how the groups grow and which leaks ended with their process.
#[derive(Debug, Default)]
pub struct Grouping {
    growth: Growth<Key>,
    leaks: BTreeMap<Key, (BTreeSet<ProcessId>, Group)>,
    ended: VecDeque<Group>,
}

impl Grouping {
    /// The report on these cases.
    pub fn report(
        &mut self,
        tracker: &Tracker,
        cases: Vec<Case<'_>>,
        context: Context<'_>,
    ) -> Report {
        let totals = Totals {
            file_handles: context.file_handles,
            ..totals(tracker)
        };
        let mut groups: BTreeMap<Key, Vec<Case<'_>>> = BTreeMap::new();
        let mut keys = Keys::new(&context);
        for case in cases {
            groups.entry(keys.key(&case)).or_default().push(case);
        }
        unsampled::join(&mut groups);
        self.growth.sample(
            tracker.now(),
            groups.iter().map(|(key, cases)| (key, cases.len() as u64)),
        );
        let sharing = Sharing::of(groups.keys());
        let mut found = Vec::new();
        let previous = std::mem::take(&mut self.leaks);
        for (key, cases) in groups {
            let processes = processes(&cases);
            let group = self.group(tracker, key.clone(), cases, &sharing, &context);
            if group.leak {
                self.leaks.insert(key, (processes, group.clone()));
            }
            found.push(group);
        }
        self.keep_ended(previous, &context);
        let mut groups: Vec<Group> = found
            .into_iter()
            .chain(self.ended.iter().cloned())
            .collect();
        groups.sort_by(|left, right| {
            let rank = |group: &Group| (group.leak, group.verdict.is_notable(), group.count);
            rank(right)
                .cmp(&rank(left))
                .then(right.oldest_s.total_cmp(&left.oldest_s))
        });
        let mut notes = notes(tracker);
        notes.extend(context.notes);
        Report {
            schema: SCHEMA,
            tcpleak: env!("CARGO_PKG_VERSION").into(),
            taken_at: context.taken_at,
            kernel: context.kernel.into(),
            totals,
            groups,
            processes: context.descriptors,
            time_wait: Vec::new(),
            ports: Vec::new(),
            advice: Vec::new(),
            notes,
            run: None,
        }
    }

    /// A leak that went away with its process was not repaired: it stays in the report.
    fn keep_ended(
        &mut self,
        previous: BTreeMap<Key, (BTreeSet<ProcessId>, Group)>,
        context: &Context<'_>,
    ) {
        for (key, (processes, mut group)) in previous {
            let gone = !self.leaks.contains_key(&key) && !processes.is_empty();
            if gone && !processes.iter().any(|process| (context.alive)(*process)) {
                group.qualifiers.push(Qualifier::ProcessEnded);
                self.ended.push_back(group);
            }
        }
        while self.ended.len() > ENDED_KEPT {
            self.ended.pop_front();
        }
    }

    fn group(
        &self,
        tracker: &Tracker,
        key: Key,
        mut cases: Vec<Case<'_>>,
        sharing: &Sharing,
        context: &Context<'_>,
    ) -> Group {
        cases.sort_by_key(|case| std::cmp::Reverse(case.judgement.age.at_least));
        let oldest = &cases[0];
        let growth_per_min = self.growth.per_minute(&key);
        let mut qualifiers: BTreeSet<Qualifier> = cases
            .iter()
            .flat_map(|case| case.judgement.qualifiers.iter().copied())
            .collect();
        if self.growth.grows(&key) {
            qualifiers.insert(Qualifier::Growing);
        }
        let is_unsampled = |case: &&Case<'_>| is_unsampled(case, context.paths);
        let unsampled = cases.iter().filter(is_unsampled).count() as u64;
        let origin = key.code.origin.as_ref().map(|alike| alike.path().clone());
        if unsampled > 0 && origin.is_some() {
            qualifiers.insert(Qualifier::NotSampled);
        }
        let last_use = last_use(&cases, context.paths, tracker.now());
        let holders = holders(&cases);
        Group {
            id: key.id(),
            verdict: key.place.verdict,
            leak: key.place.leak,
            qualifiers: qualifiers.into_iter().collect(),
            process: process(&cases, &holders, context),
            pids: processes(&cases)
                .into_iter()
                .map(|process| process.pid)
                .collect(),
            opener: opener(&cases),
            endpoint: key.place.endpoint.to_string(),
            remote: common_remote(&cases),
            count: cases.len() as u64,
            unsampled,
            oldest_s: oldest.judgement.age.at_least.as_secs_f64(),
            age_kind: if oldest.judgement.age.exact {
                AgeKind::Exact
            } else {
                AgeKind::AtLeast
            },
            growth_per_min,
            evidence: summarize(tracker, &cases),
            title: title(origin.as_ref(), last_use.as_ref(), sharing.number(&key)),
            origin,
            last_use,
            connections: cases
                .iter()
                .take(CONNECTIONS_LISTED)
                .map(connection)
                .collect(),
            connections_total: cases.len() as u64,
            holders: holders.into_values().collect(),
        }
    }
}

/// What was done when the code path that opened a connection was captured.
fn path_kind(birth: Birth) -> PathKind {
    match birth {
        Birth::Accepted => PathKind::Accept,
        Birth::FirstUsed => PathKind::FirstUse,
        Birth::BeforeTracer | Birth::Connected | Birth::Pending => PathKind::Connect,
    }
}

/// Whether the code path that opened the connection should be known, and is not.
fn is_unsampled(case: &Case<'_>, paths: &HashMap<u64, Resolved>) -> bool {
    let record = case.connection.record.as_ref();
    let origin = record.and_then(|record| paths.get(&record.origin?));
    origin.is_none() && unsampled::was_traced(case)
}

fn holders(cases: &[Case<'_>]) -> BTreeMap<ProcessId, Holder> {
    let mut descriptors: BTreeMap<ProcessId, (&str, BTreeSet<u32>)> = BTreeMap::new();
    for case in cases {
        for ((process, fd), task) in case.holders {
            descriptors
                .entry(*process)
                .or_insert((&task.comm, BTreeSet::new()))
                .1
                .insert(*fd);
        }
    }
    descriptors
        .into_iter()
        .map(|(process, (comm, fds))| {
            let fds_total = fds.len() as u64;
            let fds = fds.into_iter().take(DESCRIPTORS_LISTED).collect();
            (
                process,
                Holder {
                    pid: process.pid,
                    comm: comm.into(),
                    fds,
                    fds_total,
                },
            )
        })
        .collect()
}

/// The process that most connections are put down to.
fn process(
    cases: &[Case<'_>],
    holders: &BTreeMap<ProcessId, Holder>,
    context: &Context<'_>,
) -> Process {
    let owner = most_frequent(
        cases
            .iter()
            .filter_map(|case| case.owner)
            .map(|task| task.process),
    );
    let information = owner.and_then(|owner| context.processes.get(&owner));
    let held_as = owner
        .and_then(|owner| holders.get(&owner))
        .map(|holder| holder.comm.clone());
    let opened_as = cases
        .iter()
        .find_map(|case| case.owner)
        .map(|task| task.comm.clone());
    Process {
        pid: owner.map(|owner| owner.pid),
        comm: held_as.or(opened_as).unwrap_or_else(|| "unknown".into()),
        exe: information.and_then(|information| information.exe.clone()),
        cmdline: information.and_then(|information| information.cmdline.clone()),
        cgroup: information.and_then(|information| information.cgroup.clone()),
        unit: information.and_then(|information| information.unit.clone()),
        container: information.and_then(|information| information.container.clone()),
        netns: cases.first().map_or(0, |case| case.connection.socket.netns),
    }
}

/// The processes that hold the connections, or that they are put down to.
fn processes(cases: &[Case<'_>]) -> BTreeSet<ProcessId> {
    let holding = cases
        .iter()
        .flat_map(|case| case.holders.keys())
        .map(|(process, _)| *process);
    let owning = cases
        .iter()
        .filter_map(|case| case.owner)
        .map(|task| task.process);
    holding.chain(owning).collect()
}

fn opener(cases: &[Case<'_>]) -> Option<Opener> {
    let openers = || cases.iter().filter_map(|case| case.connection.opener());
    let (process, tid) = most_frequent(openers().map(|task| (task.process, task.tid)))?;
    let comm = openers().find(|task| task.process == process)?.comm.clone();
    Some(Opener {
        pid: process.pid,
        tid,
        comm,
    })
}

fn common_remote(cases: &[Case<'_>]) -> Option<String> {
    let remotes: BTreeSet<SocketAddr> = cases
        .iter()
        .map(|case| case.connection.socket.remote)
        .collect();
    let addresses: BTreeSet<IpAddr> = remotes.iter().map(SocketAddr::ip).collect();
    match (remotes.len(), addresses.len()) {
        (1, _) => remotes.first().map(SocketAddr::to_string),
        (_, 1) => addresses.first().map(IpAddr::to_string),
        _ => None,
    }
}

fn connection(case: &Case<'_>) -> crate::report::Connection {
    let socket = &case.connection.socket;
    let fds: BTreeSet<u32> = case.connection.holders.keys().map(|(_, fd)| *fd).collect();
    crate::report::Connection {
        local: socket.local.to_string(),
        remote: socket.remote.to_string(),
        state: socket.state.word().into(),
        age_s: case.judgement.age.at_least.as_secs_f64(),
        inode: socket.inode,
        fds: fds.into_iter().take(DESCRIPTORS_LISTED).collect(),
    }
}

/// The value that occurs most; of several the smallest, so that reports do not flicker.
fn most_frequent<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map(|(value, _)| value)
}

fn totals(tracker: &Tracker) -> Totals {
    let (counts, losses) = (tracker.counts(), tracker.losses());
    let number = |wanted: &dyn Fn(&Connection) -> bool| {
        tracker
            .connections()
            .filter(|connection| wanted(connection))
            .count() as u64
    };
    let dead_fd = number(&|connection| connection.socket.state == State::Close);
    Totals {
        connections: counts.connections + dead_fd,
        close_wait: counts.close_wait,
        dead_fd,
        unaccepted: number(&|connection| {
            connection.is_unaccepted() && connection.socket.peer_gone()
        }),
        time_wait: counts.time_wait,
        dropped: losses.connections_dropped + losses.paths_dropped,
        unsampled: losses.paths_unreadable + losses.origins_unsampled,
        recursion_misses: losses.recursion_misses,
        ..Totals::default()
    }
}

fn notes(tracker: &Tracker) -> Vec<String> {
    let (counts, losses) = (tracker.counts(), tracker.losses());
    let mut notes = Vec::new();
    let mut note = |number: u64, words: &dyn Fn(u64) -> String| {
        if number > 0 {
            notes.push(words(number));
        }
    };
    note(losses.connections_dropped, &|number| {
        format!(
            "{number} connections were not recorded because the kernel map (262,144 entries) was full: their opener and code path are unknown."
        )
    });
    note(losses.paths_dropped, &|number| {
        format!("{number} code paths were lost because they came faster than they could be read.")
    });
    note(losses.paths_unreadable, &|number| {
        format!("{number} times a stack could not be read: as many code paths are unknown.")
    });
    note(losses.origins_unsampled, &|number| {
        format!(
            "The opening of {number} connections was not sampled, to keep within --captures and --budget."
        )
    });
    note(losses.uses_unsampled, &|number| {
        format!(
            "{number} reads and writes were not sampled, to keep within --captures and --budget."
        )
    });
    note(losses.recursion_misses, &|number| {
        format!(
            "The kernel skipped the tracer {number} times while it was busy: as many openers or ages may be missing."
        )
    });
    note(losses.stale_records, &|number| {
        format!("{number} times a record belonged to an earlier socket and was not used.")
    });
    note(losses.processes_dropped, &|number| {
        format!(
            "{number} processes were not followed because the kernel map (65,536 entries) was full: their leaks are unknown."
        )
    });
    note(losses.ends_dropped, &|number| {
        format!(
            "{number} connections that ended with their process were lost because they came faster than they could be read: whether they were leaks is unknown."
        )
    });
    note(counts.namespaces_missed, &|number| {
        format!(
            "At least {number} network namespaces could not be entered: their unaccepted sockets are not shown, and their sockets not counted."
        )
    });
    notes
}
