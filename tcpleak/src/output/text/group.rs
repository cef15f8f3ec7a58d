//! One group: the headline, and below it who, why, where in the code, and what now.

use std::io::{self, Write};

use super::{
    amount::{count, duration, ranges, some_of, things},
    code, descriptors, explanation,
    headline::{self, Status},
    page::{BOLD, DIM, GREEN, NORMAL, Page, RED, Span, YELLOW, shorten_end, shorten_start},
};
use crate::report::{Connection, Container, Descriptors, Group, Holder, Opener, Process, Verdict};

/// Sockets that are shown as samples of a group.
const SOCKETS_SHOWN: usize = 3;

/// Holders that are shown of a group.
const HOLDERS_SHOWN: usize = 4;

/// Runs of descriptors that are shown of a holder.
const DESCRIPTORS_SHOWN: usize = 8;

/// Writes a group, and how its processes stand with descriptors. The time is that of the report, for a group among changes.
pub(super) fn write(
    group: &Group,
    processes: &[Descriptors],
    time: Option<&str>,
    full_stacks: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    write_headline(group, time, page)?;
    page.labelled(
        "Evidence",
        &[Span::new(NORMAL, &explanation::evidence(&group.evidence))],
    )?;
    descriptors::write(group, processes, page)?;
    code::write(group, full_stacks, page)?;
    page.labelled(
        "Next step",
        &[Span::new(NORMAL, explanation::next_step(group))],
    )?;
    write_program(group, page)?;
    write_holders(group, page)?;
    write_sockets(group, page)?;
    for remark in explanation::remarks(group) {
        page.labelled("Note", &[Span::new(NORMAL, &remark)])?;
    }
    Ok(())
}

/// What is wrong and in which function, on a line of its own where that is known; then who does what.
fn write_headline(
    group: &Group,
    time: Option<&str>,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let status = Status::of(group);
    let colour = match status {
        Status::Leak => RED,
        Status::Likely | Status::Perhaps | Status::Young | Status::HalfDead | Status::Idle => {
            YELLOW
        }
        Status::No => GREEN,
    };
    let time = time.map(|time| format!("{time}  ")).unwrap_or_default();
    let tag = format!("{} {}", status.tag(group), group.verdict);
    let subject = headline::subject(group);
    let predicate = format!(" {}", headline::predicate(group));
    let growth = headline::growth(group)
        .map(|growth| format!("; {growth}"))
        .unwrap_or_default();
    let (time, tag) = (Span::new(DIM, &time), Span::new(colour, &tag));
    let sentence = [
        Span::new(BOLD, &subject),
        Span::new(NORMAL, &predicate),
        Span::new(BOLD, &growth),
        Span::new(NORMAL, "."),
    ];
    let Some(title) = &group.title else {
        let colon = Span::new(NORMAL, ": ");
        let spans: Vec<Span<'_>> = [time, tag, colon].into_iter().chain(sentence).collect();
        return page.paragraph(2, &spans);
    };
    let (function, place) = headline::title(title, group, page.prose_width() - 2);
    page.paragraph(
        2,
        &[
            time,
            tag,
            Span::new(NORMAL, " in "),
            Span::new(BOLD, &function),
            Span::new(NORMAL, &place),
        ],
    )?;
    page.indented(2, &sentence)
}

/// The command line, and the pod, container or unit: which of the many processes of that name it is.
fn write_program(group: &Group, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let process = &group.process;
    let command = process.cmdline.as_ref().map(|words| words.join(" "));
    let command = command
        .filter(|command| !command.is_empty())
        .or_else(|| process.exe.clone());
    if let Some(command) = command {
        let command = shorten_end(&command, page.row_width());
        page.labelled("Program", &[Span::new(NORMAL, &command)])?;
    }
    match place(process) {
        Some((label, place)) => page.labelled(label, &[Span::new(NORMAL, &place)]),
        None => match process.cgroup.as_deref().filter(|cgroup| *cgroup != "/") {
            Some(cgroup) => {
                let cgroup = shorten_start(cgroup, page.row_width());
                page.labelled("Cgroup", &[Span::new(NORMAL, &cgroup)])
            }
            None => Ok(()),
        },
    }
}

