use super::{
    super::test_socket::{NETNS, test_socket},
    *,
};

fn open(state: State) -> Open {
    let end = "127.0.0.1:80".parse().unwrap();
    Open {
        socket: Socket {
            local: end,
            remote: end,
            state,
            since_ack: seconds(3),
            since_data: seconds(4),
            since_sent: seconds(5),
            ..test_socket()
        },
        id: [0; 48],
        family: 2,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn listed() -> HashSet<u32> {
    HashSet::from([NETNS])
}

/// A memory of one connection, seen at second 10 in this state.
fn remembering(state: State) -> Memory {
    let mut memory = Memory::default();
    let none = HashSet::new();
    memory.update([(1, open(state))], &none, &listed(), seconds(10));
    memory
}

/// The same, found dead at second 12.
fn dead(state: State) -> Memory {
    let mut memory = remembering(state);
    memory.update([], &HashSet::from([1]), &listed(), seconds(12));
    memory
}

#[test]
fn only_what_was_an_open_connection_is_remembered() {
    for state in [State::Established, State::CloseWait, State::FinWait2] {
        assert!(remembering(state).lost(1, &listed()).is_some(), "{state:?}");
    }
    // A connection attempt that fails leaves a socket that no leak is.
    for state in [State::SynSent, State::SynRecv, State::Listen] {
        assert!(remembering(state).lost(1, &listed()).is_none(), "{state:?}");
    }
}

#[test]
fn a_socket_that_nobody_holds_any_more_is_forgotten_with_its_number() {
    let mut memory = remembering(State::Established);
    memory.update([], &HashSet::new(), &listed(), seconds(11));
    assert!(memory.lost(1, &listed()).is_none());
}

#[test]
fn of_a_namespace_that_was_not_looked_at_nothing_is_said_and_nothing_forgotten() {
    let mut memory = remembering(State::Established);
    let none = HashSet::new();
    assert!(memory.lost(1, &none).is_none());
    memory.update([], &none, &none, seconds(11));
    assert!(memory.lost(1, &listed()).is_some());
}

#[test]
fn a_dead_connection_keeps_its_ends_and_ages_and_the_time_of_its_end() {
    let mut memory = dead(State::CloseWait);
    memory.update([], &HashSet::from([1]), &listed(), seconds(20));
    let (socket, seen_at) = memory.dead(1, seconds(20)).unwrap();
    assert_eq!(seen_at, seconds(10));
    assert_eq!(socket.state, State::Close);
    assert_eq!(socket.last_event_at, seconds(12));
    assert_eq!(socket.since_ack, seconds(13));
    assert_eq!(socket.since_data, seconds(14));
    assert_eq!((socket.address, socket.remote.port()), (7, 80));
}

#[test]
fn how_it_ended_is_taken_from_how_it_was_last_seen() {
    let end = |state| {
        let (socket, _) = dead(state).dead(1, seconds(12)).unwrap();
        (socket.fin_received, socket.error)
    };
    assert_eq!(end(State::Established), (false, 0));
    assert_eq!(end(State::CloseWait), (true, CONNECTION_RESET));
    assert_eq!(end(State::LastAck), (true, 0));
}

#[test]
fn a_socket_that_is_connected_again_is_not_dead_any_more() {
    let mut memory = dead(State::Established);
    assert!(memory.is_known_dead(1));
    let again = [(1, open(State::Established))];
    memory.update(again, &HashSet::new(), &listed(), seconds(13));
    assert!(!memory.is_known_dead(1));
    assert!(memory.dead(1, seconds(13)).is_none());
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut memory = Memory::default();
    let many = (1..)
        .take(ROOM + 3)
        .map(|inode| (inode, open(State::Established)));
    let left_out = memory.update(many, &HashSet::new(), &listed(), seconds(1));
    assert_eq!(left_out, 3);
}
