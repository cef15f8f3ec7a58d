//! The report as one line of JSON: the same document as [`super::json`] writes, without the
//! indentation.

use std::io;

use super::json;
use crate::report::Report;

/// Writes the report as one line.
///
/// # Errors
///
/// What writing to `out` returns.
pub fn render(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let line = serde_json::to_string(report)?;
    writeln!(out, "{}", json::escape(&line))
}
