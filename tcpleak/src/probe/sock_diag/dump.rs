//! Every TCP socket of every network namespace, as sock_diag tells of them.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};

use tcpleak_ebpf::tcp_state;

use super::{
    memory::{Open, ROOM},
    message::{self, Diag},
    netlink::Netlink,
};
use crate::{
    probe::{decode, namespaces::Namespaces},
    survey::{Counts, Socket, State},
};

/// The sockets of one dump.
#[derive(Default)]
pub struct Dump {
    /// Those that something owns, by inode number.
    pub owned: HashMap<u32, Open>,
    /// How many sockets there are.
    pub counts: Counts,
    /// How many there was no room for.
    pub left_out: u64,
    /// Closed for good, and not finished.
    pub orphans: Vec<Socket>,
    /// In CLOSE_WAIT, without an owner.
    unowned: Vec<Socket>,
    /// Network namespaces that were looked at, each with a way to ask about single sockets.
    listed: HashMap<u32, Netlink>,
    by_state: [u64; tcp_state::SLOTS],
}

impl Dump {
    /// Takes one. Fails when no network namespace can be looked at.
    pub fn take(namespaces: &mut Namespaces, now: Duration, tick: Duration) -> io::Result<Self> {
        let mut dump = Self::default();
        let mut failures = Vec::new();
        // What lies in a namespace that is not known yet is not found at all.
        namespaces.look_again();
        for (netns, netlink) in namespaces.in_each(now, || Ok(Netlink::open))? {
            let listing = netlink.and_then(|netlink| {
                netlink.dump(message::EVERY_STATE, |diag| dump.add(&diag, netns, tick))?;
                Ok(netlink)
            });
            match listing {
                Ok(netlink) => {
                    dump.listed.insert(netns, netlink);
                }
                Err(error) => failures.push(error),
            }
        }
        let missed = failures.len() as u64;
        if let Some(error) = failures.pop().filter(|_| dump.listed.is_empty()) {
            return Err(error);
        }
        dump.counts = decode::counts(dump.by_state.iter().copied(), missed);
        Ok(dump)
    }

    fn add(&mut self, diag: &Diag, netns: u32, tick: Duration) {
        if let Some(count) = self.by_state.get_mut(usize::from(diag.state)) {
            *count += 1;
        }
        // Of an MPTCP connection only a part is seen here, which tells nothing of the whole; its
        // listener takes in connections of TCP too.
        let is_part = diag.is_subflow && diag.state != tcp_state::LISTEN;
        if diag.state == tcp_state::TIME_WAIT || is_part {
            return;
        }
        let Some(socket) = socket(diag, netns, tick) else {
            return;
        };
        let open = Open {
            family: diag.family,
            id: diag.id,
            socket,
        };
        let has_room = self.owned.len() + self.unowned.len() + self.orphans.len() < 2 * ROOM;
        match (diag.inode, open.socket.state) {
            (0, State::CloseWait) if has_room => self.unowned.push(open.socket),
            (0, _) if has_room && open.socket.is_closing() => self.orphans.push(open.socket),
            (1.., _) if has_room => {
                self.owned.insert(diag.inode, open);
            }
            (0, _) => {}
            _ => self.left_out += 1,
        }
    }

    /// Sockets that wait for accept() although the peer is gone already. A socket without an owner
    /// may also be one that was just closed: one that waits has a listener with a queue.
    pub fn unaccepted(&self) -> impl Iterator<Item = &Socket> {
        let listeners = self.owned.values().map(|open| &open.socket);
        let queues: HashSet<(u32, u16)> = listeners
            .filter(|socket| socket.state == State::Listen && socket.accept_queue > 0)
            .map(port)
            .collect();
        let waits = move |socket: &&Socket| queues.contains(&port(socket));
        self.unowned.iter().filter(waits)
    }

    /// The network namespaces that were looked at.
    pub fn listed(&self) -> HashSet<u32> {
        self.listed.keys().copied().collect()
    }

    /// Whether the kernel surely has no such socket any more.
    pub fn is_gone(&self, open: &Open) -> bool {
        let netlink = self.listed.get(&open.socket.netns);
        netlink.is_some_and(|netlink| matches!(netlink.finds(open.family, &open.id), Ok(false)))
    }
}

fn port(socket: &Socket) -> (u32, u16) {
    (socket.netns, socket.local.port())
}

/// A socket as the iterators would show it. Sequence numbers are counted from the beginning of the
/// connection: what matters is whether they move.
fn socket(diag: &Diag, netns: u32, tick: Duration) -> Option<Socket> {
    let state = decode::state(diag.state)?;
    let info = diag.info.unwrap_or_default();
    // A time may have begun at the end of its tick.
    let at_least = |time: Duration| time.saturating_sub(tick);
    let (unread, unacknowledged, accept_queue, backlog) = match state {
        State::Listen => (0, 0, diag.receive_queue, diag.send_queue),
        _ => (diag.receive_queue, diag.send_queue, 0, 0),
    };
    let (received, acknowledged) = (info.bytes_received as u32, info.bytes_acked as u32);
    Some(Socket {
        address: diag.cookie,
        inode: diag.inode.into(),
        local: diag.local,
        remote: diag.remote,
        netns,
        state,
        copied_seq: received.wrapping_sub(unread),
        unread,
        write_seq: acknowledged.wrapping_add(unacknowledged),
        snd_una: acknowledged,
        // Where it is not told, it is never seen to be closed.
        receive_window: info.receive_window.unwrap_or(u32::MAX),
        since_ack: at_least(info.since_ack),
        since_data: at_least(info.since_data),
        since_sent: at_least(info.since_sent),
        last_event_at: Duration::ZERO,
        accept_queue,
        backlog,
        retransmits: info.retransmits,
        error: 0,
        fin_received: matches!(state, State::CloseWait | State::LastAck | State::Closing),
        has_owner: diag.inode != 0,
        has_file: diag.inode != 0,
    })
}
