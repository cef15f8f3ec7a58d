//! Who does what: the sentence at the top of a group. Nothing here is styled, wrapped or made
//! printable: that is the work of [`super::page`].

use textwrap::core::display_width;

use super::{
    amount::{duration, per_minute, some_of, things},
    page::{shorten_middle, shorten_start},
};
use crate::{
    report::{AgeKind, Evidence, Group, Qualifier, Severity, Title, Verdict},
    title::base_name,
};

/// How sure the group is a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A leak by its verdict and its age.
    Leak,
    /// A leak, if it is not an idle pool or a half-close in use: only watching tells.
    Likely,
    /// A leak, if it is older than is known.
    Perhaps,
    /// A leak by its verdict, but younger than --min-age.
    Young,
    /// No leak by its verdict, and stuck all the same.
    HalfDead,
    /// Open, and not used.
    Idle,
    /// No leak by its verdict.
    No,
}

impl Status {
    pub fn of(group: &Group) -> Self {
        let has = |qualifier| group.qualifiers.contains(&qualifier);
        match (group.leak, group.verdict.severity()) {
            (true, _) if has(Qualifier::LeakOrIdlePool) || has(Qualifier::RecentlySent) => {
                Self::Likely
            }
            (true, _) => Self::Leak,
            (false, Severity::Leak) if has(Qualifier::AgeUnknown) => Self::Perhaps,
            (false, Severity::Leak) => Self::Young,
            (false, Severity::HalfDead) => Self::HalfDead,
            (false, Severity::Idle) => Self::Idle,
            (false, Severity::Harmless) => Self::No,
        }
    }

    /// The tag in front of the group.
    pub fn tag(self, group: &Group) -> &'static str {
        match self {
            Self::Leak => "LEAK",
            Self::Likely if group.qualifiers.contains(&Qualifier::LeakOrIdlePool) => {
                "LEAK OR IDLE POOL"
            }
            Self::Likely => "LEAK OR IN USE",
            Self::Perhaps => "PERHAPS A LEAK",
            Self::Young => "NOT YET A LEAK",
            Self::HalfDead => "HALF DEAD",
            Self::Idle => "IDLE",
            Self::No => "NO LEAK",
        }
    }
}

/// Who: `python3 (pid 4242)`.
pub(super) fn subject(group: &Group) -> String {
    let name = name(&group.process.comm);
    let has = |qualifier| group.qualifiers.contains(&qualifier);
    let ended = if has(Qualifier::ProcessEnded) || has(Qualifier::ClosedByExit) {
        ", ended"
    } else {
        ""
    };
    match (group.process.pid, group.pids.as_slice()) {
        (None, []) => "an unknown process".into(),
        (Some(pid), [] | [_]) => format!("{name} (pid\u{a0}{pid}{ended})"),
        (_, pids) => format!("{name} (pids\u{a0}{}{ended})", some_pids(pids)),
    }
}

fn some_pids(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    some_of(&pids, 3, pids.len() as u64)
}

/// Who, as short as it can be told: `python3[4242]`, `nginx[812 and 3 more]`.
pub(super) fn short_subject(group: &Group) -> String {
    let name = name(&group.process.comm);
    let first = group.process.pid.or(group.pids.first().copied());
    match (first, group.pids.len()) {
        (None, _) => name.to_owned(),
        (Some(pid), ..=1) => format!("{name}[{pid}]"),
        (Some(pid), processes) => format!("{name}[{pid} and {} more]", processes - 1),
    }
}

/// The function to look at first and where it is, together in so many columns: `fetch_page` and
/// ` (crawl.py:42)`. A line is not broken inside the function or the place.
pub(super) fn title(title: &Title, group: &Group, width: usize) -> (String, String) {
    let module = title
        .module
        .as_deref()
        .filter(|_| title.file.is_none())
        .filter(|module| group.process.exe.as_deref() != Some(module))
        .map(base_name)
        .filter(|module| !title.function.starts_with(module));
    let place = match (&title.file, title.line) {
        (Some(file), Some(line)) => Some(format!("{}:{line}", base_name(file))),
        (Some(file), None) => Some(base_name(file).to_owned()),
        (None, _) => module.map(str::to_owned),
    };
    let place = place.map(|place| format!(" ({})", shorten_start(&place, width / 3)));
    let place = place.unwrap_or_default();
    let function = shorten_middle(&title.function, width.saturating_sub(display_width(&place)));
    let unbroken = |text: &str| text.replace(' ', "\u{a0}");
    (unbroken(&function), unbroken(&place))
}

