//! The counts of who closes connections first.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use tcpleak_ebpf::{self as wire, CLOSE_SPAN, CLOSE_SPANS, ClosesOf};

use super::{clock, decode, losses};
use crate::{
    ports::{Closes, Place},
    survey::ProcessId,
};

/// Most counts that are read at once: twice what the map holds, because a read begins anew when the count
/// that it stands at goes away.
const COUNTS: usize = 2 * 8192;

/// Spans that are kept, the current one included: those before it make a minute, for which a socket stays in
/// TIME_WAIT, so that none outlives the count of who closed it.
const KEPT: u64 = CLOSE_SPANS as u64;

/// What was counted.
#[derive(Debug, Default)]
pub struct Taken {
    /// What happened in the last minute.
    pub closes: Vec<Closes>,
    /// How many closes there was no room for, since tracing began.
    pub dropped: u64,
}

/// Takes the counts of the last minute, and removes older ones.
pub fn take(ebpf: &mut Ebpf) -> Taken {
    let dropped = losses::closes_dropped(ebpf);
    let map = ebpf
        .map_mut("CLOSES")
        .and_then(|map| HashMap::<&mut MapData, ClosesOf, wire::Closes>::try_from(map).ok());
    let Some(mut map) = map else {
        return Taken::default();
    };
    let now = u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX) >> CLOSE_SPAN;
    let mut closes = Vec::new();
    let mut old = Vec::new();
    for (of, counted) in map.iter().take(COUNTS).filter_map(Result::ok) {
        match recent(&counted, now) {
            0 => old.push(of),
            recent => closes.push(decode_one(&of, &counted, recent)),
        }
    }
    for of in old {
        // It may have been counted again in between: that is one close less.
        let _ = map.remove(&of);
    }
    Taken { closes, dropped }
}

/// How many there were in the last minute, when it is now the span of this number.
fn recent(counted: &wire::Closes, now: u64) -> u64 {
    let spans = counted.spans.iter();
    spans
        .filter(|span| {
            let number = *span >> 32;
            number <= now && number + KEPT > now
        })
        .map(|span| span & u64::from(u32::MAX))
        .sum()
}

fn decode_one(of: &ClosesOf, counted: &wire::Closes, recent: u64) -> Closes {
    let source = address(of.local);
    Closes {
        netns: of.netns,
        place: match of.passive {
            0 => Place::Opened {
                source,
                destination: SocketAddr::new(address(of.remote), of.port),
            },
            _ => Place::Accepted {
                local: SocketAddr::new(source, of.port),
            },
        },
        process: ProcessId {
            pid: of.tgid,
            start_ns: of.start_ns,
        },
        comm: decode::name(&counted.comm),
        path: (of.path != 0).then_some(of.path),
        closing: of.closing != 0,
        recent,
        bound: counted.bound * 2 > counted.count,
    }
}

fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One in the span of the first of these numbers, two in that of the next, then four, and so on.
    fn counted(numbers: std::ops::Range<u64>) -> wire::Closes {
        let mut counted = wire::Closes::default();
        for (position, number) in numbers.enumerate() {
            counted.spans[(number % KEPT) as usize] = number << 32 | 1 << position;
        }
        counted
    }

    #[test]
    fn the_last_minute_is_told_to_its_end() {
        let counted = counted(8..16);
        assert_eq!(recent(&counted, 15), 255);
        assert_eq!(recent(&counted, 16), 254);
        assert_eq!(recent(&counted, 22), 128);
        assert_eq!(recent(&counted, 23), 0);
    }

    #[test]
    fn the_first_minute_of_a_machine_is_shorter() {
        assert_eq!(recent(&counted(0..2), 1), 3);
    }

    #[test]
    fn an_accepted_connection_has_its_own_end_in_common() {
        let of = ClosesOf {
            local: Ipv6Addr::LOCALHOST.octets(),
            port: 80,
            passive: 1,
            ..ClosesOf::default()
        };
        let local = "[::1]:80".parse().unwrap();
        assert_eq!(
            decode_one(&of, &counted(0..1), 3).place,
            Place::Accepted { local }
        );
    }
}
