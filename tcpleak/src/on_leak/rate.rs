//! How often the command is run.
//!
//! Pure.

use std::time::{Duration, Instant};

/// Runs that may follow each other at once.
const AT_ONCE: u32 = 10;
/// Time between two runs after these.
const PAUSE: Duration = Duration::from_secs(10);

/// Allows so many runs at once, and one in a while after these.
#[derive(Debug, Default)]
pub struct Rate {
    /// When as many as ever may follow each other again.
    rested: Option<Instant>,
}

impl Rate {
    /// How long to wait until the next run, which this counts.
    pub fn next(&mut self, now: Instant) -> Duration {
        let rested = self.rested.map_or(now, |rested| rested.max(now)) + PAUSE;
        self.rested = Some(rested);
        rested.duration_since(now).saturating_sub(AT_ONCE * PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_run_at_once_and_then_one_in_ten_seconds() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(rate.next(now), Duration::ZERO);
        }
        assert_eq!(rate.next(now), PAUSE);
        assert_eq!(rate.next(now + PAUSE), PAUSE);
        assert_eq!(rate.next(now + 3 * PAUSE), Duration::ZERO);
    }

    #[test]
    fn after_a_rest_ten_may_run_again_and_no_more() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        rate.next(now);
        let later = now + 1_000 * PAUSE;
        let waits: Vec<Duration> = (0..=AT_ONCE).map(|_| rate.next(later)).collect();
        assert_eq!(waits[..10], [Duration::ZERO; 10]);
        assert_eq!(waits[10], PAUSE);
    }
}
