//! The survey where the kernel has no iterators: sockets by sock_diag, holders by `/proc`.
//!
//! It tells less, and what it cannot prove it leaves out. Sockets come before their holders: one
//! that is closed in between has no holder and is passed over. A socket that is held, that no table
//! has, and that an earlier survey saw open, is dead. Then the kernel is asked for it once more, by
//! name, because a dump of a table that changes may pass one over.

mod dump;
mod holders;
mod memory;
pub(super) mod message;
pub(super) mod netlink;
mod records;
#[cfg(test)]
mod test_socket;

use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap as BpfMap, MapData},
};
use tcpleak_ebpf::Connection;

use self::{
    dump::Dump,
    holders::Descriptor,
    memory::{Memory, Open},
    netlink::Netlink,
    records::Records,
};
use super::{clock, namespaces::Namespaces};
use crate::survey::{Counts, Holder, Sighting, Socket, State};

/// Most sightings of one survey.
const SIGHTINGS: usize = 262_144;

/// Most lifecycle records that are read for one survey: twice what the map holds, because a read
/// begins anew when the record that it stands at goes away.
const RECORDS: usize = 2 * 262_144;

/// The survey, and what it remembers.
#[derive(Default)]
pub struct SockDiag {
    namespaces: Namespaces,
    memory: Memory,
    tick: Duration,
    open: Option<Duration>,
    left_out: u64,
    forbidden: u64,
}

impl SockDiag {
    /// Tries it. Connections that are idle for as long as `open` says will be shown too. Fails in the
    /// kernel's words when this way is closed too.
    pub fn open(open: Option<Duration>) -> io::Result<Self> {
        Netlink::open()?.dump(message::LISTENERS, drop)?;
        Ok(Self {
            tick: clock::tick(),
            open,
            ..Self::default()
        })
    }

    /// Reads every TCP socket of the host. Those that are healthy are shown only of processes that
    /// are suspect. The records of the lifecycle programs go with them, where these are attached.
    pub fn survey(
        &mut self,
        ebpf: Option<&Ebpf>,
        suspects: &HashSet<u32>,
    ) -> io::Result<(Vec<Sighting>, Counts)> {
        let mut dump = Dump::take(&mut self.namespaces, clock::now(), self.tick)?;
        let now = clock::now();
        let held = self.held(&mut dump, suspects);
        let counts = dump.counts;
        let unheld = dump.unaccepted().chain(&dump.orphans).cloned();
        let mut found: Vec<Found> = unheld.map(Found::unheld).collect();
        let listed = dump.listed();
        let owned = &dump.owned;
        let dead = held.iter().map(|(_, inode)| *inode);
        let dead: HashSet<u32> = dead.filter(|inode| !owned.contains_key(inode)).collect();
        for (holder, inode) in &held {
            if let Some(open) = owned.get(inode) {
                found.push(Found::held(open.socket.clone(), holder, None));
            }
        }
        let left_out = dump.left_out + self.memory.update(dump.owned, &dead, &listed, now);
        self.left_out = self.left_out.max(left_out);
        for (holder, inode) in held.iter().filter(|(_, inode)| dead.contains(inode)) {
            if let Some((socket, seen_open_at)) = self.memory.dead(*inode, now) {
                found.push(Found::held(socket, holder, Some(seen_open_at)));
            }
        }
        if let Some(ebpf) = ebpf {
            join(ebpf, &mut found);
        }
        let sightings = found.into_iter().map(|found| found.sighting).collect();
        Ok((sightings, counts))
    }

    /// Most sockets that a survey had no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Processes that the latest survey was not allowed to look into.
    pub fn forbidden(&self) -> u64 {
        self.forbidden
    }

    /// The descriptors of the sockets that matter, with the inode numbers of these.
    fn held(&mut self, dump: &mut Dump, suspects: &HashSet<u32>) -> Vec<(Holder, u32)> {
        let listed = dump.listed();
        let mut judged: HashMap<u32, bool> = HashMap::new();
        let wanted = |descriptor: &Descriptor<'_>| match dump.owned.get(&descriptor.inode) {
            Some(open) => {
                is_remarkable(&open.socket, self.open) || suspects.contains(&descriptor.pid())
            }
            None => match self.memory.lost(descriptor.inode, &listed) {
                Some(open) => *judged
                    .entry(descriptor.inode)
                    .or_insert_with(|| is_dead(&self.memory, dump, open, descriptor)),
                None => false,
            },
        };
        let mut held = Vec::new();
        let mut left_out = 0;
        self.forbidden = holders::visit(wanted, |holder, inode| {
            if held.len() < SIGHTINGS {
                held.push((holder, inode));
            } else {
                left_out += 1;
            }
        });
        dump.left_out += left_out;
        held
    }
}

/// Whether a socket that is held, and in no table, is what is left of a connection that was open.
fn is_dead(memory: &Memory, dump: &Dump, open: &Open, of: &Descriptor<'_>) -> bool {
    memory.is_known_dead(of.inode) || (of.is_tcp() && dump.is_gone(open) && !of.is_disconnected())
}

/// Whether a survey must know more about a socket, whoever holds it: it listens, its peer is gone, does
/// not answer or does not close its half, it has closed its window, or it is as idle as was asked for.
fn is_remarkable(socket: &Socket, open: Option<Duration>) -> bool {
    match socket.state {
        State::Listen | State::CloseWait | State::SynSent | State::FinWait2 => true,
        State::Established => {
            let is_idle = |open| socket.since_data.min(socket.since_sent) >= open;
            (socket.receive_window == 0 && socket.unread > 0) || open.is_some_and(is_idle)
        }
        _ => false,
    }
}

/// A sighting, and when its dead connection was last seen open.
struct Found {
    sighting: Sighting,
    seen_open_at: Option<Duration>,
}

impl Found {
    fn unheld(socket: Socket) -> Self {
        Self {
            sighting: Sighting {
                socket,
                record: None,
                holder: None,
            },
            seen_open_at: None,
        }
    }

    fn held(socket: Socket, holder: &Holder, seen_open_at: Option<Duration>) -> Self {
        Self {
            sighting: Sighting {
                socket,
                record: None,
                holder: Some(holder.clone()),
            },
            seen_open_at,
        }
    }
}

/// Reads the lifecycle records once, and gives each socket its own.
fn join(ebpf: &Ebpf, found: &mut [Found]) {
    let map = ebpf
        .map("CONNECTIONS")
        .and_then(|map| BpfMap::<&MapData, u64, Connection>::try_from(map).ok());
    let Some(map) = map.filter(|_| !found.is_empty()) else {
        return;
    };
    let mut records = Records::wanted(found.iter().map(|found| &found.sighting));
    for (_, record) in map.iter().take(RECORDS).filter_map(Result::ok) {
        records.offer(&record);
    }
    for found in found {
        records.give(&mut found.sighting, found.seen_open_at);
    }
}
