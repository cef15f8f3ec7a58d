//! Connections that are not leaked by the program alone, and that nothing ends soon: the peer does not
//! answer, does not close its half, or does not take the rest; or, when asked for, nobody uses them.
//!
//! A busy host has some of each at any moment. So one is told only once it has stood for `--min-age`.

use std::time::Duration;

use super::{Age, Evidence, Rules};
use crate::{survey::State, tracker::Connection};

/// What the evidence says, and for how long the connection has been so; `None` for one that is healthy
/// or that has not stood for long enough.
pub(super) fn weigh(
    connection: &Connection,
    rules: Rules,
    now: Duration,
) -> Option<(Evidence, Age)> {
    let is_held = !connection.holders.is_empty();
    match connection.socket.state {
        State::FinWait2 if is_held => fin_wait2(connection, rules, now),
        State::SynSent if is_held => syn_sent(connection, rules, now),
        State::Established if is_held => open_idle(connection, rules),
        State::FinWait1 | State::Closing | State::LastAck if connection.is_orphaned() => {
            orphaned(connection, rules, now)
        }
        _ => None,
    }
}

/// The half that the peer still sends on may be in use for as long as it likes.
fn fin_wait2(connection: &Connection, rules: Rules, now: Duration) -> Option<(Evidence, Age)> {
    let socket = &connection.socket;
    // The acknowledgement of the FIN is the last one, or came before it.
    let age = closed_age(connection, now, socket.since_ack);
    // Only a survey that was not the first to see it so can have seen a read.
    let was_read = connection.unread_since > connection.state_since;
    let unused = match was_read {
        true => socket
            .since_data
            .min(now.saturating_sub(connection.unread_since)),
        false => socket.since_data,
    };
    let evidence = Evidence::FinWait2Held {
        since_data: socket.since_data,
    };
    (age.at_least.min(unused) >= rules.min_age).then_some((evidence, age))
}

/// A peer that takes a long answer slowly is no trouble: what was acknowledged last must be so for long.
fn orphaned(connection: &Connection, rules: Rules, now: Duration) -> Option<(Evidence, Age)> {
    let socket = &connection.socket;
    let age = closed_age(connection, now, Duration::ZERO);
    let stuck = now.saturating_sub(connection.unacknowledged_since);
    let evidence = Evidence::Orphaned {
        // The FIN counts as one.
        unacknowledged_bytes: socket
            .write_seq
            .wrapping_sub(socket.snd_una)
            .saturating_sub(1),
        since_ack: socket.since_ack,
    };
    (age.at_least.min(stuck) >= rules.min_age).then_some((evidence, age))
}

fn syn_sent(connection: &Connection, rules: Rules, now: Duration) -> Option<(Evidence, Age)> {
    let socket = &connection.socket;
    let opened_at = connection
        .record
        .as_ref()
        .and_then(|record| record.opened_at);
    let age = match opened_at {
        Some(at) => Age::exact(now.saturating_sub(at)),
        None => {
            // Nothing but sending the SYN has the kernel look at it.
            let sent_at = match socket.last_event_at {
                Duration::ZERO => now,
                at => at,
            };
            Age::at_least(now.saturating_sub(sent_at.min(connection.state_since)))
        }
    };
    let evidence = Evidence::SynSent {
        retransmits: socket.retransmits,
    };
    (age.at_least >= rules.min_age).then_some((evidence, age))
}

fn open_idle(connection: &Connection, rules: Rules) -> Option<(Evidence, Age)> {
    let socket = &connection.socket;
    let idle = socket.since_data.min(socket.since_sent);
    (idle >= rules.open?).then_some((Evidence::OpenIdle { idle }, Age::exact(idle)))
}

/// Since the program closed its half.
fn closed_age(connection: &Connection, now: Duration, proven: Duration) -> Age {
    let closed_at = connection
        .record
        .as_ref()
        .and_then(|record| record.closed_at);
    match closed_at {
        Some(at) => Age::exact(now.saturating_sub(at)),
        None => Age::at_least(proven.max(now.saturating_sub(connection.state_since))),
    }
}
