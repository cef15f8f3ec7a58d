use super::*;

/// A message with a header, as the kernel sends it.
fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct inet_diag_msg` of a socket with the ends 127.0.0.1:80 and 10.0.0.5:40000, or `::1` twice.
fn socket(family: u8, state: u8, timer: u8) -> Vec<u8> {
    let mut bytes = vec![0; DIAG];
    bytes[..3].copy_from_slice(&[family, state, timer]);
    bytes[4..6].copy_from_slice(&80_u16.to_be_bytes());
    bytes[6..8].copy_from_slice(&40_000_u16.to_be_bytes());
    if family == AF_INET {
        bytes[8..12].copy_from_slice(&[127, 0, 0, 1]);
        bytes[24..28].copy_from_slice(&[10, 0, 0, 5]);
    } else {
        bytes[23] = 1;
        bytes[39] = 1;
    }
    bytes[44..48].copy_from_slice(&7_u32.to_ne_bytes());
    bytes[48..52].copy_from_slice(&1_u32.to_ne_bytes());
    bytes[56..60].copy_from_slice(&3_u32.to_ne_bytes());
    bytes[60..64].copy_from_slice(&4_u32.to_ne_bytes());
    bytes[68..72].copy_from_slice(&4711_u32.to_ne_bytes());
    bytes
}

/// `struct tcp_info` of a kernel whose structure has so many bytes.
fn tcp_info(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    for (offset, value) in [(44, 100_u32), (52, 200), (56, 300), (232, 65_535)] {
        bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    for (offset, value) in [(120, 1000_u64), (128, 2000)] {
        bytes[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn one(payload: &[u8]) -> Diag {
    let datagram = message(SOCK_DIAG_BY_FAMILY, payload);
    let mut replies = replies(&datagram);
    match (replies.next(), replies.next()) {
        (Some(Reply::Socket(diag)), None) => *diag,
        other => panic!("it is one socket: {other:?}"),
    }
}

#[test]
fn a_request_has_every_field_in_its_place() {
    let bytes = dump_request(AF_INET6, LISTENERS, true);
    assert_eq!(bytes[..4], 72_u32.to_ne_bytes());
    assert_eq!(bytes[4..6], 20_u16.to_ne_bytes());
    assert_eq!(bytes[6..8], 0x301_u16.to_ne_bytes());
    assert_eq!(bytes[16..20], [10, 6, 2, 0]);
    assert_eq!(bytes[20..24], (1_u32 << 10).to_ne_bytes());
    assert_eq!(bytes[24..], [0; 48]);

    assert_eq!(
        dump_request(AF_INET6, LISTENERS, false)[16..20],
        [10, 6, 0, 0]
    );

    let id: SocketId = std::array::from_fn(|index| index as u8);
    let bytes = single_request(AF_INET, &id);
    assert_eq!(bytes[6..8], 1_u16.to_ne_bytes());
    assert_eq!(bytes[24..], id);
}

#[test]
fn neither_closed_sockets_nor_half_open_handshakes_are_asked_for() {
    let asked = |state: u8| EVERY_STATE & 1 << state != 0;
    for state in [
        tcp_state::ESTABLISHED,
        tcp_state::LISTEN,
        tcp_state::CLOSE_WAIT,
        tcp_state::TIME_WAIT,
        tcp_state::CLOSING,
    ] {
        assert!(asked(state), "{state}");
    }
    for state in [
        0,
        tcp_state::SYN_RECV,
        tcp_state::CLOSE,
        tcp_state::NEW_SYN_RECV,
    ] {
        assert!(!asked(state), "{state}");
    }
}

#[test]
fn a_socket_is_read_with_what_tcp_knows_of_it() {
    let mut payload = socket(AF_INET, tcp_state::CLOSE_WAIT, 0);
    payload.extend(attribute(8, &[1]));
    payload.extend(attribute(ATTRIBUTE_INFO, &tcp_info(256)));
    let diag = one(&payload);
    assert_eq!(diag.state, tcp_state::CLOSE_WAIT);
    assert_eq!(diag.local.to_string(), "127.0.0.1:80");
    assert_eq!(diag.remote.to_string(), "10.0.0.5:40000");
    assert_eq!((diag.receive_queue, diag.send_queue), (3, 4));
    assert_eq!((diag.inode, diag.cookie), (4711, 1 << 32 | 7));
    assert!(!diag.is_subflow);
    let info = diag.info.unwrap();
    assert_eq!(info.since_sent, Duration::from_millis(100));
    assert_eq!(info.since_data, Duration::from_millis(200));
    assert_eq!(info.since_ack, Duration::from_millis(300));
    assert_eq!((info.bytes_acked, info.bytes_received), (1000, 2000));
    assert_eq!(info.receive_window, Some(65_535));
}

#[test]
fn an_older_kernel_tells_less() {
    let read = |length: usize| {
        let mut payload = socket(AF_INET, tcp_state::ESTABLISHED, 0);
        payload.extend(attribute(ATTRIBUTE_INFO, &tcp_info(length)));
        one(&payload).info
    };
    let info = read(232).unwrap();
    assert_eq!((info.bytes_received, info.receive_window), (2000, None));
    let info = read(104).unwrap();
    assert_eq!((info.bytes_received, info.bytes_acked), (0, 0));
    assert_eq!(info.since_ack, Duration::from_millis(300));
    assert_eq!(read(59), None);
}

#[test]
fn ipv6_is_read_and_mapped_addresses_are_shown_as_ipv4() {
    let mut payload = socket(AF_INET6, tcp_state::ESTABLISHED, 0);
    assert_eq!(one(&payload).local.to_string(), "[::1]:80");
    payload[18..24].copy_from_slice(&[0xff, 0xff, 10, 1, 2, 3]);
    assert_eq!(one(&payload).local.to_string(), "10.1.2.3:80");
}

#[test]
fn what_stands_for_a_socket_that_nobody_owns_is_in_time_wait() {
    let payload = socket(AF_INET, tcp_state::FIN_WAIT2, TIMER_TIME_WAIT);
    assert_eq!(one(&payload).state, tcp_state::TIME_WAIT);
    let payload = socket(AF_INET, tcp_state::FIN_WAIT2, 0);
    assert_eq!(one(&payload).state, tcp_state::FIN_WAIT2);
}

#[test]
fn a_part_of_an_mptcp_connection_is_known_by_its_upper_protocol() {
    let with = |name: &[u8]| {
        let mut payload = socket(AF_INET, tcp_state::ESTABLISHED, 0);
        let name = attribute(UPPER_PROTOCOL_NAME, name);
        payload.extend(attribute(ATTRIBUTE_UPPER_PROTOCOL | 0x8000, &name));
        one(&payload).is_subflow
    };
    assert!(with(b"mptcp\0"));
    assert!(!with(b"tls\0"));
}

#[test]
fn a_dump_ends_with_done_and_a_refusal_with_its_errno() {
    let mut datagram = message(SOCK_DIAG_BY_FAMILY, &socket(AF_INET, tcp_state::LISTEN, 0));
    datagram.extend(message(NLMSG_DONE, &[0; 4]));
    let all: Vec<Reply> = replies(&datagram).collect();
    assert!(
        matches!(all[..], [Reply::Socket(_), Reply::Done]),
        "{all:?}"
    );

    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        let datagram = message(kind, &(-2_i32).to_ne_bytes());
        assert_eq!(replies(&datagram).collect::<Vec<_>>(), [Reply::Failed(2)]);
    }
    let datagram = message(NLMSG_ERROR, &i32::MIN.to_ne_bytes());
    assert_eq!(
        replies(&datagram).collect::<Vec<_>>(),
        [Reply::Failed(i32::MAX)]
    );
}

#[test]
fn bytes_that_are_no_messages_end_the_reading() {
    for length in [0_u32, 3, 17, u32::MAX] {
        let mut datagram = message(NLMSG_DONE, &[]);
        datagram[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(replies(&datagram).count(), 0, "{length}");
    }
}

#[test]
fn bytes_cut_anywhere_or_changed_anywhere_are_read_without_harm() {
    let mut payload = socket(AF_INET6, tcp_state::CLOSE_WAIT, 0);
    payload.extend(attribute(ATTRIBUTE_INFO, &tcp_info(240)));
    let mut whole = message(SOCK_DIAG_BY_FAMILY, &payload);
    whole.extend(message(NLMSG_DONE, &[0; 4]));
    for length in 0..whole.len() {
        let socket = |reply: &Reply| matches!(reply, Reply::Socket(_));
        let sockets = replies(&whole[..length]).filter(socket).count();
        let complete = length >= whole.len() - HEADER - 4;
        assert_eq!(sockets, usize::from(complete), "{length} bytes");
    }
    for place in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[place] = value;
            assert!(replies(&changed).count() <= whole.len() / 4);
        }
    }
}

#[test]
fn a_socket_in_time_wait_says_how_long_it_stays() {
    let mut waiting = socket(AF_INET, tcp_state::TIME_WAIT, TIMER_TIME_WAIT);
    waiting[52..56].copy_from_slice(&12_345_u32.to_ne_bytes());
    let left = Duration::from_millis(12_345);
    assert_eq!(one(&waiting).time_wait_left, Some(left));
    waiting[1] = tcp_state::FIN_WAIT2;
    let small = one(&waiting);
    assert_eq!(
        (small.state, small.time_wait_left),
        (tcp_state::TIME_WAIT, None)
    );
    // A timer of another kind has nothing to do with it.
    waiting[2] = 1;
    assert_eq!(one(&waiting).time_wait_left, None);
}
