//! The connections that the surveys so far have seen open.
//!
//! A connection that is dead in the kernel is in no table: what is left of it is a descriptor, which
//! looks like that of a socket never connected. Only who saw it open can tell.
//!
//! A socket's inode number stands for it here. The kernel gives these numbers in turn and comes back
//! to one after four thousand million others, and one that nobody holds any more is forgotten at
//! the next survey: so it is never taken for another's.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::message::SocketId;
use crate::survey::{Socket, State};

/// Most connections that are remembered.
pub const ROOM: usize = 262_144;

/// A socket that was found open.
#[derive(Clone, Debug)]
pub struct Open {
    /// As it was seen.
    pub socket: Socket,
    /// What names it to the kernel.
    pub id: SocketId,
    /// Its address family.
    pub family: u8,
}

/// What is known of a connection that was seen open.
#[derive(Clone, Debug)]
struct Known {
    open: Open,
    seen_at: Duration,
    /// The first survey that found it dead.
    dead_at: Option<Duration>,
}

/// The connections that were seen open, by inode number.
#[derive(Debug, Default)]
pub struct Memory(HashMap<u32, Known>);

impl Memory {
    /// What a held socket was that no table of these network namespaces has any more.
    pub fn lost(&self, inode: u32, listed: &HashSet<u32>) -> Option<&Open> {
        let known = self.0.get(&inode)?;
        // Of a namespace that was not looked at this time nothing is known.
        listed
            .contains(&known.open.socket.netns)
            .then_some(&known.open)
    }

    /// Whether it was dead already.
    pub fn is_known_dead(&self, inode: u32) -> bool {
        self.0
            .get(&inode)
            .is_some_and(|known| known.dead_at.is_some())
    }

    /// Takes in a survey: what is open now, and which of the others are dead but held. The rest is
    /// forgotten, but for connections of network namespaces that were not looked at. Returns how
    /// many there was no room for.
    pub fn update(
        &mut self,
        open: impl IntoIterator<Item = (u32, Open)>,
        dead: &HashSet<u32>,
        listed: &HashSet<u32>,
        now: Duration,
    ) -> u64 {
        self.0.retain(|inode, known| {
            dead.contains(inode) || !listed.contains(&known.open.socket.netns)
        });
        for inode in dead {
            if let Some(known) = self.0.get_mut(inode) {
                known.dead_at.get_or_insert(now);
            }
        }
        let mut left_out = 0;
        for (inode, open) in open {
            if !was_connected(open.socket.state) {
                continue;
            }
            if self.0.len() >= ROOM && !self.0.contains_key(&inode) {
                left_out += 1;
                continue;
            }
            let known = Known {
                open,
                seen_at: now,
                dead_at: None,
            };
            self.0.insert(inode, known);
        }
        left_out
    }

    /// A dead connection as its socket has it, and when it was last seen open.
    pub fn dead(&self, inode: u32, now: Duration) -> Option<(Socket, Duration)> {
        let known = self.0.get(&inode)?;
        let passed = now.saturating_sub(known.seen_at);
        let mut socket = known.open.socket.clone();
        socket.fin_received = socket.state != State::Established;
        // It was not shut down here: a RST came after the FIN, unless a record knows better.
        if socket.state == State::CloseWait {
            socket.error = CONNECTION_RESET;
        }
        socket.state = State::Close;
        socket.since_ack += passed;
        socket.since_data += passed;
        socket.since_sent += passed;
        socket.last_event_at = known.dead_at?;
        Some((socket, known.seen_at))
    }
}

/// `ECONNRESET`
const CONNECTION_RESET: i32 = 104;

/// Whether a state is one that only a connection comes to.
fn was_connected(state: State) -> bool {
    !matches!(
        state,
        State::Listen | State::SynSent | State::SynRecv | State::Close | State::TimeWait
    )
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
