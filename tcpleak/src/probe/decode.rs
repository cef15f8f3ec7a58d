//! Kernel records into the words of the tracker.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use aya::Pod;
use tcpleak_ebpf::{self as wire, PathHeader, birth, path_kind, tcp_state};

use crate::{
    code_path::{Capture, Chain, Link, Registers, Stack},
    survey::{Birth, Counts, Holder, ProcessId, Record, Sighting, Socket, State, Task, Use},
};

/// One record of a survey. `None` when it is cut short or in a state that no survey asks for.
pub fn sighting(bytes: &[u8], tick: Duration) -> Option<Sighting> {
    let record: wire::Sighting = read(bytes)?;
    Some(Sighting {
        socket: socket(&record.socket, tick)?,
        record: connection(&record.connection),
        holder: task(&record.holder).map(|task| Holder {
            task,
            fd: record.fd,
        }),
    })
}

/// One captured code path. `None` when it is cut short.
pub fn capture(bytes: &[u8]) -> Option<Capture> {
    let header: PathHeader = read(bytes)?;
    let payload = bytes.get(size_of::<PathHeader>()..)?;
    let (payload, links) = payload.split_at_checked(usize::try_from(header.length).ok()?)?;
    Some(Capture {
        fingerprint: header.fingerprint,
        process: process(&header.task),
        comm: name(&header.task.comm),
        image: header.image,
        code_pages: header.code_pages,
        in_ring_call: header.in_ring_call != 0,
        of_one: header.of_one != 0,
        stack: match header.kind {
            path_kind::STACK => Stack::Copied {
                registers: Registers {
                    pc: header.pc,
                    sp: header.sp,
                    fp: header.fp,
                    lr: header.lr,
                },
                bytes: payload.to_vec(),
            },
            path_kind::FRAME_POINTERS => Stack::Walked(
                payload
                    .as_chunks()
                    .0
                    .iter()
                    .map(|word| u64::from_ne_bytes(*word))
                    .take_while(|address| *address != 0)
                    .collect(),
            ),
            path_kind::IO_URING => Stack::IoUring,
            path_kind::STARTED => Stack::NotYet,
            _ => return None,
        },
        chain: Chain {
            known: header.chain != 0,
            links: links
                .chunks(size_of::<wire::Link>())
                .take(usize::try_from(header.links).ok()?.min(wire::LINKS))
                .filter_map(read::<wire::Link>)
                .map(|link| Link {
                    address: link.address,
                    code: link.code,
                    at: link.at,
                    kind: link.kind,
                })
                .collect(),
        },
    })
}

fn socket(socket: &wire::Socket, tick: Duration) -> Option<Socket> {
    let (local, remote) = ends(&socket.ends);
    Some(Socket {
        address: socket.address,
        inode: socket.inode,
        local,
        remote,
        netns: socket.ends.netns,
        state: state(socket.state)?,
        copied_seq: socket.copied_seq,
        unread: socket.rcv_nxt.wrapping_sub(socket.copied_seq),
        write_seq: socket.write_seq,
        snd_una: socket.snd_una,
        receive_window: socket.receive_window,
        since_ack: at_least(socket.last_ack_jiffies, tick),
        since_data: at_least(socket.last_data_jiffies, tick),
        since_sent: at_least(socket.last_sent_jiffies, tick),
        last_event_at: Duration::from_nanos(socket.last_event_at),
        accept_queue: socket.accept_queue,
        backlog: socket.backlog,
        retransmits: socket.retransmits,
        error: socket.error.saturating_abs(),
        fin_received: socket.fin_received != 0,
        has_owner: socket.has_socket != 0,
        has_file: socket.has_file != 0,
    })
}

/// Between two moments that are so many ticks apart lies at least one tick less: the first may have
/// been at the end of its tick.
fn at_least(ticks: u32, tick: Duration) -> Duration {
    tick.saturating_mul(ticks.saturating_sub(1))
}

/// A lifecycle record; `None` for one that holds nothing.
pub fn connection(record: &wire::Connection) -> Option<Record> {
    let known = record.opened_at != 0 || record.peer_gone_at != 0;
    known.then(|| Record {
        birth: match record.birth {
            birth::CONNECTED => Birth::Connected,
            birth::PENDING => Birth::Pending,
            birth::ACCEPTED => Birth::Accepted,
            birth::FIRST_USED => Birth::FirstUsed,
            _ => Birth::BeforeTracer,
        },
        opened_at: moment(record.opened_at),
        peer_gone_at: moment(record.peer_gone_at),
        eof_read_at: moment(record.eof_read_at),
        closed_at: moment(record.closed_at),
        end_error: i32::from(record.end_error),
        followed: record.followed != 0,
        origin: (record.origin != 0).then_some(record.origin),
        opener: task(&record.opener),
        closer: task(&record.closer),
        last_read: last_use(&record.reads),
        last_write: last_use(&record.writes),
    })
}

