//! From what was found to the rows of a report: code paths and processes get their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Found, Headroom, Place, Share,
    time_wait::{Closer, apportion},
};
use crate::{
    alike::Alike,
    code_path::Resolved,
    process::ProcessInfo,
    report::{PIDS_LISTED, PathKind, PortHeadroom, Process, ROWS_LISTED, TimeWait},
    survey::ProcessId,
};

/// Names for what the kernel numbers.
pub struct Names<'a> {
    /// What /proc says of each process.
    pub processes: &'a HashMap<ProcessId, ProcessInfo>,
    /// Resolved code paths by fingerprint.
    pub paths: &'a HashMap<u64, Resolved>,
}

impl Names<'_> {
    fn cgroup(&self, by: &Closer) -> Option<&String> {
        self.processes.get(&by.process)?.cgroup.as_ref()
    }
}

/// Control groups of processes that were gone before anybody could ask: where all others of its name that
/// closed connections to that place are in one, so was such a process.
struct Likely<'a>(HashMap<(u32, Place, &'a str), Option<&'a String>>);

impl<'a> Likely<'a> {
    fn of(found: &'a Found, names: &'a Names<'_>) -> Self {
        let mut groups = HashMap::new();
        for share in &found.shares {
            let Some(by) = &share.by else { continue };
            let Some(cgroup) = names.cgroup(by) else {
                continue;
            };
            groups
                .entry((share.netns, share.place, by.comm.as_str()))
                .and_modify(|known: &mut Option<&String>| {
                    *known = known.filter(|known| *known == cgroup)
                })
                .or_insert(Some(cgroup));
        }
        Self(groups)
    }

    fn cgroup(&self, share: &'a Share, by: &'a Closer) -> Option<&'a String> {
        let place = (share.netns, share.place, by.comm.as_str());
        self.0.get(&place).copied().flatten()
    }
}

/// A program by its name and control group, and where its connections led.
type Whole = (u32, Place, Option<(String, Option<String>)>);

/// Rows on sockets in TIME_WAIT: those whose cause is known come first, and of these the largest.
pub fn time_wait_of(found: &Found, names: &Names<'_>) -> Vec<TimeWait> {
    let mut wholes: BTreeMap<Whole, BTreeMap<Option<Named>, Row>> = BTreeMap::new();
    let likely = Likely::of(found, names);
    for share in &found.shares {
        let by = share.by.as_ref();
        let program = by.map(|by| {
            let cgroup = names.cgroup(by).or_else(|| likely.cgroup(share, by));
            (by.comm.clone(), cgroup.cloned())
        });
        let path = by.and_then(|by| Named::of(by, names));
        let rows = wholes
            .entry((share.netns, share.place, program))
            .or_default();
        rows.entry(path).or_default().add(share);
    }
    let mut found = Vec::new();
    for ((netns, place, program), mut rows) in wholes {
        give_to_the_others(&mut rows);
        for (path, row) in rows {
            found.push(row.into_report((netns, place), program.as_ref(), path, names));
        }
    }
    found.sort_by_key(|row| std::cmp::Reverse((row.process.is_some(), row.count)));
    found.truncate(ROWS_LISTED);
    found
}

/// Rows on ports, the fullest first.
pub fn ports_of(found: &Found) -> Vec<PortHeadroom> {
    let rows = found.headroom.iter().take(ROWS_LISTED);
    rows.map(port_headroom).collect()
}

fn port_headroom(ports: &Headroom) -> PortHeadroom {
    PortHeadroom {
        netns: ports.netns,
        source: ports.source.to_string(),
        destination: ports.destination.to_string(),
        in_use: ports.in_use,
        available: ports.available,
        by_state: ports.by_state.clone(),
        taken_for_all: ports.taken_for_all,
        reusable: ports.reusable,
        bound: ports.bound,
        rate_per_s: ports.forecast.rate,
        runs_out_in_s: ports.forecast.runs_out_in.map(|time| time.as_secs_f64()),
        basis: ports.forecast.basis.clone(),
        close_to_limit: ports.is_close_to_limit(),
    }
}

/// A code path with its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    closing: bool,
    path: Alike,
}

