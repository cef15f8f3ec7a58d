//! The report for people: who leaks what, and where in the code, before anything else.

mod amount;
mod code;
mod code_path;
mod descriptors;
mod explanation;
mod group;
mod headline;
mod page;
mod ports;
mod run;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use jiff::tz::TimeZone;

use self::{
    amount::{count, per_minute, some_of, things},
    page::{BOLD, DIM, GREEN, NORMAL, Page, RED, Span},
};
use super::changes::{Change, changes};
use crate::report::{FileHandles, Group, Report, Severity};

/// Programs that are named in the summary.
const PROGRAMS_NAMED: usize = 4;

/// Columns for the function in the line about a change.
const TITLE_WIDTH: usize = 60;

/// Renders reports as text with ANSI styles. Where styles are not wanted, the writer strips them
/// ([`anstream::AutoStream`]).
#[derive(Clone, Debug)]
pub struct Text {
    /// Columns of a line. Below 60 lines are as long as with 60.
    pub width: usize,
    /// Where the reader's clock is.
    pub zone: TimeZone,
    /// Whether code paths are shown as a whole, instead of with foreign frames folded.
    pub full_stacks: bool,
}

impl Text {
    /// Writes the whole report.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render(&self, report: &Report, out: &mut impl Write) -> io::Result<()> {
        let mut page = Page::new(out, self.width);
        self.summary(report, &mut page)?;
        for group in &report.groups {
            page.blank()?;
            group::write(group, &report.processes, None, self.full_stacks, &mut page)?;
        }
        ports::write_warning(report, &mut page)?;
        write_notes(&report.notes, &mut page)
    }

    /// Writes what is different from the `previous` report: a group that is new or became a leak in
    /// full, a changed count and a group that is gone as one line each. Returns whether anything
    /// was written.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render_changes(
        &self,
        previous: &Report,
        current: &Report,
        out: &mut impl Write,
    ) -> io::Result<bool> {
        let changes = changes(previous, current);
        let time = self.time(current, "%H:%M:%S");
        let mut page = Page::new(out, self.width);
        let mut after_block = false;
        for change in &changes {
            if after_block || matches!(change, Change::New(_)) {
                page.blank()?;
            }
            after_block = matches!(change, Change::New(_));
            match change {
                Change::New(group) => {
                    group::write(
                        group,
                        &current.processes,
                        Some(&time),
                        self.full_stacks,
                        &mut page,
                    )?;
                }
                Change::Count { before, group } => write_count(*before, group, &time, &mut page)?,
                Change::PortsRunOut(ports) => ports::write_change(ports, &time, &mut page)?,
                Change::RunsOut(process) => {
                    descriptors::write_change(process, &time, &mut page)?;
                }
                Change::Ended(group) => {
                    let count = things(group.count, "connection", "connections");
                    write_change(
                        group,
                        &format!("process ended with {count}"),
                        &time,
                        &mut page,
                    )?;
                }
                Change::Cleared(group) => {
                    let before = things(group.count, "connection", "connections");
                    write_change(
                        group,
                        &format!("cleared ({before} before)"),
                        &time,
                        &mut page,
                    )?;
                }
            }
        }
        if after_block {
            page.blank()?;
        }
        Ok(!changes.is_empty())
    }

    /// Writes the line that follows the first report of a watch.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render_watching(&self, out: &mut impl Write) -> io::Result<()> {
        let text = "Watching. Changes appear below; Ctrl-C ends with the whole report.";
        let mut page = Page::new(out, self.width);
        page.blank()?;
        page.paragraph(0, &[Span::new(DIM, text)])
    }

    /// Writes the line between the changes and the last report of a watch.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render_final_heading(&self, out: &mut impl Write) -> io::Result<()> {
        let mut page = Page::new(out, self.width);
        page.blank()?;
        page.paragraph(0, &[Span::new(BOLD, "The whole report:")])
    }

    fn summary(&self, report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
        let leaks: Vec<&Group> = report.groups.iter().filter(|group| group.leak).collect();
        let notable = notable(report);
        if leaks.is_empty() {
            page.paragraph(
                0,
                &[
                    Span::new(GREEN, "No leak"),
                    Span::new(NORMAL, &no_leak(report)),
                    Span::new(NORMAL, &notable),
                ],
            )?;
        } else {
            let leaked = leaks.iter().map(|group| group.count).sum();
            let leaked = things(leaked, "leaked connection", "leaked connections");
            let rest = match leaks.as_slice() {
                [leak] => format!(" of {}", headline::name(&leak.process.comm)),
                leaks => format!(
                    " in {} groups: {}",
                    count(leaks.len() as u64),
                    by_program(leaks)
                ),
            };
            let full_stop = if notable.is_empty() { "" } else { "." };
            page.paragraph(
                2,
                &[
                    Span::new(RED, &leaked),
                    Span::new(NORMAL, &rest),
                    Span::new(NORMAL, full_stop),
                    Span::new(NORMAL, &notable),
                ],
            )?;
        }
        page.paragraph(2, &[Span::new(NORMAL, &totals(report))])?;
        self.made(report, page)
    }

    /// Which version made the report, where and when.
    fn made(&self, report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
        let taken = self.time(report, "%Y-%m-%d %H:%M:%S %Z");
        let made = format!(
            "tcpleak {} on Linux {}, {taken}",
            report.tcpleak, report.kernel
        );
        page.paragraph(2, &[Span::new(DIM, &made)])
    }

    fn time(&self, report: &Report, format: &str) -> String {
        report
            .taken_at
            .to_zoned(self.zone.clone())
            .strftime(format)
            .to_string()
    }
}

