//! Which leaks are new: each is told once.
//!
//! Pure. A leak is known by its program, its control group, its endpoint and the function to look at first. Its
//! verdict, its number of connections and what is known of its code change as it goes on.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    num::NonZeroUsize,
};

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;

use crate::report::{Group, Qualifier, Report};

/// Most leaks that are remembered.
const LEAKS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Most connections of told leaks that are remembered.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// A leak that was not seen for so long is new when it comes back: whoever was told of it has seen it go.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How long a leak waits for its code path: reading a large program takes a while.
const PATH_PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// Remembers what was told.
#[derive(Debug)]
pub struct News {
    /// When each leak was last seen.
    leaks: LruCache<u64, Timestamp>,
    /// Connections of these: a leak by another name is the same one as long as it has one of them.
    connections: LruCache<u64, ()>,
    /// Leaks of the latest report whose code path may still be read, and when each was first seen.
    waiting: HashMap<u64, Timestamp>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            leaks: LruCache::new(LEAKS),
            connections: LruCache::new(CONNECTIONS),
            waiting: HashMap::new(),
        }
    }
}

impl News {
    /// The leaks of a report that were not told before, in the order of the report; from now on they are.
    /// Reports come in the order in which they were taken.
    pub fn take<'a>(&mut self, report: &'a Report) -> Vec<&'a Group> {
        let waited = mem::take(&mut self.waiting);
        let leaks = report.groups.iter().filter(|group| group.leak);
        leaks
            .filter(|group| self.is_new(group, report.taken_at, &waited))
            .collect()
    }

    fn is_new(&mut self, group: &Group, now: Timestamp, waited: &HashMap<u64, Timestamp>) -> bool {
        let name = name(group);
        let connections = connections(group);
        let seen = self.leaks.get(&name).copied();
        let is_known = seen.is_some_and(|seen| now.duration_since(seen) < FORGOTTEN_AFTER)
            || connections
                .iter()
                .any(|connection| self.connections.contains(connection));
        if !is_known && may_get_a_path(group) {
            let since = waited.get(&name).copied().unwrap_or(now);
            if now.duration_since(since) < PATH_PATIENCE {
                self.waiting.insert(name, since);
                return false;
            }
        }
        self.leaks.put(name, now);
        for connection in connections {
            self.connections.put(connection, ());
        }
        !is_known
    }
}

/// Whether the code path may be missing only because it is still being read. Until it is, it counts as not
/// sampled too.
fn may_get_a_path(group: &Group) -> bool {
    let never = [
        Qualifier::BeforeTracer,
        Qualifier::NotTraced,
        Qualifier::ProcessEnded,
    ];
    group.origin.is_none() && !never.iter().any(|never| group.qualifiers.contains(never))
}

/// What a leak is known by.
fn name(group: &Group) -> u64 {
    let process = &group.process;
    let title = group.title.as_ref();
    hash((
        process.exe.as_ref().unwrap_or(&process.comm),
        &process.cgroup,
        &group.endpoint,
        title.map(|title| (&title.function, &title.file)),
    ))
}

