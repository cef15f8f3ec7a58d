//! What is different between two reports.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
};

use crate::{
    report::{Descriptors, Frame, Group, PortHeadroom, Qualifier, Report, Verdict},
    title::own_functions_of,
};

/// One difference.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The group was not there, or was no leak yet, or its code path was not known.
    New(&'a Group),
    /// The group has another number of connections.
    Count {
        /// Connections before.
        before: u64,
        /// The group now.
        group: &'a Group,
    },
    /// A process that leaks has come close to its limit of descriptors.
    RunsOut(&'a Descriptors),
    /// The processes of the group have ended.
    Ended(&'a Group),
    /// The group is not in the report any more.
    Cleared(&'a Group),
    /// The ports to a destination have begun to run out.
    PortsRunOut(&'a PortHeadroom),
}

/// Compares two reports: first the groups of `current`, then the groups that only `previous` has.
/// Ages and everything else that changes by itself do not count.
pub fn changes<'a>(previous: &'a Report, current: &'a Report) -> Vec<Change<'a>> {
    let mut before: HashMap<Identity<'a>, VecDeque<&'a Group>> = HashMap::new();
    for group in &previous.groups {
        before
            .entry(Identity::of(group))
            .or_default()
            .push_back(group);
    }
    let mut take = |identity: &Identity<'a>| before.get_mut(identity).and_then(VecDeque::pop_front);
    let mut changes = Vec::new();
    let mut receiving = HashSet::new();
    // The groups of ended processes come first: they are the ones that were there before, when the
    // same program was started again and leaks again.
    let (ended, running): (Vec<&Group>, Vec<&Group>) =
        current.groups.iter().partition(|group| has_ended(group));
    for group in ended.into_iter().chain(running) {
        let identity = Identity::of(group);
        let place = identity.place;
        if let Some(old) = take(&identity) {
            if group.count > old.count {
                receiving.insert(place);
            }
            if group.count != old.count {
                changes.push(Change::Count {
                    before: old.count,
                    group,
                });
            }
        } else if has_ended(group) && take(&identity.while_running()).is_some() {
            changes.push(Change::Ended(group));
        } else {
            receiving.insert(place);
            changes.push(Change::New(group));
        }
    }
    let running_out = running_out(previous, current, &changes);
    changes.extend(running_out.into_iter().map(Change::RunsOut));
    // Connections that became a leak, or whose code path became known, moved to another group of
    // the same place. A group that they left has not been cleared.
    let cleared = previous.groups.iter().filter(|group| {
        let identity = Identity::of(group);
        let left = before.get(&identity).into_iter().flatten();
        left.copied().any(|old| std::ptr::eq(old, *group))
            && !receiving.contains(&identity.place)
            && !has_ended(group)
    });
    changes.extend(cleared.map(Change::Cleared));
    let run_out = |report: &'a Report| report.ports.iter().filter(|ports| ports.close_to_limit);
    let is_new = |ports: &&PortHeadroom| {
        let same =
            |before: &PortHeadroom| before.netns == ports.netns && before.place() == ports.place();
        !run_out(previous).any(same)
    };
    changes.extend(run_out(current).filter(is_new).map(Change::PortsRunOut));
    changes
}

/// The processes of leaks that are close to their limit of descriptors now, and were not before. A group
/// that is told in full tells it itself.
fn running_out<'a>(
    previous: &Report,
    current: &'a Report,
    changes: &[Change<'a>],
) -> Vec<&'a Descriptors> {
    let was_close: HashSet<u32> = close(previous).map(|process| process.pid).collect();
    let told = |pid: u32| {
        changes
            .iter()
            .any(|change| matches!(change, Change::New(group) if group.pids.contains(&pid)))
    };
    close(current)
        .filter(|process| !was_close.contains(&process.pid) && !told(process.pid))
        .collect()
}

fn close(report: &Report) -> impl Iterator<Item = &Descriptors> {
    report.processes.iter().filter(|process| {
        let leaks = |group: &Group| group.leak && group.pids.contains(&process.pid);
        process.close_to_limit && report.groups.iter().any(leaks)
    })
}

fn has_ended(group: &Group) -> bool {
    group.qualifiers.contains(&Qualifier::ProcessEnded)
}

/// What makes two groups of two reports the same one. Two groups of one report may share it, when
/// only something that is not shown tells them apart; their order does then.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity<'a> {
    place: Place<'a>,
    leak: bool,
    origin: Option<&'a [Frame]>,
    /// The program's functions on the paths that last read and wrote.
    last_use: [Vec<Cow<'a, str>>; 2],
    /// The processes, once they have ended: nothing changes then, and the program may run again.
    ended: Option<&'a [u32]>,
}

/// Where the connections of a group are, and in which condition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'a> {
    program: &'a str,
    cgroup: Option<&'a str>,
    verdict: Verdict,
    netns: u32,
    endpoint: &'a str,
}

impl<'a> Identity<'a> {
    fn of(group: &'a Group) -> Self {
        let process = &group.process;
        Self {
            place: Place {
                program: process.exe.as_ref().unwrap_or(&process.comm),
                cgroup: process.cgroup.as_deref(),
                verdict: group.verdict,
                netns: process.netns,
                endpoint: &group.endpoint,
            },
            leak: group.leak,
            origin: group.origin.as_ref().map(|path| path.frames.as_slice()),
            last_use: last_use(group),
            ended: has_ended(group).then_some(&group.pids),
        }
    }

    fn while_running(self) -> Self {
        Self {
            ended: None,
            ..self
        }
    }
}

fn last_use(group: &Group) -> [Vec<Cow<'_, str>>; 2] {
    let last_use = group.last_use.as_ref();
    let paths = [
        last_use.and_then(|last| last.read.as_ref()),
        last_use.and_then(|last| last.write.as_ref()),
    ];
    paths.map(|path| path.map(own_functions_of).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{
        dead_fd, descriptors, eof_unread, handler, own, path, ports_run_out, report,
    };
    use crate::report::PathKind;

    /// The changes in one word each, with the count.
    fn told(previous: Vec<Group>, current: Vec<Group>) -> Vec<String> {
        told_of(&report(previous), &report(current))
    }

    fn told_of(previous: &Report, current: &Report) -> Vec<String> {
        changes(previous, current)
            .iter()
            .map(|change| match change {
                Change::New(group) => format!("new {} {}", group.verdict, group.count),
                Change::Count { before, group } => {
                    format!("count {} {before} to {}", group.verdict, group.count)
                }
                Change::RunsOut(process) => format!("runs out {}", process.pid),
                Change::Ended(group) => format!("ended {} {}", group.verdict, group.count),
                Change::Cleared(group) => format!("cleared {} {}", group.verdict, group.count),
                Change::PortsRunOut(ports) => format!("ports {}", ports.place()),
            })
            .collect()
    }

    fn counting(count: u64) -> Group {
        Group {
            count,
            ..eof_unread()
        }
    }

    fn young(count: u64) -> Group {
        Group {
            leak: false,
            ..counting(count)
        }
    }

    fn ended(count: u64) -> Group {
        let mut group = counting(count);
        group.qualifiers.push(Qualifier::ProcessEnded);
        group
    }

    #[test]
    fn time_alone_changes_nothing() {
        let older = Group {
            oldest_s: 999.0,
            growth_per_min: Some(1.0),
            ..eof_unread()
        };
        assert!(told(vec![eof_unread(), dead_fd()], vec![dead_fd(), older]).is_empty());
    }

    #[test]
    fn the_time_since_the_last_use_changes_nothing() {
        let mut later = handler();
        let last_use = later.last_use.as_mut().unwrap();
        last_use.ago_s += 60.0;
        last_use.reads_since += 1;
        // Another line of the same function.
        last_use.read.as_mut().unwrap().frames[5].line = Some(59);
        assert!(told(vec![handler()], vec![later]).is_empty());
    }

    #[test]
    fn two_handlers_behind_one_accept_loop_are_two_groups() {
        let mut other = handler();
        let last_use = other.last_use.as_mut().unwrap();
        last_use.read.as_mut().unwrap().frames[5].function = Some("api::login::handle".into());
        assert_eq!(
            told(vec![handler(), other.clone()], vec![other]),
            ["cleared eof-consumed 400"]
        );
    }

    #[test]
    fn a_process_that_comes_close_to_its_limit_is_told_once() {
        let with = |groups: Vec<Group>, close_to_limit| {
            let mut report = report(groups);
            report.processes = vec![Descriptors {
                close_to_limit,
                ..descriptors(4242)
            }];
            report
        };
        let far = with(vec![eof_unread()], false);
        let close = with(vec![eof_unread()], true);
        assert_eq!(told_of(&far, &close), ["runs out 4242"]);
        assert!(told_of(&close, &close).is_empty());
        assert!(told_of(&close, &far).is_empty());
        // Nothing of a leak is shown that it would be about.
        assert!(told_of(&with(vec![], false), &with(vec![], true)).is_empty());
        // The new group says it itself.
        assert_eq!(told_of(&with(vec![], false), &close), ["new eof-unread 20"]);
        assert!(told_of(&close, &close).is_empty());
    }

    #[test]
    fn a_new_group_is_told() {
        assert_eq!(
            told(vec![dead_fd()], vec![counting(3), dead_fd()]),
            ["new eof-unread 3"]
        );
    }

    #[test]
    fn a_changed_count_is_told_with_the_one_before() {
        assert_eq!(
            told(vec![counting(20)], vec![counting(25)]),
            ["count eof-unread 20 to 25"]
        );
        assert_eq!(
            told(vec![counting(20)], vec![counting(1)]),
            ["count eof-unread 20 to 1"]
        );
    }

    #[test]
    fn a_group_that_became_a_leak_is_new_and_not_cleared() {
        assert_eq!(
            told(vec![young(2)], vec![counting(2)]),
            ["new eof-unread 2"]
        );
    }

    #[test]
    fn connections_that_join_a_known_leak_are_not_cleared() {
        assert_eq!(
            told(vec![counting(5), young(1)], vec![counting(6)]),
            ["count eof-unread 5 to 6"]
        );
    }

    #[test]
    fn a_group_whose_code_path_became_known_is_new_and_not_cleared() {
        let unresolved = Group {
            origin: None,
            ..eof_unread()
        };
        assert_eq!(
            told(vec![unresolved], vec![eof_unread()]),
            ["new eof-unread 20"]
        );
    }

    #[test]
    fn a_group_that_is_gone_is_cleared_once() {
        assert_eq!(
            told(vec![counting(5), dead_fd()], vec![dead_fd()]),
            ["cleared eof-unread 5"]
        );
        assert!(told(vec![dead_fd()], vec![dead_fd()]).is_empty());
    }

    #[test]
    fn two_code_paths_to_one_endpoint_are_two_groups() {
        let other = Group {
            origin: Some(path(PathKind::Connect, vec![own("other", "other.rs", 1)])),
            ..counting(7)
        };
        assert_eq!(
            told(vec![counting(5), other.clone()], vec![other]),
            ["cleared eof-unread 5"]
        );
    }

    #[test]
    fn two_groups_that_look_the_same_are_told_apart_by_their_order() {
        assert_eq!(
            told(
                vec![counting(5), counting(3)],
                vec![counting(5), counting(4)]
            ),
            ["count eof-unread 3 to 4"]
        );
        assert_eq!(
            told(vec![counting(5), counting(3)], vec![counting(5)]),
            ["cleared eof-unread 3"]
        );
    }

    #[test]
    fn a_leak_that_ended_with_its_process_is_told_as_ended() {
        assert_eq!(
            told(vec![counting(20)], vec![ended(20)]),
            ["ended eof-unread 20"]
        );
        assert!(told(vec![ended(20)], vec![ended(20)]).is_empty());
        assert!(told(vec![ended(20)], vec![]).is_empty());
    }

    #[test]
    fn a_program_that_leaks_again_after_a_restart_is_new() {
        assert_eq!(
            told(vec![counting(20)], vec![counting(30), ended(20)]),
            ["ended eof-unread 20", "new eof-unread 30"]
        );
    }

    #[test]
    fn that_ports_run_out_is_told_once() {
        let (before, run_out) = (report(Vec::new()), ports_run_out());
        let told = changes(&before, &run_out);
        assert!(matches!(told[..], [Change::PortsRunOut(_)]), "{told:?}");
        assert!(changes(&run_out, &run_out).is_empty());
        assert!(changes(&run_out, &before).is_empty());
    }

    #[test]
    fn a_leak_that_began_and_ended_between_two_reports_is_new() {
        assert_eq!(told(vec![], vec![ended(4)]), ["new eof-unread 4"]);
    }
}
