//! The socket that tests of this module begin with.

use std::time::Duration;

use crate::survey::{Socket, State};

/// The network namespace of [`test_socket`].
pub const NETNS: u32 = 4_026_531_840;

/// One in CLOSE_WAIT, with nothing to read.
pub fn test_socket() -> Socket {
    Socket {
        address: 7,
        inode: 1,
        local: "127.0.0.1:40000".parse().unwrap(),
        remote: "127.0.0.1:80".parse().unwrap(),
        netns: NETNS,
        state: State::CloseWait,
        copied_seq: 0,
        unread: 0,
        write_seq: 0,
        snd_una: 0,
        receive_window: 1,
        since_ack: Duration::ZERO,
        since_data: Duration::ZERO,
        since_sent: Duration::ZERO,
        last_event_at: Duration::ZERO,
        accept_queue: 0,
        backlog: 0,
        retransmits: 0,
        error: 0,
        fin_received: false,
        has_owner: true,
        has_file: true,
    }
}