/// The connections that are listed, the oldest of the group.
fn connections(group: &Group) -> Vec<u64> {
    let netns = group.process.netns;
    let connections = group.connections.iter();
    connections
        .map(|connection| {
            hash((
                netns,
                &connection.local,
                &connection.remote,
                connection.inode,
            ))
        })
        .collect()
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::samples::{dead_fd, eof_consumed, eof_unread, own, path, report, titled},
        report::{PathKind, Verdict},
    };

    /// What is told of each of the reports, a minute after the other: the verdicts.
    fn told(reports: Vec<Vec<Group>>) -> Vec<Vec<Verdict>> {
        told_every(SignedDuration::from_mins(1), reports)
    }

    fn told_every(pause: SignedDuration, reports: Vec<Vec<Group>>) -> Vec<Vec<Verdict>> {
        let mut news = News::default();
        let mut now = report(Vec::new()).taken_at;
        let reports = reports.into_iter().map(|groups| {
            now += pause;
            let mut report = report(groups);
            report.taken_at = now;
            let told = news.take(&report).into_iter();
            told.map(|group| group.verdict).collect()
        });
        reports.collect()
    }

    fn inherited() -> Group {
        Group {
            verdict: Verdict::Inherited,
            ..eof_unread()
        }
    }

    fn without_path() -> Group {
        titled(Group {
            origin: None,
            ..eof_unread()
        })
    }

    /// The same program, with other connections, which another function opened.
    fn elsewhere() -> Group {
        let origin = path(
            PathKind::Connect,
            vec![own("other", "/srv/crawler/other.py", 7)],
        );
        other_connections(titled(Group {
            origin: Some(origin),
            ..eof_unread()
        }))
    }

    fn other_connections(mut group: Group) -> Group {
        for connection in &mut group.connections {
            connection.inode += 1_000;
        }
        group
    }

    const NOTHING: [Verdict; 0] = [];

    #[test]
    fn a_leak_is_told_once_however_it_goes_on() {
        let more = Group {
            count: 400,
            ..eof_unread()
        };
        let told = told(vec![
            vec![eof_unread()],
            vec![more],
            vec![inherited()],
            vec![eof_unread(), inherited()],
        ]);
        assert_eq!(told[0], [Verdict::EofUnread]);
        assert_eq!(told[1..], [NOTHING; 3]);
    }

    #[test]
    fn another_function_endpoint_or_control_group_is_another_leak() {
        let mut endpoint = other_connections(other_connections(inherited()));
        endpoint.endpoint = "10.0.0.6:80".into();
        let mut cgroup = dead_fd();
        cgroup.connections.clear();
        cgroup.process.cgroup = Some("/system.slice/other.service".into());
        let told = told(vec![
            vec![eof_unread()],
            vec![eof_unread(), elsewhere(), endpoint, cgroup],
        ]);
        assert_eq!(
            told[1],
            [Verdict::EofUnread, Verdict::Inherited, Verdict::DeadFd]
        );
    }

    #[test]
    fn what_is_no_leak_is_not_told_until_it_is_one() {
        let young = Group {
            leak: false,
            ..eof_unread()
        };
        let told = told(vec![vec![young], vec![eof_unread()]]);
        assert_eq!(told, [vec![], vec![Verdict::EofUnread]]);
    }

    #[test]
    fn a_leak_whose_path_is_being_read_is_told_with_it() {
        let told = told(vec![vec![without_path()], vec![eof_unread()]]);
        assert_eq!(told, [vec![], vec![Verdict::EofUnread]]);
    }

    #[test]
    fn a_path_that_is_not_there_yet_is_waited_for_although_it_counts_as_not_sampled() {
        let mut early = without_path();
        early.qualifiers = vec![Qualifier::NotSampled];
        let told = told(vec![vec![early], vec![eof_unread()]]);
        assert_eq!(told, [vec![], vec![Verdict::EofUnread]]);
    }

    #[test]
    fn a_path_is_not_waited_for_without_end_and_tells_nothing_new() {
        let told = told(vec![
            vec![without_path()],
            vec![without_path()],
            vec![eof_unread()],
            vec![other_connections(eof_unread())],
        ]);
        assert_eq!(told, [vec![], vec![Verdict::EofUnread], vec![], vec![]]);
    }

    #[test]
    fn a_path_is_waited_for_from_report_to_report() {
        let second = SignedDuration::from_secs(1);
        let told = told_every(second, vec![vec![without_path()]; 12]);
        assert_eq!(told[..10], [NOTHING; 10]);
        assert_eq!(told[10..], [vec![Verdict::EofUnread], vec![]]);
    }

    #[test]
    fn a_path_that_never_comes_is_not_waited_for() {
        for qualifier in [
            Qualifier::BeforeTracer,
            Qualifier::NotTraced,
            Qualifier::ProcessEnded,
        ] {
            let mut group = eof_consumed();
            group.qualifiers = vec![qualifier];
            assert_eq!(told(vec![vec![group]]), [[Verdict::EofConsumed]]);
        }
    }

    #[test]
    fn new_connections_beside_those_that_are_older_than_tcpleak_are_another_leak() {
        let mut older = without_path();
        older.qualifiers = vec![Qualifier::BeforeTracer];
        let told = told(vec![
            vec![older.clone()],
            vec![older, other_connections(inherited())],
        ]);
        assert_eq!(told, [[Verdict::EofUnread], [Verdict::Inherited]]);
    }

    #[test]
    fn the_end_of_a_process_is_not_told_of_a_leak_that_was() {
        let mut ended = eof_unread();
        ended.qualifiers.push(Qualifier::ProcessEnded);
        let told_before = told(vec![vec![eof_unread()], vec![ended.clone()]]);
        assert_eq!(told_before, [vec![Verdict::EofUnread], vec![]]);
        assert_eq!(told(vec![vec![ended]]), [[Verdict::EofUnread]]);
    }

    #[test]
    fn a_leak_that_comes_back_is_new_when_it_was_gone_for_long() {
        let reports = || {
            vec![
                vec![eof_unread()],
                vec![],
                vec![other_connections(eof_unread())],
            ]
        };
        let quick = told_every(SignedDuration::from_mins(10), reports());
        assert_eq!(quick, [vec![Verdict::EofUnread], vec![], vec![]]);
        let slow = told_every(SignedDuration::from_mins(40), reports());
        assert_eq!(
            slow,
            [vec![Verdict::EofUnread], vec![], vec![Verdict::EofUnread]]
        );
    }

    #[test]
    fn a_leak_that_lasts_is_not_forgotten() {
        let reports = vec![vec![eof_unread()]; 10];
        let told = told_every(SignedDuration::from_mins(40), reports);
        assert_eq!(told[0], [Verdict::EofUnread]);
        assert_eq!(told[1..], [NOTHING; 9]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut news = News::default();
        for round in 0..5_000_u64 {
            let mut group = eof_unread();
            group.endpoint = format!("10.0.0.5:{round}");
            for connection in &mut group.connections {
                connection.inode += 100 * round;
            }
            assert_eq!(news.take(&report(vec![group])).len(), 1);
        }
        assert_eq!(news.leaks.len(), LEAKS.get());
        assert_eq!(news.connections.len(), CONNECTIONS.get());
    }
}
