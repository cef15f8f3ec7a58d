//! Siblings: the connections of one process with the same origin and endpoint, and how many of
//! them have lost their peer over time.
//!
//! An idle connection whose peer has gone looks the same in a pool and in a leak. What tells them
//! apart is the family: a pool uses its connections again and again, finds out which have lost their
//! peer and closes those, and does not grow. That siblings are used once and closed proves no pool:
//! beside the path that forgets a connection there is, as a rule, one that does not.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use crate::survey::ProcessId;

/// A pool that was active this long ago is in use.
const ACTIVE: Duration = Duration::from_secs(60);

/// Samples kept of a family's count, over the whole watch. When they are full every second one
/// goes: the memory stays bounded and the first sample stays.
const SAMPLES: usize = 64;

/// What siblings have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FamilyKey {
    /// The process that holds them, else the one that opened them.
    pub process: Option<ProcessId>,
    /// The remote end of active connections, the listening end of passive ones.
    pub endpoint: SocketAddr,
    /// Whether they came in through a listener.
    pub passive: bool,
    /// Fingerprint of the code path that opened them.
    pub origin: Option<u64>,
}

/// What siblings did.
#[derive(Debug, Default)]
pub struct Family {
    /// Times a survey found one of them used again.
    pub reused: u64,
    /// How many of them were closed after they had been idle without a peer.
    pub evicted: u64,
    active_at: Option<Duration>,
    gone: u64,
    counts: Vec<u64>,
    stride: u64,
    since_sample: u64,
}

/// All families.
#[derive(Debug, Default)]
pub struct Families(HashMap<FamilyKey, Family>);

impl Families {
    /// The family of a key.
    pub fn get(&self, key: &FamilyKey) -> Option<&Family> {
        self.0.get(key)
    }

    /// A sibling was used again.
    pub fn reused(&mut self, key: &FamilyKey, now: Duration) {
        let family = self.0.entry(key.clone()).or_default();
        family.reused += 1;
        family.active_at = Some(now);
    }

    /// A sibling was closed that had been idle without a peer.
    pub fn evicted(&mut self, key: &FamilyKey, now: Duration) {
        if let Some(family) = self.0.get_mut(key) {
            family.evicted += 1;
            family.active_at = Some(now);
        }
    }

    /// One more sibling of the running survey has lost its peer.
    pub fn count_gone(&mut self, key: &FamilyKey) {
        self.0.entry(key.clone()).or_default().gone += 1;
    }

    /// Ends a survey: takes the samples, and forgets families that have ended.
    pub fn close_survey(&mut self, now: Duration) {
        self.0.retain(|_, family| {
            let present = family.gone > 0 || family.is_active(now);
            family.sample();
            present
        });
    }
}

impl Family {
    /// Whether siblings were used again or evicted lately.
    pub fn is_active(&self, now: Duration) -> bool {
        self.active_at
            .is_some_and(|at| now.saturating_sub(at) <= ACTIVE)
    }

    /// Whether clearly more siblings have lost their peer than in the first half of the watch: by two
    /// at least, and by a quarter, because a pool is now and then a little fuller than ever before.
    /// Needs two surveys; before that nothing is known to grow.
    pub fn grows(&self) -> bool {
        let (first, second) = self.counts.split_at(self.counts.len() / 2);
        match (first.iter().max(), second.iter().max()) {
            (Some(first), Some(second)) => *second > first + (first / 4).max(1),
            _ => false,
        }
    }

    fn sample(&mut self) {
        let count = std::mem::take(&mut self.gone);
        self.since_sample += 1;
        if self.since_sample < self.stride.max(1) {
            return;
        }
        self.since_sample = 0;
        self.counts.push(count);
        if self.counts.len() == SAMPLES {
            let mut keep = false;
            self.counts.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.max(1) * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(counts: impl IntoIterator<Item = u64>) -> Family {
        let mut family = Family::default();
        for count in counts {
            family.gone = count;
            family.sample();
        }
        family
    }

    #[test]
    fn a_count_that_stays_does_not_grow() {
        assert!(!family([5; 200]).grows());
        assert!(!family([5, 3, 5, 4, 5, 2]).grows());
    }

    #[test]
    fn a_pool_that_is_a_little_fuller_than_before_does_not_grow() {
        assert!(!family([2, 2, 2, 3, 3, 3]).grows());
    }

    #[test]
    fn a_slow_rise_over_a_long_watch_is_growth() {
        assert!(family((0..1000).map(|survey| 5 + survey / 100)).grows());
    }

    #[test]
    fn the_history_is_bounded_and_keeps_its_beginning() {
        let family = family((0..100_000).map(|count| count / 7));
        assert!(family.counts.len() <= SAMPLES);
        assert_eq!(family.counts[0], 0);
    }
}
