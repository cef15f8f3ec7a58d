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

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
