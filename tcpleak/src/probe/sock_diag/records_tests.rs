use tcpleak_ebpf::{Endpoints, birth};

use super::{
    super::test_socket::{NETNS, test_socket},
    *,
};
use crate::survey::{Birth, Holder, ProcessId, Task};

/// 127.0.0.1, as the programs write it.
const LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];

/// The record of a connection from port 40000 to port 80 that was opened at this second.
fn record(opened_at: u64) -> Connection {
    Connection {
        opened_at: opened_at * 1_000_000_000,
        birth: birth::CONNECTED,
        origin: opened_at,
        opener: tcpleak_ebpf::Task {
            start_ns: 123_456_789,
            tgid: 42,
            tid: 43,
            comm: *b"leaky\0\0\0\0\0\0\0\0\0\0\0",
        },
        ends: Endpoints {
            local: LOOPBACK,
            remote: LOOPBACK,
            local_port: 40_000,
            remote_port: 80,
            netns: NETNS,
        },
        ..Connection::default()
    }
}

fn sighting() -> Sighting {
    Sighting {
        socket: test_socket(),
        record: None,
        holder: None,
    }
}

/// The socket after it was offered these records.
fn joined(records: &[Connection], seen_open_at: Option<u64>) -> Sighting {
    let mut sighting = sighting();
    let mut known = Records::wanted([&sighting].into_iter());
    for record in records {
        known.offer(record);
    }
    known.give(&mut sighting, seen_open_at.map(Duration::from_secs));
    sighting
}

fn origin(sighting: &Sighting) -> Option<u64> {
    sighting.record.as_ref().and_then(|record| record.origin)
}

#[test]
fn a_record_goes_to_the_socket_with_its_ends_and_namespace() {
    let found = joined(&[record(5)], None).record.unwrap();
    assert_eq!(found.birth, Birth::Connected);
    assert_eq!(found.opened_at, Some(Duration::from_secs(5)));

    let mut others = [record(5); 4];
    others[0].ends.netns += 1;
    others[1].ends.remote_port += 1;
    others[2].ends.local[15] = 2;
    // The other end of the same connection, on this host too.
    others[3].ends.local_port = 80;
    others[3].ends.remote_port = 40_000;
    assert!(joined(&others, None).record.is_none());
}

#[test]
fn a_record_without_local_port_fits_no_socket_yet() {
    let mut connecting = record(5);
    connecting.ends.local_port = 0;
    assert!(joined(&[connecting], None).record.is_none());
}

/// The origins of sockets of a process that wait for an answer, after they were offered these records.
fn attempts(inodes: &[u64], pid: u32, records: &[Connection]) -> Vec<Option<u64>> {
    let process = ProcessId { pid, start_ns: 0 };
    let holder = |fd| Holder {
        task: Task {
            process,
            tid: pid,
            comm: "leaky".into(),
        },
        fd,
    };
    let mut sightings: Vec<Sighting> = inodes
        .iter()
        .zip(3..)
        .map(|(&inode, fd)| {
            let mut sighting = sighting();
            sighting.socket.inode = inode;
            sighting.socket.local.set_port(40_000 + fd as u16);
            sighting.socket.state = State::SynSent;
            sighting.holder = Some(holder(fd));
            sighting
        })
        .collect();
    let mut known = Records::wanted(sightings.iter());
    for record in records {
        known.offer(record);
    }
    for sighting in &mut sightings {
        known.give(sighting, None);
    }
    sightings.iter().map(origin).collect()
}

fn connecting(opened_at: u64) -> Connection {
    let mut connecting = record(opened_at);
    connecting.ends.local_port = 0;
    connecting
}

#[test]
fn sockets_that_wait_for_an_answer_get_their_records_in_order() {
    let records = [connecting(9), connecting(5), connecting(7)];
    assert_eq!(
        attempts(&[12, 11, 17], 42, &records),
        [Some(7), Some(5), Some(9)]
    );
}

#[test]
fn which_record_is_whose_is_not_guessed_when_one_is_missing_or_anothers() {
    let records = [connecting(5), connecting(7)];
    assert_eq!(attempts(&[11, 12, 17], 42, &records), [None; 3]);
    assert_eq!(attempts(&[11, 12], 43, &records), [None; 2]);
}

#[test]
fn of_several_records_with_these_ends_the_latest_is_that_of_an_open_socket() {
    let records = [record(5), record(9), record(7)];
    assert_eq!(origin(&joined(&records, None)), Some(9));
}

#[test]
fn a_dead_socket_never_gets_the_record_of_a_connection_opened_after_it() {
    let records = [record(5), record(9), record(7)];
    assert_eq!(origin(&joined(&records, Some(8))), Some(7));
    assert_eq!(origin(&joined(&records, Some(4))), None);
}

#[test]
fn a_record_from_before_tracing_goes_by_the_end_of_the_connection() {
    let mut old = record(0);
    old.birth = birth::BEFORE_TRACER;
    old.peer_gone_at = 6_000_000_000;
    let found = joined(&[old], None).record.unwrap();
    assert_eq!(found.peer_gone_at, Some(Duration::from_secs(6)));
}

#[test]
fn the_opener_started_when_proc_says_that_its_holder_did() {
    let opener = joined(&[record(5)], None).record.unwrap().opener.unwrap();
    assert_eq!(opener.process.start_ns, 120_000_000);
    assert_eq!((opener.process.pid, opener.tid), (42, 43));
}

#[test]
fn how_a_dead_connection_ended_is_taken_from_its_record() {
    let end = |error: u8| {
        let mut record = record(5);
        record.end_error = error;
        let socket = joined(&[record], Some(6)).socket;
        (socket.fin_received, socket.error)
    };
    assert_eq!(end(0), (true, 0));
    assert_eq!(end(32), (true, 32));
    assert_eq!(end(104), (false, 104));
    assert_eq!(end(110), (false, 110));
}
