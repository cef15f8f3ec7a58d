//! Ports and TIME_WAIT for people: what runs out first, then who causes it, then what helps.

use std::io::{self, Write};

use super::{
    Text,
    amount::{count, duration, some_of, things},
    code_path::{self, Shown},
    descriptors,
    headline::name,
    page::{BOLD, DIM, GREEN, NORMAL, Page, RED, Span, YELLOW},
};
use crate::report::{Advice, AdviceKind, PortHeadroom, Report, TimeWait};

/// Most rows about who is in TIME_WAIT, most lines of a code path, and most destinations.
const PROGRAMS: usize = 12;
const PATH_ROWS: usize = 6;
const DESTINATIONS: usize = 12;

impl Text {
    /// Writes the report as far as it is about ports.
    ///
    /// # Errors
    ///
    /// What writing to `out` returns.
    pub fn render_ports(&self, report: &Report, out: &mut impl Write) -> io::Result<()> {
        let mut page = Page::new(out, self.width);
        summary(report, &mut page)?;
        self.made(report, &mut page)?;
        if !report.ports.is_empty() {
            page.blank()?;
            page.paragraph(0, &[Span::new(BOLD, "Ports")])?;
            for ports in report.ports.iter().take(DESTINATIONS) {
                write_headroom(ports, &mut page)?;
            }
            let shown = DESTINATIONS as u64;
            write_more(report.ports.len() as u64, shown, "destinations", &mut page)?;
        }
        descriptors::write_all(&report.processes, &mut page)?;
        if !report.time_wait.is_empty() {
            page.blank()?;
            page.paragraph(0, &[Span::new(BOLD, "TIME_WAIT, by who closed first")])?;
            for row in report.time_wait.iter().take(PROGRAMS) {
                write_closer(row, self.full_stacks, &mut page)?;
            }
            let shown = report.time_wait.iter().take(PROGRAMS);
            let shown: u64 = shown.map(|row| row.count).sum();
            write_more(report.totals.time_wait, shown, "sockets", &mut page)?;
        }
        write_advice(&report.advice, |_| true, &mut page)?;
        super::write_notes(&report.notes, &mut page)
    }
}

/// Writes what a report on leaks says of ports: nothing, unless they run out.
pub(super) fn write_warning(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let mut close = report
        .ports
        .iter()
        .filter(|ports| ports.close_to_limit)
        .peekable();
    if close.peek().is_none() {
        return Ok(());
    }
    page.blank()?;
    page.paragraph(0, &[Span::new(RED, "Ports run out")])?;
    for ports in close.take(DESTINATIONS) {
        write_headroom(ports, page)?;
        let causes = |row: &&TimeWait| {
            row.netns == ports.netns
                && row.local == ports.source
                && row.remote.as_deref() == Some(&ports.destination)
        };
        for row in report.time_wait.iter().filter(causes).take(2) {
            write_closer(row, false, page)?;
        }
    }
    write_advice(&report.advice, |kind| kind == AdviceKind::Helps, page)?;
    let more = "`tcpleak time-wait` shows everything about ports.";
    page.labelled("", &[Span::new(DIM, more)])
}

fn summary(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let sockets = things(report.totals.time_wait, "socket", "sockets");
    let waiting = format!("{sockets} in TIME_WAIT");
    let Some(first) = report
        .ports
        .iter()
        .filter(|ports| ports.close_to_limit)
        .min_by(|left, right| {
            let left_s = left.runs_out_in_s.unwrap_or(f64::INFINITY);
            left_s.total_cmp(&right.runs_out_in_s.unwrap_or(f64::INFINITY))
        })
    else {
        let rest = ". No destination is short of ports.";
        return page.paragraph(2, &[Span::new(GREEN, &waiting), Span::new(NORMAL, rest)]);
    };
    let how = format!("Ports to {} {}", first.destination, outlook(first));
    page.paragraph(
        2,
        &[
            Span::new(RED, &how),
            Span::new(NORMAL, &format!(". {waiting}.")),
        ],
    )
}

/// `run out in about 12 s`
fn outlook(ports: &PortHeadroom) -> String {
    match ports.runs_out_in_s {
        Some(0.0) => "have run out".into(),
        Some(left) => format!("run out in about {}", duration(left)),
        None => "are nearly used up".into(),
    }
}

/// Writes that the ports to a destination have begun to run out, on one line.
pub(super) fn write_change(
    ports: &PortHeadroom,
    time: &str,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let all = ports.in_use + ports.available;
    page.line(&[
        Span::new(DIM, &format!("{time}  ")),
        Span::new(RED, &format!("ports {}", outlook(ports))),
        Span::new(
            NORMAL,
            &format!(
                " {}: {} of {} in use",
                ports.place(),
                count(ports.in_use),
                count(all)
            ),
        ),
    ])
}

