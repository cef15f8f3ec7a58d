//! Lifecycle records joined with the sockets of a survey in user space: by both ends and the network
//! namespace, because no address in the kernel is known here.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tcpleak_ebpf::Connection;

use crate::{
    probe::decode,
    process::NS_PER_TICK,
    survey::{Record, Sighting, Socket},
};

/// `EPIPE`: what a RST leaves behind that comes after the FIN.
const BROKEN_PIPE: i32 = 32;

/// Network namespace, local end, remote end.
type Ends = (u32, SocketAddr, SocketAddr);

/// The records that fit the ends of some sockets.
pub struct Records(HashMap<Ends, Vec<Record>>);

impl Records {
    /// Makes room for the records of these sockets.
    pub fn wanted<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Self {
        Self(sockets.map(|socket| (ends(socket), Vec::new())).collect())
    }

    /// Takes in a record. One whose local port is not chosen yet is that of a connection which is
    /// only being opened: it is left out.
    pub fn offer(&mut self, record: &Connection) {
        let wire = &record.ends;
        let (local, remote) = decode::ends(wire);
        if wire.local_port == 0 {
            return;
        }
        if let Some(records) = self.0.get_mut(&(wire.netns, local, remote)) {
            records.extend(decode::connection(record).map(in_ticks));
        }
    }

    /// Gives a socket its record: of several with these ends the latest, but none from after the
    /// socket was last seen open, because that one is of another connection.
    pub fn give(&self, sighting: &mut Sighting, seen_open_at: Option<Duration>) {
        let records = self.0.get(&ends(&sighting.socket)).into_iter().flatten();
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
