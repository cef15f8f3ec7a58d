//! Which report is shown when, in which form.

use std::{io, path::Path};

use anstream::AutoStream;
use jiff::{SignedDuration, tz::TimeZone};

use super::{
    changes::{Change, changes},
    destination::Destination,
    json, ndjson,
    text::Text,
};
use crate::{cli::Format, report::Report};

/// Clears the screen and what was scrolled off it, and goes to its first line.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";

/// Least time between two lines about a count: a leak that grows every second would scroll the code
/// path that causes it out of sight.
const COUNTS_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Leaks.
    Leaks,
    /// Ports and TIME_WAIT. On a terminal the whole screen is written anew each time.
    Ports,
}

/// Shows the reports of one run.
///
/// | format | while watching | at the end |
/// |---|---|---|
/// | `text` | the first report, then what changes; counts at most every ten seconds | the whole report |
/// | `text` to a file | the file is replaced when something changes | and once more |
/// | `text` on ports | on a terminal the whole screen each time, elsewhere nothing | the whole report |
/// | `json` | nothing | one document |
/// | `ndjson` | one line per report | one line |
///
/// Every method returns the error of its [`Destination`]; [`io::ErrorKind::BrokenPipe`] means that
/// nobody reads on.
#[derive(Debug)]
pub struct Reporter {
    format: Format,
    view: View,
    full_stacks: bool,
    destination: Destination,
    /// The report that the text on the screen, or in the file, is about.
    shown: Option<Report>,
}

impl Reporter {
    /// Opens standard output, or the file at `output`. With `full_stacks` the text shows code paths as
    /// a whole.
    ///
    /// # Errors
    ///
    /// When the file could not be written.
    pub fn open(format: Format, output: Option<&Path>, full_stacks: bool) -> io::Result<Self> {
        Ok(Self {
            format,
            view: View::Leaks,
            full_stacks,
            destination: Destination::open(output)?,
            shown: None,
        })
    }

    /// Has the text be about something else.
    #[must_use]
    pub fn showing(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// Takes one of the reports of a watch, but the last.
    pub fn update(&mut self, report: &Report) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            Format::Ndjson => self.line(report),
            Format::Text => match self.view {
                View::Leaks => self.update_text(report),
                View::Ports => self.update_screen(report),
            },
        }
    }

    /// Takes the last report, or the only one.
    pub fn finish(&mut self, report: &Report) -> io::Result<()> {
        match self.format {
            Format::Json => {
                let mut document = Vec::new();
                json::render(report, &mut document)?;
                self.destination.replace(&document)
            }
            Format::Ndjson => self.line(report),
            Format::Text if self.view == View::Ports => {
                let mut page = self.page();
                self.text().render_ports(report, &mut page)?;
                let page = page.into_inner();
                match self.destination.screen() {
                    Some(_) => self.destination.replace(&[CLEAR, &page].concat()),
                    None => self.destination.replace(&page),
                }
            }
            Format::Text => {
                let mut page = self.page();
                if self.shown.is_some() && !self.destination.is_replaced() {
                    self.text().render_final_heading(&mut page)?;
                }
                self.text().render(report, &mut page)?;
                self.destination.replace(&page.into_inner())
            }
        }
    }

    /// Whether nobody reads on, so that watching makes no sense any more (`tcpleak | head`).
    pub fn is_abandoned(&self) -> bool {
        self.destination.is_abandoned()
    }

    fn line(&mut self, report: &Report) -> io::Result<()> {
        let mut line = Vec::new();
        ndjson::render(report, &mut line)?;
        self.destination.append(&line)
    }

    /// The screen has room for so many lines, and the last one is where the cursor stays.
    fn update_screen(&mut self, report: &Report) -> io::Result<()> {
        let Some(rows) = self.destination.screen() else {
            return Ok(());
        };
        let mut page = self.page();
        self.text().render_ports(report, &mut page)?;
        let page = page.into_inner();
        let shown = page.split_inclusive(|byte| *byte == b'\n');
        let shown: Vec<&[u8]> = shown.take(rows.saturating_sub(1)).collect();
        self.destination.replace(&[CLEAR, &shown.concat()].concat())
    }

    fn update_text(&mut self, report: &Report) -> io::Result<()> {
        let text = self.text();
        let mut page = self.page();
        let whole = self.destination.is_replaced();
        match &self.shown {
            Some(shown) if !is_due(shown, report) => return Ok(()),
            Some(shown) if !whole => {
                text.render_changes(shown, report, &mut page)?;
            }
            None if !whole => {
                text.render(report, &mut page)?;
                text.render_watching(&mut page)?;
            }
            _ => text.render(report, &mut page)?,
        }
        self.shown = Some(report.clone());
        self.destination.replace(&page.into_inner())
    }

    /// The terminal may have been resized since the last report.
    fn text(&self) -> Text {
        Text {
            width: self.destination.width(),
            zone: TimeZone::system(),
            full_stacks: self.full_stacks,
        }
    }

    fn page(&self) -> AutoStream<Vec<u8>> {
        AutoStream::new(Vec::new(), self.destination.colour())
    }
}

