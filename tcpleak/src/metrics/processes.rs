//! What is measured of programs: their leaks, what is half dead, their descriptors.

use super::{Kind, Labels, Metric, Rows, Unit, gauge, metric};
use crate::report::{Group, Process, Report};

/// Leaks, half-dead connections and descriptors, by program.
pub(super) fn metrics(report: &Report) -> Vec<Metric> {
    let (mut leaked, mut half_dead) = (Rows::new(), Rows::new());
    let (mut oldest, mut growth) = (Rows::most(), Rows::new());
    for group in report.groups.iter().filter(|group| !has_ended(group)) {
        if group.leak {
            leaked.add(labels(group), group.count as f64);
            oldest.add(labels(group), group.oldest_s);
            if let Some(per_minute) = group.growth_per_min {
                growth.add(labels(group), per_minute);
            }
        } else if group.verdict.is_notable() {
            let mut labels = owner(&group.process);
            labels.insert("verdict", group.verdict.word().into());
            half_dead.add(labels, group.count as f64);
        }
    }
    let (mut used, mut run_out) = (Rows::most(), Rows::least());
    for process in &report.processes {
        let group = report
            .groups
            .iter()
            .find(|group| group.pids.contains(&process.pid));
        let labels = || match group {
            Some(group) => owner(&group.process),
            None => [("process", process.comm.clone())].into(),
        };
        if let (Some(open), Some(limit @ 1..)) = (process.fds_open, process.fd_limit) {
            used.add(labels(), open as f64 / limit as f64);
        }
        if let Some(seconds) = process.runs_out_in_s {
            run_out.add(labels(), seconds);
        }
    }
    vec![
        gauge(
            "tcpleak_leaked_connections",
            "Leaked connections: the peer is gone, and nobody closes them",
            leaked,
        ),
        metric(
            "tcpleak_leaked_connections_oldest_age_seconds",
            "How long the peer of the oldest of them has been gone, at least",
            Kind::Gauge,
            Unit::Seconds,
            oldest,
        ),
        gauge(
            "tcpleak_leaked_connections_growth_per_minute",
            "Change of their number in a minute",
            growth,
        ),
        gauge(
            "tcpleak_half_dead_connections",
            "Connections that are no leak, and that nothing ends soon",
            half_dead,
        ),
        metric(
            "tcpleak_descriptors_used_ratio",
            "Open descriptors of a process that holds connections whose peer is gone, by its limit",
            Kind::Gauge,
            Unit::Ratio,
            used,
        ),
        metric(
            "tcpleak_descriptors_run_out_seconds",
            "Time until such a process has no descriptor left, where that is to be expected",
            Kind::Gauge,
            Unit::Seconds,
            run_out,
        ),
    ]
}

/// Whose connections they are.
pub(super) fn owner(process: &Process) -> Labels {
    let container = process.container.as_ref();
    let of = |field: fn(&crate::report::Container) -> &Option<String>| {
        container.and_then(|container| field(container).clone())
    };
    let named = |container: &crate::report::Container| {
        container
            .name
            .clone()
            .unwrap_or_else(|| container.id.clone())
    };
    [
        ("process", Some(process.comm.clone())),
        ("unit", process.unit.clone()),
        ("namespace", of(|container| &container.namespace)),
        ("pod", of(|container| &container.pod)),
        ("container", container.map(named)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn labels(group: &Group) -> Labels {
    let mut labels = owner(&group.process);
    labels.insert("verdict", group.verdict.word().into());
    if let Some(title) = &group.title {
        labels.insert("title", title.function.clone());
    }
    labels
}

/// What its end closed is not held any more.
fn has_ended(group: &Group) -> bool {
    group
        .qualifiers
        .contains(&crate::report::Qualifier::ProcessEnded)
}
