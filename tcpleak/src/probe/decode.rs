//! Kernel records into the words of the tracker.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use aya::Pod;
use tcpleak_ebpf::{self as wire, CapturedPath, birth, tcp_state};

use crate::{
    code_path::RawPath,
    survey::{Birth, Holder, ProcessId, Record, Sighting, Socket, State, Task},
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
pub fn path(bytes: &[u8]) -> Option<RawPath> {
    let record: CapturedPath = read(bytes)?;
    let frames = record
        .frames
        .get(..usize::try_from(record.frame_count).ok()?)?;
    Some(RawPath {
        fingerprint: record.fingerprint,
        pid: record.task.tgid,
        start_ns: record.task.start_ns,
        comm: name(&record.task.comm),
        frames: frames
            .iter()
            .copied()
            .take_while(|frame| *frame != 0)
            .collect(),
        truncated: frames.len() == wire::MAX_FRAMES,
    })
}

fn socket(socket: &wire::Socket, tick: Duration) -> Option<Socket> {
    Some(Socket {
        address: socket.address,
        inode: socket.inode,
        local: end(socket.ends.local, socket.ends.local_port),
        remote: end(socket.ends.remote, socket.ends.remote_port),
        netns: socket.ends.netns,
        state: state(socket.state)?,
        copied_seq: socket.copied_seq,
        unread: socket.rcv_nxt.wrapping_sub(socket.copied_seq),
        write_seq: socket.write_seq,
        snd_una: socket.snd_una,
        receive_window: socket.receive_window,
        since_ack: tick.saturating_mul(socket.last_ack_jiffies),
        since_data: tick.saturating_mul(socket.last_data_jiffies),
        since_sent: tick.saturating_mul(socket.last_sent_jiffies),
        last_event_at: Duration::from_nanos(socket.last_event_at),
        accept_queue: socket.accept_queue,
        backlog: socket.backlog,
        error: socket.error.saturating_abs(),
        fin_received: socket.fin_received != 0,
        has_owner: socket.has_socket != 0,
        has_file: socket.has_file != 0,
    })
}

fn connection(record: &wire::Connection) -> Option<Record> {
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
        origin: (record.origin != 0).then_some(record.origin),
        opener: task(&record.opener),
        last_read: None,
        last_write: None,
    })
}

fn task(task: &wire::Task) -> Option<Task> {
    (task.tgid != 0).then(|| Task {
        process: ProcessId {
            pid: task.tgid,
            start_ns: task.start_ns,
        },
        tid: task.tid,
        comm: name(&task.comm),
    })
}

fn moment(nanoseconds: u64) -> Option<Duration> {
    (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))
}

fn name(comm: &[u8; wire::COMM_LEN]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

fn end(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

fn state(state: u8) -> Option<State> {
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
        assert!(path(&[0; 17]).is_none());
    }

    #[test]
    fn a_path_that_claims_more_frames_than_fit_is_refused() {
        let mut bytes = vec![0; size_of::<CapturedPath>()];
        bytes[40..44].copy_from_slice(&1000_u32.to_ne_bytes());
        assert!(path(&bytes).is_none());
        bytes[40..44].copy_from_slice(&2_u32.to_ne_bytes());
        assert!(path(&bytes).is_some());
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
