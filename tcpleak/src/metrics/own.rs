//! How tcpleak itself is doing.

use super::{Kind, Metric, Rows, Unit, gauge, metric};
use crate::{health::Health, report::Report};

/// Version, losses, costs.
pub(super) fn metrics(report: &Report, health: &Health) -> Vec<Metric> {
    let mut build = Rows::new();
    let labels = [
        ("version", report.tcpleak.clone()),
        ("kernel", report.kernel.clone()),
    ];
    build.add(labels.into(), 1.0);
    let totals = &report.totals;
    let counter =
        |name, help, unit, value| metric(name, help, Kind::Counter, unit, Rows::one(value));
    let of = |name, help, unit, value| metric(name, help, Kind::Gauge, unit, Rows::one(value));
    vec![
        gauge("tcpleak_build_info", "Always 1", build),
        counter(
            "tcpleak_records_dropped",
            "Connections and code paths that were lost because a map or a ring was full",
            Unit::Number,
            totals.dropped as f64,
        ),
        counter(
            "tcpleak_paths_unsampled",
            "Connections whose code path was not captured",
            Unit::Number,
            totals.unsampled as f64,
        ),
        counter(
            "tcpleak_programs_skipped",
            "Times the kernel skipped a program because it was already running on that CPU",
            Unit::Number,
            totals.recursion_misses as f64,
        ),
        counter(
            "tcpleak_captures",
            "Code paths that the kernel handed over",
            Unit::Number,
            health.captures as f64,
        ),
        counter(
            "tcpleak_surveys",
            "Surveys that were taken",
            Unit::Number,
            health.surveys as f64,
        ),
        of(
            "tcpleak_survey_cpu_seconds",
            "CPU time that the latest survey took, with the report on it",
            Unit::Seconds,
            health.survey_time.as_secs_f64(),
        ),
        of(
            "tcpleak_last_survey_timestamp_seconds",
            "When the latest survey was taken, in seconds since 1970",
            Unit::Seconds,
            report.taken_at.as_millisecond() as f64 / 1000.0,
        ),
        counter(
            "tcpleak_user_cpu_seconds",
            "CPU time of tcpleak in user space, surveys and the reader of code included",
            Unit::Seconds,
            health.user_time.as_secs_f64(),
        ),
        counter(
            "tcpleak_kernel_cpu_seconds",
            "CPU time of the kernel programs in other processes, estimated from those runs that were timed",
            Unit::Seconds,
            health.kernel_time.as_secs_f64(),
        ),
        of(
            "tcpleak_resident_memory_bytes",
            "Resident memory of tcpleak and of its reader of code, without pages of files",
            Unit::Bytes,
            health.resident_bytes as f64,
        ),
    ]
}