impl Named {
    fn of(by: &Closer, names: &Names<'_>) -> Option<Self> {
        let kind = match by.closing {
            true => PathKind::Close,
            false => PathKind::Connect,
        };
        // A process that lives as long as one connection may be gone before its code is read.
        let path = names.paths.get(&by.path?);
        Some(Self {
            closing: by.closing,
            path: Alike::new(path.filter(|path| !path.frames.is_empty())?.of_kind(kind)),
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Row {
    processes: BTreeSet<ProcessId>,
    count: u64,
    unsampled: u64,
    older: u64,
    rate: Option<f64>,
}

impl Row {
    fn add(&mut self, share: &Share) {
        self.processes
            .extend(share.by.as_ref().map(|by| by.process));
        self.count += share.count;
        self.older += share.older_than_tracer;
        if let Some(rate) = share.rate {
            self.rate = Some(self.rate.unwrap_or_default() + rate);
        }
    }

    fn into_report(
        self,
        (netns, place): (u32, Place),
        program: Option<&(String, Option<String>)>,
        path: Option<Named>,
        names: &Names<'_>,
    ) -> TimeWait {
        let known = |process: &&ProcessId| {
            let information = names.processes.get(process);
            information.is_some_and(|information| information.exe.is_some())
        };
        let shown = self.processes.iter().find(known).or(self.processes.first());
        let process = program.map(|(comm, cgroup)| {
            let information = shown.and_then(|process| names.processes.get(process));
            Process {
                pid: shown.map(|process| process.pid),
                comm: comm.clone(),
                exe: information.and_then(|information| information.exe.clone()),
                cmdline: information.and_then(|information| information.cmdline.clone()),
                cgroup: cgroup.clone(),
                unit: information.and_then(|information| information.unit.clone()),
                container: information.and_then(|information| information.container.clone()),
                netns,
            }
        });
        let path = path.map(|named| (named.closing, named.path.path().clone()));
        let (origin, close) = match path {
            Some((true, path)) => (None, Some(path)),
            Some((false, path)) => (Some(path), None),
            None => (None, None),
        };
        let (local, remote) = match place {
            Place::Opened {
                source,
                destination,
            } => (source.to_string(), Some(destination.to_string())),
            Place::Accepted { local } => (local.to_string(), None),
        };
        let pids = self.processes.iter().take(PIDS_LISTED);
        TimeWait {
            process,
            pids: pids.map(|process| process.pid).collect(),
            pids_total: self.processes.len() as u64,
            origin,
            close,
            netns,
            local,
            remote,
            count: self.count,
            unsampled: self.unsampled,
            rate_per_s: self.rate,
            older_than_tracer: self.older,
        }
    }
}

/// Paths are sampled: what one program closed without a path is put down to its paths to the same place,
/// as often as each was seen.
fn give_to_the_others(rows: &mut BTreeMap<Option<Named>, Row>) {
    if rows.len() < 2 {
        return;
    }
    let Some(without) = rows.remove(&None) else {
        return;
    };
    let weights: Vec<u64> = rows.values().map(|row| row.count).collect();
    let total: u64 = weights.iter().sum();
    let parts = apportion(without.count, &weights);
    for ((row, part), weight) in rows.values_mut().zip(parts).zip(weights) {
        row.count += part;
        row.unsampled += part;
        let rate = without.rate.map(|rate| rate * weight as f64 / total as f64);
        row.rate = match (row.rate, rate) {
            (None, None) => None,
            (own, given) => Some(own.unwrap_or_default() + given.unwrap_or_default()),
        };
    }
    // Nobody knows which process went which way: each is told once.
    if let Some(largest) = rows.values_mut().max_by_key(|row| row.count) {
        largest.processes.extend(without.processes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn share(pid: u32, path: Option<u64>, count: u64) -> Share {
        Share {
            netns: 7,
            place: Place::Opened {
                source: "10.0.0.1".parse().unwrap(),
                destination: "10.0.0.2:80".parse().unwrap(),
            },
            by: Some(Closer {
                process: ProcessId { pid, start_ns: 1 },
                comm: "client".into(),
                path,
                closing: false,
            }),
            count,
            older_than_tracer: 0,
            rate: Some(count as f64),
        }
    }

    fn rows(shares: Vec<Share>) -> Vec<TimeWait> {
        rows_of(shares, &HashMap::new())
    }

    fn rows_of(shares: Vec<Share>, processes: &HashMap<ProcessId, ProcessInfo>) -> Vec<TimeWait> {
        let named = |name: &str| {
            let path = samples::path(PathKind::Connect, vec![samples::own(name, "client.c", 1)]);
            Resolved {
                frames: path.frames,
                incomplete: None,
                unreadable: None,
                requested_by: None,
            }
        };
        let unread = Resolved {
            frames: Vec::new(),
            ..named("fetch")
        };
        let paths = [
            (1, named("fetch")),
            (2, named("fetch")),
            (3, named("ping")),
            (4, unread),
        ];
        let paths = paths.into();
        let names = Names {
            processes,
            paths: &paths,
        };
        let found = Found {
            shares,
            ..Found::default()
        };
        time_wait_of(&found, &names)
    }

    fn functions(row: &TimeWait) -> Option<&str> {
        row.origin.as_ref()?.frames[0].function.as_deref()
    }

    #[test]
    fn processes_that_do_the_same_are_one_row() {
        let rows = rows(vec![
            share(1, Some(1), 5),
            share(2, Some(2), 6),
            share(3, Some(3), 1),
        ]);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].count, &rows[0].pids[..]), (11, &[1, 2][..]));
        assert_eq!(functions(&rows[0]), Some("fetch"));
        assert_eq!(rows[0].rate_per_s, Some(11.0));
    }

    #[test]
    fn what_was_not_sampled_goes_to_the_paths_that_were() {
        let rows = rows(vec![
            share(1, Some(1), 6),
            share(1, Some(3), 2),
            share(2, None, 80),
        ]);
        assert_eq!((rows[0].count, rows[0].unsampled), (66, 60));
        assert_eq!((rows[1].count, rows[1].unsampled), (22, 20));
        assert_eq!(rows[0].rate_per_s, Some(66.0));
        assert_eq!(
            (&rows[0].pids[..], &rows[1].pids[..]),
            (&[1, 2][..], &[1][..])
        );
    }

    #[test]
    fn a_path_that_could_not_be_read_is_none() {
        let rows = rows(vec![share(1, Some(1), 6), share(2, Some(4), 4)]);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].count, rows[0].unsampled), (10, 4));
        assert_eq!(rows[0].pids, [1, 2]);
    }

