//! What the command is told.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    output::json,
    report::{Group, Report},
};

/// Version of the document. It changes when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;
/// Longest document, in bytes. What is longer is not told.
const BYTES: usize = 4 << 20;

#[derive(Serialize)]
struct Alert<'a> {
    schema: u32,
    tcpleak: &'a str,
    taken_at: Timestamp,
    host: &'a str,
    kernel: &'a str,
    left_out: u64,
    group: &'a Group,
}

/// The document on one new leak (docs/alerts.md), with the number of those that were left out before; none when
/// it would be too long.
pub fn alert(report: &Report, group: &Group, left_out: u64) -> Option<String> {
    let host = rustix::system::uname();
    let alert = Alert {
        schema: SCHEMA,
        tcpleak: &report.tcpleak,
        taken_at: report.taken_at,
        host: &host.nodename().to_string_lossy(),
        kernel: &report.kernel,
        left_out,
        group,
    };
    let document = serde_json::to_string(&alert).ok()?;
    let document = format!("{}\n", json::escape(&document));
    (document.len() <= BYTES).then_some(document)
}
