//! How many descriptors a process has left, and for how long.

use std::io::{self, Write};

use super::{
    amount::{count, duration, pace},
    headline::name,
    page::{BOLD, DIM, NORMAL, Page, RED, Span},
};
use crate::report::{Descriptors, Group, Qualifier};

/// Writes how the processes of a group stand: the one that comes to its limit first. Nothing is written
/// where neither is there a forecast nor half of the limit in use.
pub(super) fn write(
    group: &Group,
    processes: &[Descriptors],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let Some(process) = first_to_run_out(group, processes) else {
        return Ok(());
    };
    let [usage, end, basis] = words(process, "in use");
    let whose = match group.pids.len() {
        ..=1 => String::new(),
        _ => format!("pid\u{a0}{}: ", process.pid),
    };
    let urgency = if process.close_to_limit { RED } else { BOLD };
    page.labelled(
        "Open files",
        &[
            Span::new(NORMAL, &whose),
            Span::new(NORMAL, &usage),
            Span::new(urgency, &end),
            Span::new(NORMAL, &basis),
        ],
    )
}

/// Writes a line on each process that has a forecast, or half of its limit in use.
pub(super) fn write_all(
    processes: &[Descriptors],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let notable = processes.iter().filter(|process| is_notable(process));
    for (number, process) in notable.enumerate() {
        if number == 0 {
            page.blank()?;
            page.paragraph(0, &[Span::new(BOLD, "Descriptors")])?;
        }
        let [usage, end, basis] = words(process, "in use");
        let subject = format!("{} (pid\u{a0}{})", name(&process.comm), process.pid);
        let urgency = if process.close_to_limit { RED } else { BOLD };
        page.indented(
            2,
            &[
                Span::new(BOLD, &subject),
                Span::new(NORMAL, ": "),
                Span::new(NORMAL, &usage),
                Span::new(urgency, &end),
                Span::new(NORMAL, &basis),
            ],
        )?;
    }
    Ok(())
}

fn is_notable(process: &Descriptors) -> bool {
    process.runs_out_in_s.is_some() || share(process) > 0.5
}

/// Writes the line about a process that has come close to its limit.
pub(super) fn write_change(
    process: &Descriptors,
    time: &str,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let time = format!("{time}  ");
    let subject = format!("{}[{}]", name(&process.comm), process.pid);
    let [usage, end, basis] = words(process, "descriptors in use");
    // Not wrapped: one change is one line, also for grep.
    page.line(&[
        Span::new(DIM, &time),
        Span::new(BOLD, &subject),
        Span::new(NORMAL, ": "),
        Span::new(NORMAL, &usage),
        Span::new(RED, &end),
        Span::new(NORMAL, &basis),
    ])
}

fn first_to_run_out<'a>(group: &Group, processes: &'a [Descriptors]) -> Option<&'a Descriptors> {
    let seconds_left = |process: &Descriptors| process.runs_out_in_s.unwrap_or(f64::INFINITY);
    let share_left = |process: &Descriptors| 1.0 - share(process);
    processes
        .iter()
        .filter(|process| group.pids.contains(&process.pid))
        .filter(|process| is_notable(process))
        .filter(|_| !group.qualifiers.contains(&Qualifier::ProcessEnded))
        .min_by(|left, right| {
            seconds_left(left)
                .total_cmp(&seconds_left(right))
                .then(share_left(left).total_cmp(&share_left(right)))
        })
}

/// The part of the limit that is in use.
fn share(process: &Descriptors) -> f64 {
    match (process.fds_open, process.fd_limit) {
        (Some(open), Some(limit)) => open as f64 / limit.max(1) as f64,
        _ => 0.0,
    }
}