/// `10.0.0.5 -> 10.0.0.9:443`, and how full that is.
fn write_headroom(ports: &PortHeadroom, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let all = ports.in_use + ports.available;
    let place = ports.place();
    let mut text = format!(": {} of {} ports in use", count(ports.in_use), count(all));
    let states: Vec<String> = ports
        .by_state
        .iter()
        .map(|(state, number)| format!("{}\u{a0}{state}", count(*number)))
        .collect();
    text.push_str(&format!(" ({})", some_of(&states, 4, states.len() as u64)));
    if ports.taken_for_all > 0 {
        text.push_str(&format!(
            ", {} taken for every destination",
            count(ports.taken_for_all)
        ));
    }
    if ports.reusable > 0 {
        text.push_str(&format!(
            ", {} of the TIME_WAIT ones take none: the kernel reuses their ports",
            count(ports.reusable)
        ));
    }
    if ports.bound {
        text.push_str(", bound before connect()");
    }
    text.push_str(". ");
    let (style, outlook) = match (ports.close_to_limit, ports.runs_out_in_s) {
        (true, _) => (RED, format!("They {}", outlook(ports))),
        (false, Some(left)) => (YELLOW, format!("They run out in about {}", duration(left))),
        (false, None) => (NORMAL, "They do not run out at this rate".into()),
    };
    let basis = match ports.basis.strip_prefix("withheld: ") {
        Some(why) if ports.runs_out_in_s.is_none() => {
            text.push_str(&format!("No forecast: {why}."));
            return page.indented(2, &[Span::new(BOLD, &place), Span::new(NORMAL, &text)]);
        }
        Some(_) => ".".to_owned(),
        None => format!(" ({}).", ports.basis),
    };
    page.indented(
        2,
        &[
            Span::new(BOLD, &place),
            Span::new(NORMAL, &text),
            Span::new(style, &outlook),
            Span::new(NORMAL, &basis),
        ],
    )
}

/// Who closed, how often, where to, and where in the code.
fn write_closer(
    row: &TimeWait,
    full_stacks: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let who = match &row.process {
        Some(process) => {
            let pids: Vec<String> = row.pids.iter().map(u32::to_string).collect();
            let (pid, pids) = (
                if row.pids_total == 1 { "pid" } else { "pids" },
                some_of(&pids, 3, row.pids_total),
            );
            format!("{} ({pid}\u{a0}{pids})", name(&process.comm))
        }
        None if row.older_than_tracer == row.count => "older than tcpleak".into(),
        None if row.older_than_tracer == 0 => "nobody was seen to close them".into(),
        None => format!(
            "{} older than tcpleak, of the others nobody was seen to close them",
            count(row.older_than_tracer)
        ),
    };
    let place = match &row.remote {
        Some(remote) => format!("{} -> {remote}", row.local),
        None => format!("accepted at {}", row.local),
    };
    let mut number = count(row.count);
    if let Some(rate) = row.rate_per_s {
        number.push_str(&format!(", {rate:.1}\u{a0}per\u{a0}second"));
    }
    page.indented(
        2,
        &[
            Span::new(BOLD, &who),
            Span::new(NORMAL, &format!(": {number}, {place}")),
        ],
    )?;
    let (how, path) = match (&row.origin, &row.close) {
        (Some(path), _) => ("opened by (innermost first)", path),
        (None, Some(path)) => ("closed by (innermost first)", path),
        (None, None) => return Ok(()),
    };
    page.labelled("", &[Span::new(DIM, how)])?;
    let shown = match full_stacks {
        true => Shown::Whole,
        false => Shown::Folded(PATH_ROWS),
    };
    code_path::write(path, shown, page)?;
    if row.unsampled > 0 {
        page.remark(&format!(
            "... {} of these by proportion: their own code path is not known",
            count(row.unsampled)
        ))?;
    }
    Ok(())
}

fn write_more(
    number: u64,
    shown: u64,
    what: &str,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    match number.saturating_sub(shown) {
        0 => Ok(()),
        more => {
            let text = format!("and {} more {what}", count(more));
            page.indented(2, &[Span::new(DIM, &text)])
        }
    }
}

fn write_advice(
    advice: &[Advice],
    wanted: impl Fn(AdviceKind) -> bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    if advice.iter().any(|one| wanted(one.kind)) {
        page.blank()?;
    }
    let mut before = None;
    for one in advice.iter().filter(|one| wanted(one.kind)) {
        let label = match one.kind {
            _ if before == Some(one.kind) => "",
            AdviceKind::Helps => "Helps",
            AdviceKind::DoesNotHelp => "Harms",
            AdviceKind::Myth => "Myth",
        };
        before = Some(one.kind);
        page.labelled(label, &[Span::new(NORMAL, &one.text)])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
