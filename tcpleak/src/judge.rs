//! Says what the evidence about one connection means.
//!
//! Pure: the first verdict that fits, in the order of `docs/verdicts.md`. Each verdict carries the
//! evidence it rests on, so that the reader can disagree.

mod at_exit;
mod half_dead;

use std::time::Duration;

pub use at_exit::judge_end;

use crate::{
    report::{Qualifier, Verdict},
    survey::{Birth, State},
    tracker::{Connection, Tracker},
};

/// errno of a connection whose peer stopped answering.
const ETIMEDOUT: i32 = 110;

/// How much was asked, and how patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long the peer must be gone before a connection counts as leaked.
    pub min_age: Duration,
    /// How long an open connection must be idle to be told; `None`: none is.
    pub open: Option<Duration>,
    /// Whether connections were traced, and surveyed more than once: without, some verdicts can only
    /// be hinted at.
    pub watching: bool,
    /// Whether the kernel lets connections be traced at all.
    pub traceable: bool,
}

/// What the evidence about one connection means.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the verdict is a leak and has lasted long enough.
    pub leak: bool,
    /// Time since the peer went away, or since whatever else the verdict says.
    pub age: Age,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// What else is true.
    pub qualifiers: Vec<Qualifier>,
}

/// Time since the peer went away, or since whatever else the verdict says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// At least this long.
    pub at_least: Duration,
    /// At most this long.
    pub at_most: Duration,
    /// Whether it was measured.
    pub exact: bool,
}

impl Age {
    fn exact(time: Duration) -> Self {
        Self {
            at_least: time,
            at_most: time,
            exact: true,
        }
    }

    /// Nothing is known of an upper bound.
    fn at_least(time: Duration) -> Self {
        Self {
            at_least: time,
            at_most: time,
            exact: false,
        }
    }
}

/// What a verdict about one connection rests on.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Evidence {
    NotAccepted {
        accept_queue: u32,
        backlog: u32,
    },
    DeadFd(End),
    HalfCloseInUse {
        sending: bool,
        reading: bool,
    },
    Inherited {
        opener_holds: Option<bool>,
    },
    ReaderStuck {
        unread_bytes: u32,
    },
    ReaderStalled {
        unread_bytes: u32,
        window_bytes: u32,
    },
    Pooled {
        reused: u64,
        evicted: u64,
    },
    EofIgnored {
        since: Duration,
    },
    Eof {
        fin_unread: bool,
    },
    FinWait2Held {
        since_data: Duration,
    },
    Orphaned {
        unacknowledged_bytes: u32,
        since_ack: Duration,
    },
    SynSent {
        retransmits: u8,
    },
    OpenIdle {
        idle: Duration,
    },
}

/// How a dead connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer sent a RST, no FIN came before it.
    Reset,
    /// The peer sent a FIN, a RST followed.
    FinThenReset,
    /// Both sides shut down, the descriptor was never closed.
    ShutDownInOrder,
    /// The peer stopped answering.
    TimedOut,
}

/// Judges one connection; `None` when its peer is there and it moves.
pub fn judge(tracker: &Tracker, connection: &Connection, rules: Rules) -> Option<Judgement> {
    let now = tracker.now();
    let stalled = is_stalled(connection, rules);
    if !connection.socket.peer_gone() && !stalled {
        let (evidence, age) = half_dead::weigh(connection, rules, now)?;
        let verdict = evidence.verdict();
        return Some(Judgement {
            verdict,
            leak: false,
            age,
            qualifiers: qualifiers(connection, rules, verdict, now),
            evidence,
        });
    }
    let age = if stalled {
        stalled_age(connection, now)
    } else {
        gone_age(connection, now)
    };
    let evidence = weigh(tracker, connection, rules);
    let verdict = evidence.verdict();
    let mut qualifiers = qualifiers(connection, rules, verdict, now);
    if verdict.is_leak()
        && age.at_least < rules.min_age
        && rules.min_age <= age.at_most
        && !age.exact
    {
        qualifiers.push(Qualifier::AgeUnknown);
    }
    Some(Judgement {
        verdict,
        leak: verdict.is_leak()
            && age.at_least >= rules.min_age
            && is_settled(tracker, connection, verdict, rules),
        age,
        evidence,
        qualifiers,
    })
}

