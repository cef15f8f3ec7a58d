//! What one look at the kernel finds.
//!
//! Points in time are durations on the kernel's monotonic clock, so that the tracker and the judge
//! need no clock of their own.

use std::{net::SocketAddr, time::Duration};

/// One look at every TCP socket of the host.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// When it was complete: what it says of each socket was true some time before.
    pub taken_at: Duration,
    /// The sockets that matter, once for each holder.
    pub sightings: Vec<Sighting>,
    /// How many sockets there are.
    pub counts: Counts,
    /// What was lost since tracing began.
    pub losses: Losses,
}

/// Socket counts over all network namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every state but LISTEN, TIME_WAIT and half-open handshakes.
    pub connections: u64,
    /// CLOSE_WAIT
    pub close_wait: u64,
    /// TIME_WAIT
    pub time_wait: u64,
    /// Network namespaces that could not be entered: their sockets are not counted, and their
    /// unaccepted ones not found.
    pub namespaces_missed: u64,
}

/// What the kernel side lost since tracing began. A loss costs a code path or an owner, never a
/// connection: the survey finds it all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Connections not recorded because the map was full.
    pub connections_dropped: u64,
    /// Code paths lost because the ring was full.
    pub paths_dropped: u64,
    /// Connections and uses whose stack could not be read.
    pub paths_unreadable: u64,
    /// Connections whose opening was not sampled, to keep the cost down.
    pub origins_unsampled: u64,
    /// Reads and writes that were to be sampled and were not, to keep the cost down.
    pub uses_unsampled: u64,
    /// Programs skipped because they were already running on that CPU.
    pub recursion_misses: u64,
    /// Records that belonged to an earlier socket at the same address.
    pub stale_records: u64,
    /// Processes that were to be followed and are not, because the map was full.
    pub processes_dropped: u64,
    /// Connections closed by the end of their process of which nothing is known, because the ring was
    /// full.
    pub ends_dropped: u64,
}

/// A socket, what tracing knows about it, and one of its holders.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The socket.
    pub socket: Socket,
    /// Its lifecycle record, when there is one.
    pub record: Option<Record>,
    /// A process that holds it; `None` for a socket found without a descriptor.
    pub holder: Option<Holder>,
}

/// A socket as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What tells it from other sockets: the address of its `struct sock`, or its cookie.
    pub address: u64,
    /// Inode number of its file; zero when it has none.
    pub inode: u64,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// TCP state.
    pub state: State,
    /// Next byte that a read returns.
    pub copied_seq: u32,
    /// Bytes received and not read; the peer's FIN counts as one.
    pub unread: u32,
    /// One past the last byte written.
    pub write_seq: u32,
    /// First byte that the peer has not acknowledged.
    pub snd_una: u32,
    /// What is left of the receive window, in bytes.
    pub receive_window: u32,
    /// Time since a segment with an acknowledgement last arrived, at least.
    pub since_ack: Duration,
    /// Time since data last arrived, at least.
    pub since_data: Duration,
    /// Time since data was last sent, at least.
    pub since_sent: Duration,
    /// When a packet or a timer last had the kernel look at the connection.
    pub last_event_at: Duration,
    /// Listening socket: connections that wait for accept().
    pub accept_queue: u32,
    /// Listening socket: the most that may wait.
    pub backlog: u32,
    /// Times that the oldest segment which waits for its acknowledgement was sent again.
    pub retransmits: u8,
    /// Pending error (errno); zero when there is none.
    pub error: i32,
    /// Whether the peer's FIN was received.
    pub fin_received: bool,
    /// Whether anything owns the socket; an unaccepted one belongs to nothing yet.
    pub has_owner: bool,
    /// Whether the owner is a file; the kernel's own sockets have none.
    pub has_file: bool,
}

impl Socket {
    /// Bytes of data that wait unread, the FIN not counted.
    pub fn unread_bytes(&self) -> u32 {
        self.unread.saturating_sub(u32::from(self.fin_received))
    }

    /// Whether this side has closed its half and the peer has not acknowledged that.
    pub fn is_closing(&self) -> bool {
        matches!(
            self.state,
            State::FinWait1 | State::Closing | State::LastAck
        )
    }

    /// Whether the connection is over on the peer's side.
    pub fn peer_gone(&self) -> bool {
        matches!(self.state, State::CloseWait | State::Close)
    }
}

/// The TCP states, named as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl State {
    /// The kernel's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// A process for good: pids are reused, start times tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When it started, nanoseconds since boot.
    pub start_ns: u64,
}

/// A process and one of its threads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// The process.
    pub process: ProcessId,
    /// Thread id.
    pub tid: u32,
    /// Name of the process; untrusted text.
    pub comm: String,
}

/// A process that holds a socket, and the descriptor it holds it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub task: Task,
    /// The descriptor.
    pub fd: u32,
}

/// What tracing knows about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How the tracer came to know it.
    pub birth: Birth,
    /// When it was opened; `None` when that was before tracing began.
    pub opened_at: Option<Duration>,
    /// The peer's FIN or RST.
    pub peer_gone_at: Option<Duration>,
    /// First read that returned end of file.
    pub eof_read_at: Option<Duration>,
    /// The local FIN.
    pub closed_at: Option<Duration>,
    /// The error (errno) with which the connection ended; zero when there was none.
    pub end_error: i32,
    /// Fingerprint of the code path that opened it.
    pub origin: Option<u64>,
    /// Who opened it.
    pub opener: Option<Task>,
    /// Who sent the local FIN.
    pub closer: Option<Task>,
    /// Whether the opener is a process that is followed.
    pub followed: bool,
    /// The last read; `None` when none was seen.
    pub last_read: Option<Use>,
    /// The last write; `None` when none was seen.
    pub last_write: Option<Use>,
}

impl Record {
    /// Fingerprints of the code paths that opened and last used it.
    pub fn paths(&self) -> impl Iterator<Item = u64> {
        let uses = [&self.last_read, &self.last_write];
        let used = uses.into_iter().flatten().filter_map(|last| last.path);
        self.origin.into_iter().chain(used)
    }

    /// The same, to be replaced.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let uses = [&mut self.last_read, &mut self.last_write];
        let used = uses
            .into_iter()
            .flatten()
            .filter_map(|last| last.path.as_mut());
        self.origin.as_mut().into_iter().chain(used)
    }
}

/// The last use of a connection in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// When it was.
    pub at: Duration,
    /// How many there have been.
    pub count: u64,
    /// Fingerprint of the code path that was captured last, perhaps of an earlier use.
    pub path: Option<u64>,
    /// How many uses there had been when that path was captured.
    pub captured_count: u64,
}

impl Use {
    /// How many uses there have been since the captured one.
    pub fn since_captured(&self) -> u64 {
        self.count.saturating_sub(self.captured_count)
    }
}

/// How the tracer came to know a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Birth {
    /// Open before the tracer was.
    BeforeTracer,
    /// Seen in connect().
    Connected,
    /// Passive, and no process has been seen to take it.
    Pending,
    /// Seen in accept().
    Accepted,
    /// Claimed by the process that first used it.
    FirstUsed,
}

impl Birth {
    /// Whether the connection came in through a listener.
    pub fn is_passive(self) -> bool {
        matches!(self, Self::Pending | Self::Accepted | Self::FirstUsed)
    }
}