/// `812 of 1,024 in use, 2.1 more each second: `, `"too many open files" in about 1 min 40 s` and
/// ` (31 counts in 30 s)`
fn words(process: &Descriptors, in_use: &str) -> [String; 3] {
    let number = |number: Option<u64>| number.map_or_else(|| "an unknown number".into(), count);
    let usage = format!(
        "{}\u{a0}of\u{a0}{} {in_use}",
        number(process.fds_open),
        number(process.fd_limit)
    );
    match (process.runs_out_in_s, process.fd_rate_per_s) {
        (Some(seconds), Some(rate)) if seconds > 0.0 => {
            let left = match seconds < 1.0 {
                true => "less than a\u{a0}second".to_owned(),
                false => format!("about\u{a0}{}", duration(seconds)),
            };
            [
                format!("{usage}, {}: ", pace(rate)),
                format!("\"too many open files\" in {left}"),
                format!(" ({})", process.basis),
            ]
        }
        (Some(_), _) => [
            format!("{usage}: "),
            "\"too many open files\" whenever one more is opened".into(),
            String::new(),
        ],
        (None, _) => {
            let reason = process.basis.strip_prefix("withheld: ");
            [
                usage,
                String::new(),
                format!(" (no forecast: {})", reason.unwrap_or(&process.basis)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::words_of;
    use super::*;
    use crate::output::samples::{descriptors, eof_unread, not_accepted, report};

    fn shown(group: Group, processes: Vec<Descriptors>) -> String {
        let mut report = report(vec![group]);
        report.processes = processes;
        words_of(&report)
    }

    fn not_growing(fds_open: u64) -> Descriptors {
        Descriptors {
            fds_open: Some(fds_open),
            fd_rate_per_s: None,
            runs_out_in_s: None,
            basis: "withheld: not growing".into(),
            close_to_limit: false,
            ..descriptors(4242)
        }
    }

    #[test]
    fn a_forecast_is_told_with_what_it_rests_on() {
        let text = shown(eof_unread(), vec![descriptors(4242)]);
        let expected = "Open files 812 of 1,024 in use, 2.1 more each second: \"too many open files\" in about 1 min 40 s (31 counts in 30 s) ";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_limit_that_is_reached_is_told() {
        let reached = Descriptors {
            fds_open: Some(1_024),
            runs_out_in_s: Some(0.0),
            basis: "the limit is reached".into(),
            ..descriptors(4242)
        };
        let expected =
            "Open files 1,024 of 1,024 in use: \"too many open files\" whenever one more is opened";
        let text = shown(eof_unread(), vec![reached]);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_last_second_is_told() {
        let last = Descriptors {
            runs_out_in_s: Some(0.4),
            ..descriptors(4242)
        };
        let text = shown(eof_unread(), vec![last]);
        assert!(
            text.contains("open files\" in less than a second (31"),
            "{text}"
        );
    }

    #[test]
    fn without_a_forecast_more_than_half_of_the_limit_is_told() {
        let text = shown(eof_unread(), vec![not_growing(513)]);
        assert!(
            text.contains("Open files 513 of 1,024 in use (no forecast: not growing)"),
            "{text}"
        );
        assert!(!shown(eof_unread(), vec![not_growing(512)]).contains("Open files"));
    }

    #[test]
    fn descriptors_of_others_and_of_the_dead_are_not_told() {
        assert!(!shown(eof_unread(), vec![descriptors(4243)]).contains("Open files"));
        let mut ended = eof_unread();
        ended.qualifiers.push(Qualifier::ProcessEnded);
        assert!(!shown(ended, vec![descriptors(4242)]).contains("Open files"));
    }

    #[test]
    fn of_many_processes_the_first_to_run_out_is_told() {
        let later = Descriptors {
            runs_out_in_s: Some(900.0),
            ..descriptors(813)
        };
        let full = Descriptors {
            pid: 812,
            ..not_growing(1_000)
        };
        let text = shown(not_accepted(), vec![full, later, descriptors(814)]);
        assert!(text.contains("Open files pid 814: 812 of 1,024"), "{text}");
    }
}
