//! What the kernel side lost, and the sweep of the records that a loss left behind.

use std::{
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use tcpleak_ebpf::{Connection, Cost, Counters, cost_slot, tcp_state};

use crate::{governor::Effort, survey::Losses};

/// What a group of programs has done on all CPUs.
pub fn effort(ebpf: &Ebpf, slot: Slot) -> Effort {
    let costs = ebpf
        .map("COSTS")
        .and_then(|map| PerCpuArray::<&MapData, Cost>::try_from(map).ok());
    let slot = match slot {
        Slot::Lifecycle => cost_slot::LIFECYCLE,
        Slot::Use => cost_slot::USE,
    };
    let values = costs.and_then(|costs| costs.get(&slot, 0).ok());
    let mut effort = Effort::default();
    for cost in values.iter().flat_map(|values| values.iter()) {
        effort.runs += cost.runs;
        effort.timed_runs += cost.timed_runs;
        effort.timed += Duration::from_nanos(cost.timed_ns);
        effort.captures += cost.captures;
        effort.capturing += Duration::from_nanos(cost.capture_ns);
    }
    effort
}

/// A group of programs.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    /// State changes, ends and accept().
    Lifecycle,
    /// Reads and writes.
    Use,
}

/// What the programs have lost so far.
pub fn read(ebpf: &Ebpf) -> Losses {
    let counters = counters(ebpf);
    Losses {
        connections_dropped: sum(&counters, |counters| counters.connections_dropped),
        paths_dropped: sum(&counters, |counters| counters.paths_dropped),
        paths_unreadable: sum(&counters, |counters| counters.paths_unreadable),
        origins_unsampled: sum(&counters, |counters| counters.origins_unsampled),
        uses_unsampled: sum(&counters, |counters| counters.uses_unsampled),
        recursion_misses: recursion_misses(ebpf),
        stale_records: sum(&counters, |counters| counters.stale_records),
        processes_dropped: sum(&counters, |counters| counters.processes_dropped),
        ends_dropped: sum(&counters, |counters| counters.ends_dropped),
    }
}

/// Closes that there was no room to count.
pub fn closes_dropped(ebpf: &Ebpf) -> u64 {
    sum(&counters(ebpf), |counters| counters.closes_dropped)
}

/// Sockets that the iterator has visited so far, by TCP state.
pub fn states(ebpf: &Ebpf) -> [u64; tcp_state::SLOTS] {
    let counters = counters(ebpf);
    std::array::from_fn(|state| sum(&counters, |counters| counters.states[state]))
}

/// What each CPU counted.
fn counters(ebpf: &Ebpf) -> Vec<Counters> {
    ebpf.map("COUNTERS")
        .and_then(|map| PerCpuArray::<&MapData, Counters>::try_from(map).ok())
        .and_then(|counters| counters.get(&0, 0).ok())
        .map_or_else(Vec::new, |values| values.to_vec())
}

fn sum(counters: &[Counters], counter: impl Fn(&Counters) -> u64) -> u64 {
    counters.iter().map(counter).sum()
}

/// The kernel counts a program's missed runs in the information about its descriptor.
fn recursion_misses(ebpf: &Ebpf) -> u64 {
    let misses = |fd: i32| -> Option<u64> {
        let information = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let line = information
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"))?;
        line.trim().parse().ok()
    };
    ebpf.programs()
        .filter_map(|(_, program)| program.fd().ok())
        .filter_map(|fd| misses(fd.as_fd().as_raw_fd()))
        .sum()
}

/// Removes the records of sockets whose end was missed.
///
/// Ends are missed only when the kernel skips a program, so there is nothing to sweep until it has.
/// Then two surveys mark every record that they find a socket for: one may miss a socket that is in
/// flight between two processes. A record without the mark, and older than both, has no socket.
///
/// A sweep reads all records, each in two system calls on the map, and the kernel skips programs of perf events
/// while such a call is under way. A record that is left behind only takes room: so there is time.
#[derive(Default)]
pub struct Sweep {
    swept_losses: u64,
    round: u32,
    /// When the latest one began, or the first survey.
    began_at: Option<Duration>,
    stage: Stage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    FirstSurvey,
    SecondSurvey,
}