/// A name that is never empty.
pub(super) fn name(comm: &str) -> &str {
    if comm.is_empty() {
        "a process without a name"
    } else {
        comm
    }
}

/// What the subject does: ` keeps 20 connections to 10.0.0.5:80 open that the peer closed, ...`.
pub(super) fn predicate(group: &Group) -> String {
    let those = connections(group);
    let gone = peer_closed(group);
    match (group.verdict, &group.evidence) {
        (Verdict::NotAccepted, _) => format!("has not accepted {those} {gone}"),
        (Verdict::DeadFd, _) => {
            let have = if group.count == 1 { "has" } else { "have" };
            format!(
                "holds {those} that {have} been dead in the kernel{}",
                since(group)
            )
        }
        (Verdict::HalfCloseInUse, _) => format!("still uses {those} {}", half_closed(group)),
        (
            Verdict::Inherited,
            Evidence::Inherited {
                opener_holds: Some(false),
                ..
            },
        ) => {
            format!("holds {those} that it did not open and {gone}")
        }
        (
            Verdict::Inherited,
            Evidence::Inherited {
                holding_processes, ..
            },
        ) => {
            let others = things(
                holding_processes.saturating_sub(1),
                "other process",
                "other processes",
            );
            format!("shares {those} with {others}, {gone}")
        }
        (Verdict::ReaderStuck, _) => format!("leaves data unread on {those} {gone}"),
        (Verdict::ReaderStalled, _) => {
            format!("has stopped reading {those}{}", since(group))
        }
        (Verdict::Pooled, _) => format!("keeps {those} idle in a pool {gone}"),
        (Verdict::EofIgnored, _) => {
            format!("keeps {those} open {gone}, although it has read the end of file")
        }
        (Verdict::FinWait2Held, _) => format!(
            "keeps {those} open that it has shut down and the peer has not{}",
            since(group)
        ),
        (Verdict::Orphaned, _) => format!(
            "has closed {those}, and the peer does not take the rest{}",
            since(group)
        ),
        (Verdict::SynSent, _) => {
            format!("gets no answer to {those}{}", since(group))
        }
        (Verdict::OpenIdle, _) => format!("keeps {those} open and idle{}", since(group)),
        (Verdict::Inherited | Verdict::EofConsumed | Verdict::EofUnread, _) => {
            format!("keeps {those} open {gone}")
        }
    }
}

/// ` to 10.0.0.5:80`: the connections by what they have in common.
fn connections(group: &Group) -> String {
    let number = things(group.count, "connection", "connections");
    let Group {
        endpoint, remote, ..
    } = group;
    if group.verdict == Verdict::NotAccepted {
        return format!("{number} on {endpoint}");
    }
    let opened = remote.as_ref() == Some(endpoint)
        || group
            .connections
            .first()
            .is_some_and(|connection| connection.remote == *endpoint);
    match remote {
        _ if opened => format!("{number} to {endpoint}"),
        Some(remote) => format!("{number} from {remote} (accepted on {endpoint})"),
        None => format!("{number} accepted on {endpoint}"),
    }
}

/// `that the peer closed, the oldest 3 min 12 s ago`
fn peer_closed(group: &Group) -> String {
    let age = age(group);
    match group.count {
        1 => format!("that the peer closed {age} ago"),
        _ => format!("that the peer closed, the oldest {age} ago"),
    }
}

/// `whose peer has closed its half, the oldest 3 min 12 s ago`
fn half_closed(group: &Group) -> String {
    let age = age(group);
    match group.count {
        1 => format!("whose peer closed its half {age} ago"),
        _ => format!("whose peer closed its half, the oldest {age} ago"),
    }
}

/// `, the oldest for 3 min 12 s`
fn since(group: &Group) -> String {
    let age = age(group);
    match group.count {
        1 => format!(" for {age}"),
        _ => format!(", the oldest for {age}"),
    }
}

/// `3 min 12 s`, with `at least` when only that is known.
pub(super) fn age(group: &Group) -> String {
    let age = duration(group.oldest_s);
    match group.age_kind {
        AgeKind::Exact => age,
        AgeKind::AtLeast if group.oldest_s < 1.0 => "an unknown time".into(),
        AgeKind::AtLeast => format!("at\u{a0}least {age}"),
    }
}

/// `growing by 60 per minute`
pub(super) fn growth(group: &Group) -> Option<String> {
    let growing = group.qualifiers.contains(&Qualifier::Growing);
    match group.growth_per_min {
        Some(rate) if growing && rate > 0.0 => Some(format!("growing by {}", per_minute(rate))),
        _ if growing => Some("growing".into()),
        _ => None,
    }
}