/// What the place where a process runs is called by those who run it, and of which kind it is; none when
/// it has no such name.
fn place(process: &Process) -> Option<(&'static str, String)> {
    let container = process.container.as_ref();
    let Some((container, name)) = container.and_then(|known| Some((known, name(known)?))) else {
        let unit = process.unit.as_deref();
        return unit.map(|unit| ("Unit", unit.to_owned()));
    };
    let image = container.image.as_deref();
    let image = image.map(|image| format!(" ({image})")).unwrap_or_default();
    let unit = process.unit.as_deref();
    let unit = unit
        .map(|unit| format!(", unit {unit}"))
        .unwrap_or_default();
    let label = match container.pod {
        Some(_) => "Pod",
        None => "Container",
    };
    Some((label, format!("{name}{image}{unit}")))
}

/// The name of a container, after that of its pod.
fn name(container: &Container) -> Option<String> {
    let name = container.name.as_deref();
    let Some(pod) = container.pod.as_deref() else {
        return name.map(str::to_owned);
    };
    let namespace = container.namespace.as_deref().unwrap_or("?");
    let name = name.map(|name| format!(", container {name}"));
    Some(format!("{namespace}/{pod}{}", name.unwrap_or_default()))
}

/// Who opened and who holds the connections, when it is not just the process of the headline.
fn write_holders(group: &Group, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let inherited = group.verdict == Verdict::Inherited;
    let stranger = |pid| Some(pid) != group.process.pid;
    if let Some(opener) = group
        .opener
        .as_ref()
        .filter(|opener| inherited || stranger(opener.pid))
    {
        page.labelled("Opened by", &[Span::new(NORMAL, &who_opened(opener))])?;
    }
    if let [] | [_] = group.holders.as_slice()
        && !group.holders.iter().any(|holder| stranger(holder.pid))
    {
        return Ok(());
    }
    for holder in group.holders.iter().take(HOLDERS_SHOWN) {
        page.labelled("Held by", &[Span::new(NORMAL, &who_holds(holder))])?;
    }
    match group.holders.len().saturating_sub(HOLDERS_SHOWN) as u64 {
        0 => Ok(()),
        more => {
            let text = format!("and {}", things(more, "more process", "more processes"));
            page.labelled("", &[Span::new(NORMAL, &text)])
        }
    }
}

fn who_opened(opener: &Opener) -> String {
    let Opener { pid, tid, comm } = opener;
    let name = headline::name(comm);
    if pid == tid {
        format!("{name} (pid\u{a0}{pid})")
    } else {
        format!("{name} (pid\u{a0}{pid}, thread\u{a0}{tid})")
    }
}

fn who_holds(holder: &Holder) -> String {
    let Holder {
        pid,
        comm,
        fds,
        fds_total,
    } = holder;
    let name = headline::name(comm);
    let runs = ranges(fds);
    let mut listed = runs
        .iter()
        .take(DESCRIPTORS_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if runs.len() > DESCRIPTORS_SHOWN || (fds.len() as u64) < *fds_total {
        listed.push_str(", ...");
    }
    let descriptors = things(*fds_total, "descriptor", "descriptors");
    format!("{name} (pid\u{a0}{pid}), {descriptors}: {listed}")
}

fn write_sockets(group: &Group, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let shown = group.connections.len().min(SOCKETS_SHOWN);
    let more = group.connections_total.saturating_sub(shown as u64);
    for (position, connection) in group.connections.iter().take(shown).enumerate() {
        let mut text = socket(connection, group.verdict);
        if position + 1 == shown && more > 0 {
            text.push_str(&format!(" (and\u{a0}{}\u{a0}more)", count(more)));
        }
        let label = if position == 0 { "Sockets" } else { "" };
        page.labelled(label, &[Span::new(NORMAL, &text)])?;
    }
    Ok(())
}

/// `fd 7, 127.0.0.1:40112 -> 127.0.0.1:8080, 3 min 12 s`
fn socket(connection: &Connection, verdict: Verdict) -> String {
    let fds = ranges(&connection.fds);
    let mut parts = match fds.len() as u64 {
        0 if matches!(verdict, Verdict::NotAccepted | Verdict::Orphaned) => Vec::new(),
        0 => vec!["no\u{a0}fd".to_owned()],
        runs => vec![format!("fd\u{a0}{}", some_of(&fds, 3, runs))],
    };
    parts.push(format!("{} -> {}", connection.local, connection.remote));
    if verdict == Verdict::DeadFd {
        // Its addresses are in no table any more: the inode is what /proc/PID/fd shows.
        parts.push(format!("socket:[{}]", connection.inode));
    }
    parts.push(duration(connection.age_s));
    parts.join(", ")
}