/// The first evidence that fits, in the order of the verdicts.
fn weigh(tracker: &Tracker, connection: &Connection, rules: Rules) -> Evidence {
    let (socket, now) = (&connection.socket, tracker.now());
    let lately =
        |at: Option<Duration>| at.is_some_and(|at| now.saturating_sub(at) < patience(rules));
    if connection.is_unaccepted() {
        let waiting = tracker
            .listeners_of(socket)
            .map(|listener| &listener.socket);
        let (accept_queue, backlog) = waiting
            .map(|listener| (listener.accept_queue, listener.backlog))
            .max()
            .unwrap_or_default();
        return Evidence::NotAccepted {
            accept_queue,
            backlog,
        };
    }
    if socket.state == State::Close {
        return Evidence::DeadFd(end(connection));
    }
    let unread_bytes = socket.unread_bytes();
    if socket.state == State::Established {
        return Evidence::ReaderStalled {
            unread_bytes,
            window_bytes: socket.receive_window,
        };
    }
    let (sending, reading) = (lately(connection.sent_at), lately(connection.read_at));
    if sending || reading {
        return Evidence::HalfCloseInUse { sending, reading };
    }
    let opener_holds = connection
        .opener()
        .map(|opener| connection.held_by(opener.process));
    let strangers_only = opener_holds == Some(false) && !connection.holders.is_empty();
    if connection.holding_processes() > 1 || strangers_only {
        return Evidence::Inherited { opener_holds };
    }
    if socket.unread > 1 {
        return Evidence::ReaderStuck { unread_bytes };
    }
    let fin_unread = socket.unread == 1;
    if fin_unread
        && let Some(family) = tracker.family(connection)
        && family.is_active(now)
        && !family.grows()
        && tracker.surveys() > 1
    {
        return Evidence::Pooled {
            reused: family.reused,
            evicted: family.evicted,
        };
    }
    match connection
        .record
        .as_ref()
        .and_then(|record| record.eof_read_at)
    {
        Some(at) => Evidence::EofIgnored {
            since: now.saturating_sub(at),
        },
        None => Evidence::Eof { fin_unread },
    }
}

impl Evidence {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotAccepted { .. } => Verdict::NotAccepted,
            Self::DeadFd(_) => Verdict::DeadFd,
            Self::HalfCloseInUse { .. } => Verdict::HalfCloseInUse,
            Self::Inherited { .. } => Verdict::Inherited,
            Self::ReaderStuck { .. } => Verdict::ReaderStuck,
            Self::ReaderStalled { .. } => Verdict::ReaderStalled,
            Self::Pooled { .. } => Verdict::Pooled,
            Self::EofIgnored { .. } => Verdict::EofIgnored,
            Self::Eof { fin_unread: false } => Verdict::EofConsumed,
            Self::Eof { fin_unread: true } => Verdict::EofUnread,
            Self::FinWait2Held { .. } => Verdict::FinWait2Held,
            Self::Orphaned { .. } => Verdict::Orphaned,
            Self::SynSent { .. } => Verdict::SynSent,
            Self::OpenIdle { .. } => Verdict::OpenIdle,
        }
    }
}

/// Whether a verdict that another survey may overturn has stood long enough. A half-close in use shows
/// itself at the second survey; a pool at the fourth, because only a process that holds a connection
/// without a peer has its healthy ones surveyed, and these must be seen three times to be seen used
/// again. What the first survey of all finds is told at once, unless data was sent lately.
fn is_settled(tracker: &Tracker, connection: &Connection, verdict: Verdict, rules: Rules) -> bool {
    let needed = match verdict {
        Verdict::EofUnread => 4,
        Verdict::ReaderStuck | Verdict::EofIgnored | Verdict::EofConsumed => 2,
        _ => 0,
    };
    !rules.watching
        || connection.times_gone >= needed
        || (tracker.surveys() == connection.times_gone
            && !has_sent_lately(connection, tracker.now(), rules))
}

