//! What is measured of ports.

use super::{Kind, Labels, Metric, Rows, Unit, gauge, metric, processes::owner};
use crate::report::{PortHeadroom, Report};

/// Ports by destination, and sockets in TIME_WAIT by who closed first.
pub(super) fn metrics(report: &Report) -> Vec<Metric> {
    let mut closed_first = Rows::new();
    for row in &report.time_wait {
        if let Some(process) = &row.process {
            closed_first.add(owner(process), row.count as f64);
        }
    }
    let (mut in_use, mut available, mut run_out) = (Rows::new(), Rows::new(), Rows::least());
    for ports in &report.ports {
        in_use.add(labels(ports), ports.in_use as f64);
        available.add(labels(ports), ports.available as f64);
        if let Some(seconds) = ports.runs_out_in_s {
            run_out.add(labels(ports), seconds);
        }
    }
    vec![
        gauge(
            "tcpleak_time_wait_closed_first_sockets",
            "Sockets in TIME_WAIT by the program that closed the connections first",
            closed_first,
        ),
        gauge(
            "tcpleak_ports_in_use",
            "Ports of the range that no new connection to this destination can take",
            in_use,
        ),
        gauge(
            "tcpleak_ports_available",
            "Ports that a new connection to this destination can take",
            available,
        ),
        metric(
            "tcpleak_ports_run_out_seconds",
            "Time until there is no port left for this destination, where that is to be expected",
            Kind::Gauge,
            Unit::Seconds,
            run_out,
        ),
    ]
}

fn labels(ports: &PortHeadroom) -> Labels {
    [
        ("netns", ports.netns.to_string()),
        ("source", ports.source.clone()),
        ("destination", ports.destination.clone()),
    ]
    .into()
}