    /// Processes by their numbers, each in a control group.
    fn in_groups<const N: usize>(groups: [(u32, &str); N]) -> HashMap<ProcessId, ProcessInfo> {
        let process = |(pid, cgroup): (u32, &str)| {
            let information = ProcessInfo {
                cgroup: Some(cgroup.to_owned()),
                ..ProcessInfo::default()
            };
            (ProcessId { pid, start_ns: 1 }, information)
        };
        groups.map(process).into()
    }

    #[test]
    fn a_process_that_was_gone_too_soon_is_put_to_its_like() {
        let shares = || vec![share(1, Some(1), 42), share(2, None, 8)];
        let found = rows_of(shares(), &in_groups([(1, "/batch")]));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].count, found[0].unsampled), (50, 8));
        assert_eq!(found[0].pids, [1, 2]);
    }

    #[test]
    fn where_its_like_are_in_several_groups_it_is_put_to_none() {
        let shares = vec![
            share(1, Some(1), 6),
            share(2, Some(1), 4),
            share(3, None, 2),
        ];
        let found = rows_of(shares, &in_groups([(1, "/batch"), (2, "/shop")]));
        let told: Vec<_> = found
            .iter()
            .map(|row| (row.process.as_ref().unwrap().cgroup.as_deref(), row.count))
            .collect();
        assert_eq!(told, [(Some("/batch"), 6), (Some("/shop"), 4), (None, 2)]);
    }

    #[test]
    fn without_any_path_the_program_is_still_told() {
        let rows = rows(vec![share(1, None, 80)]);
        assert_eq!((rows[0].count, rows[0].unsampled), (80, 0));
        assert_eq!(rows[0].process.as_ref().unwrap().comm, "client");
        assert_eq!(functions(&rows[0]), None);
    }
}