/// Whether data was sent after the FIN, as far as one survey can tell, and not long ago.
fn has_sent_lately(connection: &Connection, now: Duration, rules: Rules) -> bool {
    let since_sent = connection.socket.since_sent;
    connection.socket.state == State::CloseWait
        && now.saturating_sub(since_sent) > connection.gone.earliest
        && since_sent < patience(rules)
}

/// How long a half-closed connection that stopped moving still counts as in use.
fn patience(rules: Rules) -> Duration {
    rules.min_age.max(Duration::from_secs(1))
}

/// A connection that has closed its window and is not read. It takes two surveys: a window that is
/// closed for a moment is flow control at work.
fn is_stalled(connection: &Connection, rules: Rules) -> bool {
    let socket = &connection.socket;
    rules.watching
        && socket.state == State::Established
        && socket.receive_window == 0
        && socket.unread > 0
}

fn stalled_age(connection: &Connection, now: Duration) -> Age {
    // What was before the first look may have been flow control: it does not count.
    Age::at_least(now.saturating_sub(connection.unread_since))
}

fn gone_age(connection: &Connection, now: Duration) -> Age {
    let gone = connection.gone;
    Age {
        at_least: now.saturating_sub(gone.latest),
        at_most: now.saturating_sub(gone.earliest),
        exact: gone.exact,
    }
}

fn end(connection: &Connection) -> End {
    let socket = &connection.socket;
    // Of a connection that was open before the tracer it is not known whether it was shut down here;
    // then a pending error tells, which a RST leaves behind.
    let record = connection.record.as_ref();
    let may_be_shut_down =
        record.is_none_or(|record| record.closed_at.is_some() || record.opened_at.is_none());
    let error = record.map_or(0, |record| record.end_error);
    // A RST leaves its error until after the end was traced. An error that is gone by then is that of
    // a time-out: the kernel wakes the program first, and a quick one has fetched it.
    let was_fetched = record.is_some_and(|record| record.peer_gone_at.is_some());
    match (
        socket.fin_received,
        if error != 0 { error } else { socket.error },
    ) {
        (_, ETIMEDOUT) => End::TimedOut,
        (false, 0) if was_fetched => End::TimedOut,
        (false, _) => End::Reset,
        (true, 0) if may_be_shut_down => End::ShutDownInOrder,
        (true, _) => End::FinThenReset,
    }
}

fn qualifiers(
    connection: &Connection,
    rules: Rules,
    verdict: Verdict,
    now: Duration,
) -> Vec<Qualifier> {
    let mut qualifiers = Vec::new();
    let record = connection.record.as_ref();
    if !rules.traceable && verdict != Verdict::NotAccepted {
        qualifiers.push(Qualifier::NotTraced);
    } else if rules.watching && verdict != Verdict::NotAccepted {
        match record.map(|record| (record.birth, &record.opener, record.origin)) {
            None | Some((Birth::BeforeTracer, ..)) => qualifiers.push(Qualifier::BeforeTracer),
            Some((_, None, _)) => qualifiers.push(Qualifier::OwnerFromSurvey),
            Some((_, Some(_), None)) => qualifiers.push(Qualifier::NotSampled),
            Some((_, Some(_), Some(_))) => {}
        }
    }
    if connection.holders.is_empty() && connection.socket.has_file {
        qualifiers.push(Qualifier::HeldWithoutDescriptor);
    }
    if !rules.watching {
        if has_sent_lately(connection, now, rules) {
            qualifiers.push(Qualifier::RecentlySent);
        }
        if verdict == Verdict::EofUnread {
            qualifiers.push(Qualifier::LeakOrIdlePool);
        }
    }
    qualifiers
}
