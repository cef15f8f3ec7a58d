//! What came of a command that tcpleak ran: one line when all is well.

use std::io::{self, Write};

use anstream::StripStream;

use super::{
    Text,
    amount::{count, some_of, things},
    group, headline,
    page::{BOLD, GREEN, NORMAL, Page, RED, Span},
    write_notes,
};
use crate::report::{Group, Report, Run};

/// Processes that are named.
const PROCESSES_NAMED: usize = 4;
/// Columns of text in files that are read elsewhere.
const WIDTH_OF_A_FILE: usize = 100;
/// Columns of what is no line of its own.
const UNLIMITED: usize = 4096;

impl Text {
    /// Text for files and services that show it later, somewhere else.
    pub(in crate::output) fn for_files() -> Self {
        Self {
            width: WIDTH_OF_A_FILE,
            zone: jiff::tz::TimeZone::UTC,
            full_stacks: false,
        }
    }

    /// Writes one group, without styles.
    pub(in crate::output) fn render_group(
        &self,
        group: &Group,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut page = StripStream::new(Vec::new());
        group::write(
            group,
            &[],
            None,
            self.full_stacks,
            &mut Page::new(&mut page, self.width),
        )?;
        out.write_all(&page.into_inner())
    }

    /// `eof-unread in fetch_page (crawl.py:42)`
    pub(in crate::output) fn heading(group: &Group) -> String {
        let title = group.title.as_ref();
        let title = title.map(|title| headline::title(title, group, UNLIMITED));
        let title = title.map(|(function, place)| format!(" in {function}{place}"));
        let title = title.unwrap_or_default();
        format!("{}{title}", group.verdict).replace('\u{a0}', " ")
    }

    /// Who does what, as a sentence.
    pub(crate) fn sentence(group: &Group) -> String {
        let (subject, predicate) = (headline::subject(group), headline::predicate(group));
        format!("{subject} {predicate}.").replace('\u{a0}', " ")
    }

    /// Writes what came of a command. `suppressions` names the file that suppressions come from.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render_run(
        &self,
        report: &Report,
        suppressions: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut page = Page::new(out, self.width);
        let leaks = || report.groups.iter().filter(|group| group.leak);
        let leaked = leaks().map(|group| group.count).sum();
        let number = things(leaked, "leaked connection", "leaked connections");
        let result = match leaked {
            0 => Span::new(GREEN, "no connection was leaked"),
            _ => Span::new(RED, &number),
        };
        let groups = leaks().count() as u64;
        let rest = match groups {
            0 => ".".to_owned(),
            1 => ":".to_owned(),
            _ => format!(" in {} groups:", count(groups)),
        };
        let name = Span::new(BOLD, "tcpleak");
        page.paragraph(
            2,
            &[
                name,
                Span::new(NORMAL, ": "),
                result,
                Span::new(NORMAL, &rest),
            ],
        )?;
        for group in leaks() {
            page.blank()?;
            group::write(group, &report.processes, None, self.full_stacks, &mut page)?;
        }
        if groups > 0 {
            page.blank()?;
        }
        if let Some(run) = &report.run {
            for remark in remarks(run, suppressions) {
                page.paragraph(2, &[name, Span::new(NORMAL, &format!(": {remark}"))])?;
            }
        }
        write_notes(&report.notes, &mut page)
    }
}

/// What else is to be said of a run.
fn remarks(run: &Run, file: &str) -> Vec<String> {
    let suppressed = run.suppressed.iter().map(|leak| {
        format!(
            "suppressed {} of {} by {file}:{}: {}",
            things(leak.group.count, "leaked connection", "leaked connections"),
            headline::name(&leak.group.process.comm),
            leak.line,
            leak.reason
        )
    });
    let unused = run.unused_suppressions.iter().map(|unused| {
        let why = match unused.expired {
            true => "has expired, and suppresses nothing any more",
            false => "was not needed",
        };
        format!(
            "the suppression {file}:{} {why}: {}",
            unused.line, unused.reason
        )
    });
    let running: Vec<String> = run
        .still_running
        .iter()
        .map(|process| {
            format!(
                "{} (pid\u{a0}{})",
                headline::name(&process.comm),
                process.pid
            )
        })
        .collect();
    let number = running.len() as u64;
    let running = (number > 0).then(|| {
        let named = some_of(&running, PROCESSES_NAMED, number);
        let (processes, verb) = match number {
            1 => ("1 process that the command started".to_owned(), "runs"),
            _ => (
                format!("{} processes that the command started", count(number)),
                "run",
            ),
        };
        format!("{processes} still {verb}, and {verb} on unwatched: {named}.")
    });
    suppressed.chain(unused).chain(running).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::samples::{dead_fd, eof_unread, report},
        report::{StillRunning, Suppressed, UnusedSuppression},
    };

    fn run() -> Run {
        Run {
            command_status: Some(0),
            command_signal: None,
            suppressed: Vec::new(),
            unused_suppressions: Vec::new(),
            still_running: Vec::new(),
        }
    }

    fn text(groups: Vec<Group>, run: Run) -> String {
        let report = Report {
            run: Some(run),
            ..report(groups)
        };
        let mut page = StripStream::new(Vec::new());
        let text = Text::for_files();
        text.render_run(&report, ".tcpleak.toml", &mut page)
            .unwrap();
        String::from_utf8(page.into_inner()).unwrap()
    }

    #[test]
    fn when_all_is_well_it_is_one_line() {
        assert_eq!(
            text(Vec::new(), run()),
            "tcpleak: no connection was leaked.\n"
        );
    }

    #[test]
    fn leaks_are_shown_as_everywhere() {
        let text = text(vec![eof_unread(), dead_fd()], run());
        assert!(
            text.starts_with("tcpleak: 28 leaked connections in 2 groups:\n\nLEAK "),
            "{text}"
        );
        assert_eq!(text.matches("\nLEAK ").count(), 2, "{text}");
    }

    #[test]
    fn what_does_not_count_and_what_goes_on_is_said() {
        let told = text(
            Vec::new(),
            Run {
                suppressed: vec![Suppressed {
                    reason: "issue 42".into(),
                    line: 4,
                    group: eof_unread(),
                }],
                unused_suppressions: [(8, false), (12, true)]
                    .map(|(line, expired)| UnusedSuppression {
                        reason: "old".into(),
                        line,
                        expired,
                    })
                    .into(),
                still_running: vec![StillRunning {
                    pid: 7,
                    comm: "server".into(),
                }],
                ..run()
            },
        );
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "tcpleak: no connection was leaked.",
                "tcpleak: suppressed 20 leaked connections of python3 by .tcpleak.toml:4: issue 42",
                "tcpleak: the suppression .tcpleak.toml:8 was not needed: old",
                "tcpleak: the suppression .tcpleak.toml:12 has expired, and suppresses nothing any more: old",
                "tcpleak: 1 process that the command started still runs, and runs on unwatched: server (pid 7).",
            ]
        );
    }
}