/// Groups that are told although they are no leaks: ` 12 connections in 2 groups are half dead.`
fn notable(report: &Report) -> String {
    let told = |severity, singular: &str, plural: &str| {
        let groups = report.groups.iter();
        let counts: Vec<u64> = groups
            .filter(|group| !group.leak && group.verdict.severity() == severity)
            .map(|group| group.count)
            .collect();
        let what = if counts.iter().sum::<u64>() == 1 {
            singular
        } else {
            plural
        };
        (!counts.is_empty()).then(|| {
            format!(
                " {} in {} {what}.",
                things(counts.iter().sum(), "connection", "connections"),
                things(counts.len() as u64, "group", "groups"),
            )
        })
    };
    let half_dead = told(Severity::HalfDead, "is half dead", "are half dead");
    let idle = told(Severity::Idle, "is open and idle", "are open and idle");
    half_dead.into_iter().chain(idle).collect()
}

fn no_leak(report: &Report) -> String {
    let groups = report.groups.iter();
    let others = groups.filter(|group| !group.verdict.is_notable()).count() as u64;
    match others {
        0 if !report.groups.is_empty() => ".".into(),
        0 => ": no connection is held open whose peer has been gone for longer than --min-age."
            .into(),
        1 if report.groups.len() == 1 => ". The group below is not one, or not yet.".into(),
        _ => format!(
            ". The {} groups below are none, or not yet.",
            count(report.groups.len() as u64)
        ),
    }
}

/// `20 of python3, 12 of java and 2 more`
fn by_program(leaks: &[&Group]) -> String {
    let mut programs: Vec<(&str, u64)> = Vec::new();
    for group in leaks {
        let name = headline::name(&group.process.comm);
        match programs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, connections)) => *connections += group.count,
            None => programs.push((name, group.count)),
        }
    }
    let programs: Vec<String> = programs
        .iter()
        .map(|(name, number)| format!("{}\u{a0}of\u{a0}{name}", count(*number)))
        .collect();
    some_of(&programs, PROGRAMS_NAMED, programs.len() as u64)
}

fn totals(report: &Report) -> String {
    let totals = &report.totals;
    let named = [
        (totals.close_wait, "in\u{a0}CLOSE_WAIT"),
        (totals.dead_fd, "dead but held"),
        (totals.unaccepted, "not accepted"),
        (totals.time_wait, "in\u{a0}TIME_WAIT"),
    ];
    let mut text = format!(
        "Host: {}",
        things(totals.connections, "connection", "connections")
    );
    for (number, name) in named.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!(", {}\u{a0}{name}", count(number)));
    }
    if let Some(files) = totals.file_handles.filter(FileHandles::is_near_limit) {
        text.push_str(&format!(
            ", {}\u{a0}of\u{a0}{} open files in use",
            count(files.open),
            count(files.limit)
        ));
    }
    text
}

fn write_count(
    before: u64,
    group: &Group,
    time: &str,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let difference = match group.count.checked_sub(before) {
        Some(more) => format!("+{}", count(more)),
        None => format!("-{}", count(before - group.count)),
    };
    let mut what = format!(
        "{} ({difference})",
        things(group.count, "connection", "connections")
    );
    if let Some(rate) = group.growth_per_min.filter(|rate| rate.abs() >= 0.05) {
        what.push_str(&format!(", {}", per_minute(rate)));
    }
    write_change(group, &what, time, page)
}

fn write_change(
    group: &Group,
    what: &str,
    time: &str,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let time = format!("{time}  ");
    let subject = headline::short_subject(group);
    let code = group.title.as_ref().map(|title| {
        let (function, place) = headline::title(title, group, TITLE_WIDTH);
        format!(" in {function}{place}")
    });
    let code = code.unwrap_or_default();
    let rest = format!(" {} {}{code}: {what}", group.verdict, group.endpoint);
    // Not wrapped: one change is one line, also for grep.
    page.line(&[
        Span::new(DIM, &time),
        Span::new(BOLD, &subject),
        Span::new(NORMAL, &rest),
    ])
}

fn write_notes(notes: &[String], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    page.blank()?;
    page.paragraph(0, &[Span::new(BOLD, "What this report does not know")])?;
    for note in notes {
        page.paragraph(4, &[Span::new(NORMAL, &format!("  - {note}"))])?;
    }
    Ok(())
}