/// Least time between two sweeps.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same after so many losses that records might fill their room: a sixteenth of it.
const LESS_PATIENCE: Duration = Duration::from_secs(60);
const MANY: u64 = 262_144 / 16;

impl Sweep {
    /// Before a survey: lets it mark, when there is something to sweep.
    pub fn begin(&mut self, ebpf: &mut Ebpf, losses: &Losses, now: Duration) {
        let lost = losses.recursion_misses + losses.connections_dropped;
        let stage = self.stage;
        self.stage = match stage {
            Stage::FirstSurvey => Stage::SecondSurvey,
            _ if self.is_due(lost, now) => {
                self.swept_losses = lost;
                self.began_at = Some(now);
                self.round = self.round.wrapping_add(1).max(1);
                Stage::FirstSurvey
            }
            _ => Stage::Idle,
        };
        if self.stage != Stage::Idle && set_mark(ebpf, self.round).is_none() {
            self.stage = Stage::Idle;
        }
    }

    fn is_due(&mut self, lost: u64, now: Duration) -> bool {
        let began_at = *self.began_at.get_or_insert(now);
        let patience = match lost.saturating_sub(self.swept_losses) {
            0 => return false,
            MANY.. => LESS_PATIENCE,
            _ => PATIENCE,
        };
        now.saturating_sub(began_at) >= patience
    }

    /// After the survey: the second one removes what has no mark.
    pub fn end(&mut self, ebpf: &mut Ebpf) {
        if self.stage == Stage::Idle {
            return;
        }
        // An unmarked record would be removed; a mark too many does no harm.
        let _ = set_mark(ebpf, 0);
        if self.stage == Stage::SecondSurvey {
            self.remove_unmarked(ebpf);
        }
    }

    fn remove_unmarked(&self, ebpf: &mut Ebpf) {
        let Some(mut records) = ebpf
            .map_mut("CONNECTIONS")
            .and_then(|map| HashMap::<&mut MapData, u64, Connection>::try_from(map).ok())
        else {
            return;
        };
        let began_at = self.began_at.unwrap_or_default().as_nanos();
        let stale: Vec<u64> = records
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, record)| {
                record.survey != self.round && u128::from(record.opened_at) < began_at
            })
            .map(|(sock, _)| sock)
            .collect();
        for sock in stale {
            // Its own end may have come in between.
            let _ = records.remove(&sock);
        }
    }
}

fn set_mark(ebpf: &mut Ebpf, mark: u32) -> Option<()> {
    let mut map: Array<&mut MapData, u32> = ebpf.map_mut("SURVEY_MARK")?.try_into().ok()?;
    map.set(0, mark, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(86_400);

    fn watched() -> Sweep {
        let mut sweep = Sweep::default();
        assert!(!sweep.is_due(0, START));
        sweep
    }

    #[test]
    fn nothing_is_swept_while_nothing_is_lost() {
        assert!(!watched().is_due(0, 10 * START));
    }

    #[test]
    fn a_few_losses_wait() {
        let mut sweep = watched();
        assert!(!sweep.is_due(1, START + PATIENCE - LESS_PATIENCE));
        assert!(sweep.is_due(1, START + PATIENCE));
    }

    #[test]
    fn many_losses_wait_for_less_long() {
        let mut sweep = watched();
        assert!(!sweep.is_due(MANY, START));
        assert!(!sweep.is_due(MANY - 1, START + LESS_PATIENCE));
        assert!(sweep.is_due(MANY, START + LESS_PATIENCE));
    }

    #[test]
    fn what_was_swept_counts_no_more() {
        let mut sweep = watched();
        sweep.swept_losses = MANY;
        assert!(!sweep.is_due(MANY, START + PATIENCE));
        assert!(!sweep.is_due(MANY + 1, START + LESS_PATIENCE));
        assert!(sweep.is_due(2 * MANY, START + LESS_PATIENCE));
    }
}