fn last_use(uses: &wire::Use) -> Option<Use> {
    Some(Use {
        at: moment(uses.at)?,
        count: uses.count.into(),
        path: (uses.path != 0).then_some(uses.path),
        captured_count: uses.captured_count.into(),
    })
}

fn process(task: &wire::Task) -> ProcessId {
    ProcessId {
        pid: task.tgid,
        start_ns: task.start_ns,
    }
}

fn task(task: &wire::Task) -> Option<Task> {
    (task.tgid != 0).then(|| Task {
        process: process(task),
        tid: task.tid,
        comm: name(&task.comm),
    })
}

fn moment(nanoseconds: u64) -> Option<Duration> {
    (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))
}

pub fn name(comm: &[u8; wire::COMM_LEN]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

/// The local and the remote end.
pub fn ends(ends: &wire::Endpoints) -> (SocketAddr, SocketAddr) {
    let local = end(ends.local, ends.local_port);
    (local, end(ends.remote, ends.remote_port))
}

fn end(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

/// A TCP state; `None` for one that no survey asks for.
pub fn state(state: u8) -> Option<State> {
    Some(match state {
        tcp_state::ESTABLISHED => State::Established,
        tcp_state::SYN_SENT => State::SynSent,
        tcp_state::SYN_RECV => State::SynRecv,
        tcp_state::FIN_WAIT1 => State::FinWait1,
        tcp_state::FIN_WAIT2 => State::FinWait2,
        tcp_state::TIME_WAIT => State::TimeWait,
        tcp_state::CLOSE => State::Close,
        tcp_state::CLOSE_WAIT => State::CloseWait,
        tcp_state::LAST_ACK => State::LastAck,
        tcp_state::LISTEN => State::Listen,
        tcp_state::CLOSING => State::Closing,
        _ => return None,
    })
}

/// Socket counts from the number of sockets in each TCP state.
pub fn counts(by_state: impl Iterator<Item = u64>, namespaces_missed: u64) -> Counts {
    let mut counts = Counts {
        namespaces_missed,
        ..Counts::default()
    };
    for (state, number) in (0_u8..).zip(by_state) {
        match state {
            tcp_state::TIME_WAIT => counts.time_wait += number,
            tcp_state::LISTEN | tcp_state::NEW_SYN_RECV => {}
            tcp_state::CLOSE_WAIT => {
                counts.close_wait += number;
                counts.connections += number;
            }
            _ => counts.connections += number,
        }
    }
    counts
}

fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, any bytes are a valid `T` (it is `Pod`), and the read allows
    // for any alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_short_is_no_record() {
        assert!(
            sighting(
                &[0; size_of::<wire::Sighting>() - 1],
                Duration::from_millis(4)
            )
            .is_none()
        );
        assert!(capture(&[0; size_of::<PathHeader>() - 1]).is_none());
    }

    #[test]
    fn a_capture_that_claims_more_than_it_holds_is_refused() {
        const LENGTH: usize = std::mem::offset_of!(PathHeader, length);
        let mut bytes = vec![0; size_of::<PathHeader>() + 16];
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&17_u32.to_ne_bytes());
        assert!(capture(&bytes).is_none());
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&16_u32.to_ne_bytes());
        let Some(Stack::Copied { bytes, .. }) = capture(&bytes).map(|capture| capture.stack) else {
            panic!("it is a copied stack");
        };
        assert_eq!(bytes, [0; 16]);
    }

    #[test]
    fn the_links_of_a_chain_come_behind_the_stack() {
        let header = PathHeader {
            length: 16,
            links: 2,
            chain: 1,
            ..PathHeader::default()
        };
        // SAFETY: a header is made of integers without padding.
        let bytes: [u8; size_of::<PathHeader>()] = unsafe { std::mem::transmute(header) };
        let mut record = bytes.to_vec();
        record.extend([0; 16]);
        for word in 1..=12_u64 {
            record.extend(word.to_ne_bytes());
        }
        let capture = capture(&record).expect("it is whole");
        assert!(capture.chain.known);
        let codes: Vec<u64> = capture.chain.links.iter().map(|link| link.code).collect();
        assert_eq!(codes, [2, 6], "the third is left over from before");
    }

    #[test]
    fn ticks_never_tell_of_more_time_than_has_passed() {
        let tick = Duration::from_millis(4);
        assert_eq!(at_least(0, tick), Duration::ZERO);
        assert_eq!(at_least(1, tick), Duration::ZERO);
        assert_eq!(at_least(420, tick), Duration::from_millis(1676));
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let mut address = [0; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 5]);
        assert_eq!(end(address, 80).to_string(), "10.0.0.5:80");
    }

    #[test]
    fn a_name_ends_at_its_first_nul_and_is_never_invalid_text() {
        assert_eq!(name(b"nginx\0garbage\0\0\0"), "nginx");
        assert_eq!(name(b"sixteen bytes!!!"), "sixteen bytes!!!");
        assert_eq!(name(&[0xff; 16]).chars().count(), 16);
    }
}
