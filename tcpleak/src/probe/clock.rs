//! The clocks that surveys and costs are measured by.

use std::time::Duration;

use rustix::time::ClockId;

/// Nanoseconds of the kernel's monotonic clock, which the programs use too.
pub fn now() -> Duration {
    read(ClockId::Monotonic)
}

/// The time on a clock.
pub fn read(clock: ClockId) -> Duration {
    duration(rustix::time::clock_gettime(clock))
}

/// The kernel's tick is the resolution of its coarse clocks.
pub fn tick() -> Duration {
    duration(rustix::time::clock_getres(ClockId::MonotonicCoarse))
}

/// How many whole ticks fit into a time, at least one and no more than TCP can count.
pub fn whole_ticks(time: Duration, tick: Duration) -> u32 {
    let ticks = time.as_nanos() / tick.as_nanos().max(1);
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_so_many_ticks() {
        let tick = Duration::from_millis(4);
        assert_eq!(whole_ticks(Duration::from_secs(10), tick), 2_500);
        assert_eq!(whole_ticks(Duration::from_millis(7), tick), 1);
        assert_eq!(whole_ticks(Duration::ZERO, tick), 1);
        assert_eq!(whole_ticks(Duration::MAX, tick), u32::MAX);
        assert_eq!(
            whole_ticks(Duration::from_secs(1), Duration::ZERO),
            1_000_000_000
        );
    }
}
