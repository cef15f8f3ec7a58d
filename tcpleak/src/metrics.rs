//! What a report says, as numbers to collect over weeks: bounded in number, whatever the host does.
//!
//! Pure.

use std::collections::BTreeMap;

use crate::{
    health::Health,
    report::{Process, Report, Verdict},
};

/// Most rows of one metric; what comes after them is added up under [`OTHER`].
pub const ROWS: usize = 50;

/// Stands for every label of the rows that are left out.
pub const OTHER: &str = "other";

/// Most bytes of the value of a label.
const LABEL_BYTES: usize = 200;

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