/// Whether the report differs enough from the one that was shown.
fn is_due(shown: &Report, report: &Report) -> bool {
    let changes = changes(shown, report);
    let counts_only = changes
        .iter()
        .all(|change| matches!(change, Change::Count { .. }));
    // The clock may have been set back.
    let waited = report.taken_at.duration_since(shown.taken_at).abs() >= COUNTS_EVERY;
    !changes.is_empty() && (waited || !counts_only)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::output::samples::{dead_fd, eof_unread, report};

    fn to_file(format: Format) -> (TempDir, std::path::PathBuf, Reporter) {
        let directory = tempdir().unwrap();
        let path = directory.path().join("report");
        let reporter = Reporter::open(format, Some(&path), false).unwrap();
        (directory, path, reporter)
    }

    fn later(seconds: i64, count: u64) -> Report {
        let mut group = eof_unread();
        group.count = count;
        let mut report = report(vec![group]);
        report.taken_at += SignedDuration::from_secs(seconds);
        report
    }

    #[test]
    fn json_is_the_last_report_only() {
        let (_directory, path, mut reporter) = to_file(Format::Json);
        reporter.update(&later(0, 20)).unwrap();
        assert!(!path.exists());
        reporter.finish(&later(1, 21)).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(document["groups"][0]["count"], 21);
    }

    #[test]
    fn ndjson_is_every_report_in_its_order() {
        let (_directory, path, mut reporter) = to_file(Format::Ndjson);
        reporter.update(&later(0, 20)).unwrap();
        reporter.update(&later(1, 20)).unwrap();
        reporter.finish(&later(2, 22)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let counts: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|report| report["groups"][0]["count"].as_u64().unwrap())
            .collect();
        assert_eq!(counts, [20, 20, 22]);
    }

    #[test]
    fn a_text_file_holds_one_report_without_colour() {
        let (_directory, path, mut reporter) = to_file(Format::Text);
        reporter.update(&later(0, 20)).unwrap();
        reporter
            .update(&report(vec![eof_unread(), dead_fd()]))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("28 leaked connections in 2 groups"),
            "{text}"
        );
        reporter.finish(&later(60, 30)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("30 leaked connections of python3\n"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn full_stacks_are_asked_for_by_an_option() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("report");
        let text = |full_stacks| {
            let mut reporter = Reporter::open(Format::Text, Some(&path), full_stacks).unwrap();
            reporter.finish(&later(0, 20)).unwrap();
            fs::read_to_string(&path).unwrap()
        };
        assert!(!text(false).contains("Py_RunMain"));
        assert!(text(true).contains("Py_RunMain"));
    }

    #[test]
    fn a_count_that_changes_all_the_time_is_told_from_time_to_time() {
        let shown = later(0, 20);
        assert!(!is_due(&shown, &later(1, 21)));
        assert!(!is_due(&shown, &later(20, 20)));
        assert!(is_due(&shown, &later(10, 30)));
        assert!(is_due(&shown, &later(-3_600, 30)));
        assert!(is_due(&shown, &report(vec![eof_unread(), dead_fd()])));
        assert!(is_due(&shown, &report(Vec::new())));
    }
}
