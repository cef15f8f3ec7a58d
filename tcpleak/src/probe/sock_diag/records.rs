//! Lifecycle records joined with the sockets of a survey in user space: by both ends and the network
//! namespace, because no address in the kernel is known here.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use tcpleak_ebpf::Connection;

use crate::{
    probe::decode,
    process::NS_PER_TICK,
    survey::{Record, Sighting, Socket, State},
};

/// `EPIPE`: what a RST leaves behind that comes after the FIN.
const BROKEN_PIPE: i32 = 32;

/// Network namespace, local end, remote end.
type Ends = (u32, SocketAddr, SocketAddr);

/// The records that fit the ends of some sockets.
#[derive(Default)]
pub struct Records {
    open: HashMap<Ends, Vec<Record>>,
    attempts: HashMap<(Ends, u32), Attempts>,
}

/// What one process tries to open between the same ends: a record is begun before the kernel chooses
/// the local port.
#[derive(Default)]
struct Attempts {
    /// The sockets, by inode number, which they get in turn.
    sockets: BTreeSet<u64>,
    /// The records, in the order of their time.
    records: Vec<Record>,
}

impl Attempts {
    /// The record of a socket. Which is which follows from their order, as long as none is missing.
    fn of(&self, inode: u64) -> Option<&Record> {
        let place = self.sockets.range(..inode).count();
        let complete = self.sockets.len() == self.records.len();
        self.records.get(place).filter(|_| complete)
    }
}

impl Records {
    /// Makes room for the records of these sockets.
    pub fn wanted<'a>(sightings: impl Iterator<Item = &'a Sighting>) -> Self {
        let mut wanted = Self::default();
        for sighting in sightings {
            let socket = &sighting.socket;
            wanted.open.entry(ends(socket)).or_default();
            if let Some(attempt) = attempt(sighting) {
                let attempts = wanted.attempts.entry(attempt).or_default();
                attempts.sockets.insert(socket.inode);
            }
        }
        wanted
    }

    /// Takes in a record.
    pub fn offer(&mut self, record: &Connection) {
        let wire = &record.ends;
        let (local, remote) = decode::ends(wire);
        let ends = (wire.netns, local, remote);
        if wire.local_port == 0 {
            if let Some(attempts) = self.attempts.get_mut(&(ends, record.opener.tgid))
                && let Some(record) = decode::connection(record).map(in_ticks)
            {
                let earlier = |known: &Record| known.opened_at <= record.opened_at;
                let place = attempts.records.partition_point(earlier);
                attempts.records.insert(place, record);
            }
        } else if let Some(records) = self.open.get_mut(&ends) {
            records.extend(decode::connection(record).map(in_ticks));
        }
    }

    /// Gives a socket its record: of several with these ends the latest, but none from after the
    /// socket was last seen open, because that one is of another connection.
    pub fn give(&self, sighting: &mut Sighting, seen_open_at: Option<Duration>) {
        let attempts = attempt(sighting).and_then(|attempt| self.attempts.get(&attempt));
        if let Some(record) = attempts.and_then(|attempts| attempts.of(sighting.socket.inode)) {
            sighting.record = Some(record.clone());
            return;
        }
        let records = self.open.get(&ends(&sighting.socket));
        let records = records.into_iter().flatten();
        let in_time = |began: &Duration| seen_open_at.is_none_or(|seen| *began <= seen);
        let latest = records
            .filter_map(|record| Some((record.opened_at.or(record.peer_gone_at)?, record)))
            .filter(|(began, _)| in_time(began))
            .max_by_key(|(began, _)| *began);
        let Some((_, record)) = latest else { return };
        if seen_open_at.is_some() {
            // Without an error it was shut down in order, which takes the peer's FIN.
            sighting.socket.fin_received |= matches!(record.end_error, 0 | BROKEN_PIPE);
            sighting.socket.error = record.end_error;
        }
        sighting.record = Some(record.clone());
    }
}

/// What a socket has in common with its record while the connection is only being opened.
fn attempt(sighting: &Sighting) -> Option<(Ends, u32)> {
    let socket = &sighting.socket;
    let holder = sighting.holder.as_ref()?;
    let without_port = SocketAddr::new(socket.local.ip(), 0);
    let ends = (socket.netns, without_port, socket.remote);
    (socket.state == State::SynSent).then_some((ends, holder.task.process.pid))
}

fn ends(socket: &Socket) -> Ends {
    (socket.netns, socket.local, socket.remote)
}

/// A process is the same one for the tracker only when it started at the same time: so the kernel's
/// nanoseconds become what `/proc` tells of holders.
fn in_ticks(mut record: Record) -> Record {
    if let Some(opener) = &mut record.opener {
        opener.process.start_ns -= opener.process.start_ns % NS_PER_TICK;
    }
    record
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
