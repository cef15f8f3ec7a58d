//! What a report says, as numbers to collect over weeks: bounded in number, whatever the host does.
//!
//! Pure. [`crate::output::openmetrics`] writes them for a scrape.

mod own;
mod ports;
mod processes;
mod rows;

use std::collections::BTreeMap;

use self::rows::Rows;
use crate::{health::Health, report::Report};

/// Most rows of one metric; what comes after them is added up under [`OTHER`].
pub const ROWS: usize = 50;

/// Stands for every label of the rows that are left out.
pub const OTHER: &str = "other";

/// Whether a number only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only rises, until tcpleak starts anew.
    Counter,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things: connections, sockets, surveys.
    Number,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of a whole, 0 to 1.
    Ratio,
}

impl Unit {
    /// The word that the names of such metrics end with; none for things.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Number => None,
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::Ratio => Some("ratio"),
        }
    }
}

/// One metric with all its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name, with the word of its unit at the end, without `_total`.
    pub name: &'static str,
    /// What it is, one sentence without its full stop.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Its rows; no two have the same labels.
    pub rows: Vec<Row>,
}

/// A number and what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Names and values. What is not known is left out.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

/// Names and values of labels, ascending by name.
pub type Labels = BTreeMap<&'static str, String>;

/// Everything that is measured, always in the same order; a metric without rows has none now.
pub fn measure(report: &Report, health: &Health) -> Vec<Metric> {
    let mut metrics = processes::metrics(report);
    metrics.extend(ports::metrics(report));
    metrics.extend(totals(report));
    metrics.extend(own::metrics(report, health));
    metrics
}

fn totals(report: &Report) -> Vec<Metric> {
    let totals = &report.totals;
    let mut gone = Rows::new();
    for (state, number) in [
        ("close-wait", totals.close_wait),
        ("dead-fd", totals.dead_fd),
        ("not-accepted", totals.unaccepted),
    ] {
        gone.add([("state", state.to_owned())].into(), number as f64);
    }
    let file_handles = |number: fn(&crate::report::FileHandles) -> u64| {
        let number = totals.file_handles.as_ref().map(number);
        Rows::of(number.map(|number| number as f64))
    };
    vec![
        gauge(
            "tcpleak_connections",
            "TCP connections in every state but LISTEN and TIME_WAIT",
            Rows::one(totals.connections as f64),
        ),
        gauge(
            "tcpleak_peer_gone_connections",
            "Connections whose peer is gone, leak or not",
            gone,
        ),
        gauge(
            "tcpleak_time_wait_sockets",
            "Sockets in TIME_WAIT",
            Rows::one(totals.time_wait as f64),
        ),
        gauge(
            "tcpleak_file_handles_open",
            "Open files of the whole host",
            file_handles(|files| files.open),
        ),
        gauge(
            "tcpleak_file_handles_limit",
            "Most files that the host may have open",
            file_handles(|files| files.limit),
        ),
    ]
}

fn gauge(name: &'static str, help: &'static str, rows: Rows) -> Metric {
    metric(name, help, Kind::Gauge, Unit::Number, rows)
}

fn metric(name: &'static str, help: &'static str, kind: Kind, unit: Unit, rows: Rows) -> Metric {
    Metric {
        name,
        help,
        kind,
        unit,
        rows: rows.finish(),
    }
}

#[cfg(test)]
mod tests;
