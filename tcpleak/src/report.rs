//! The report: plain data, and the one shape that every output renders.
//!
//! These types are also the JSON document (`docs/json.md`, `docs/tcpleak.schema.json`). They are
//! kept apart from the tracker's own types, so that reshaping the tracker cannot change the
//! document. Ages and durations are seconds, times are RFC 3339 in UTC, sizes are bytes.

mod code;
mod descriptors;
mod ports;
mod run;

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

pub use code::{CodePath, Direction, Frame, Incomplete, LastUse, PathKind, Title, TitlePath};
pub use descriptors::{Descriptors, FileHandles};
pub use ports::{Advice, AdviceKind, PIDS_LISTED, PortHeadroom, ROWS_LISTED, TimeWait};
pub use run::{Run, StillRunning, Suppressed, UnusedSuppression};

/// Version of the JSON document. It changes when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// Most connections that are listed under one group; `connections_total` has the full number.
pub const CONNECTIONS_LISTED: usize = 20;

/// Most descriptors that are listed for one holder; `fds_total` has the full number.
pub const DESCRIPTORS_LISTED: usize = 64;

/// Everything that one look at the host found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// Version of this document.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// Version of tcpleak.
    pub tcpleak: String,
    /// When the survey was taken.
    pub taken_at: Timestamp,
    /// Release of the running kernel.
    pub kernel: String,
    /// Host-wide counts.
    pub totals: Totals,
    /// Groups of connections, worst first.
    pub groups: Vec<Group>,
    /// The descriptors of processes that hold connections whose peer is gone, leak or not, at most 64.
    pub processes: Vec<Descriptors>,
    /// Sockets in TIME_WAIT by who closed the connections first: those of which that is known come first,
    /// and of these the largest number; at most 50 rows.
    pub time_wait: Vec<TimeWait>,
    /// Ports of the destinations that take a notable part of them, the fullest first, at most 50 rows.
    pub ports: Vec<PortHeadroom>,
    /// What would help, where ports run out or many sockets are in TIME_WAIT.
    pub advice: Vec<Advice>,
    /// What this report does not know, each a sentence.
    pub notes: Vec<String>,
    /// What came of the command; null where none was run.
    pub run: Option<Run>,
}

impl Report {
    /// Takes the command lines out: they hold passwords and keys, and not everybody who reads the report
    /// may know these.
    pub fn hide_command_lines(&mut self) {
        let groups = self.groups.iter_mut().map(|group| &mut group.process);
        let closers = self.time_wait.iter_mut();
        let closers = closers.filter_map(|row| row.process.as_mut());
        for process in groups.chain(closers) {
            process.cmdline = None;
        }
    }

    /// Whether any group is a leak.
    pub fn has_leaks(&self) -> bool {
        self.groups.iter().any(|group| group.leak)
    }
}

/// Host-wide counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// TCP connections in every state but LISTEN and TIME_WAIT, dead descriptors included.
    pub connections: u64,
    /// Sockets in CLOSE_WAIT.
    pub close_wait: u64,
    /// Descriptors of connections that are dead in the kernel.
    pub dead_fd: u64,
    /// Sockets in CLOSE_WAIT that no process has accepted.
    pub unaccepted: u64,
    /// Sockets in TIME_WAIT.
    pub time_wait: u64,
    /// Connections or code paths that were lost because a map or a ring was full.
    pub dropped: u64,
    /// Connections whose code path was not captured.
    pub unsampled: u64,
    /// Times the kernel skipped a program because it was already running on that CPU.
    pub recursion_misses: u64,
    /// Open files; null when the kernel does not tell.
    pub file_handles: Option<FileHandles>,
}

/// Connections of one program that are in the same condition for the same reason.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Group {
    /// Names the group: 16 hexadecimal digits, the same in every report of this tcpleak for as long as
    /// program, control group, verdict, endpoint and code paths are.
    pub id: String,
    /// What the evidence says.
    pub verdict: Verdict,
    /// Whether this is a leak: the verdict is one, and it has lasted for --min-age.
    pub leak: bool,
    /// What else is true of the group.
    pub qualifiers: Vec<Qualifier>,
    /// The program that the connections are put down to: the process that holds most of them, or
    /// the opener when no process holds them.
    pub process: Process,
    /// Every process of the group.
    pub pids: Vec<u32>,
    /// Who opened the connections, when that was seen; the most frequent one.
    pub opener: Option<Opener>,
    /// Who holds the connections now.
    pub holders: Vec<Holder>,
    /// What the connections have in common: the remote address and port of opened ones, the
    /// listening address and port of accepted ones.
    pub endpoint: String,
    /// The remote address and port, or the address alone when the ports differ; null when the
    /// addresses differ.
    pub remote: Option<String>,
    /// Number of connections.
    pub count: u64,
    /// How many of them were opened while tcpleak watched, and yet the code path that opened them was
    /// not captured. Whatever path the group shows is that of the others.
    pub unsampled: u64,
    /// Age of the oldest: seconds since its peer went away; what else it counts from depends on the
    /// verdict.
    pub oldest_s: f64,
    /// Whether that age was measured or is a lower bound.
    pub age_kind: AgeKind,
    /// Change of the count per minute while watching; null before there are enough surveys.
    pub growth_per_min: Option<f64>,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// The function to look at first; null when no code path has a frame of the program's own.
    pub title: Option<Title>,
    /// The code path that opened the connections; null when it was not captured.
    pub origin: Option<CodePath>,
    /// How the connections were used last; null when no use of them was seen.
    pub last_use: Option<LastUse>,
    /// The connections, oldest first, at most 20.
    pub connections: Vec<Connection>,
    /// How many connections there are, listed or not.
    pub connections_total: u64,
}

/// What the evidence says about a connection.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    JsonSchema,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// In a listener's accept queue, and the peer is gone already.
    NotAccepted,
    /// Dead in the kernel, yet a descriptor is held: invisible to `ss`.
    DeadFd,
    /// The peer has closed its half, and the program still uses the other one.
    HalfCloseInUse,
    /// Held by a process that did not open it, or by several.
    Inherited,
    /// Data waits unread and nobody reads it.
    ReaderStuck,
    /// Still established: the receive window is closed and nobody reads.
    ReaderStalled,
    /// An idle connection of a pool that is in use.
    Pooled,
    /// The program read the end of file and kept the descriptor.
    EofIgnored,
    /// Nothing is left to read.
    EofConsumed,
    /// The end of file was never read.
    EofUnread,
    /// The program has closed its half, and the peer never closes the other one.
    FinWait2Held,
    /// The program has closed the connection, and the peer does not take the rest.
    Orphaned,
    /// The peer does not answer connect().
    SynSent,
    /// Open on both sides, and not used for as long as `--open` says.
    OpenIdle,
}

/// What a verdict is when it has lasted for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A leak.
    Leak,
    /// No leak, and nothing that ends by itself soon: it is told.
    HalfDead,
    /// No leak, but what was asked for.
    Idle,
    /// Nothing.
    Harmless,
}

impl Verdict {
    /// What this verdict is once it has lasted for long enough.
    pub fn severity(self) -> Severity {
        match self {
            Self::HalfCloseInUse | Self::Pooled => Severity::Harmless,
            Self::FinWait2Held | Self::Orphaned | Self::SynSent => Severity::HalfDead,
            Self::OpenIdle => Severity::Idle,
            _ => Severity::Leak,
        }
    }

    /// Whether this verdict is a leak once it has lasted for --min-age.
    pub fn is_leak(self) -> bool {
        self.severity() == Severity::Leak
    }

    /// Whether it is told although it is no leak. It has lasted for long enough, or it would not be.
    pub fn is_notable(self) -> bool {
        matches!(self.severity(), Severity::HalfDead | Severity::Idle)
    }

    /// The word used in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAccepted => "not-accepted",
            Self::DeadFd => "dead-fd",
            Self::HalfCloseInUse => "half-close-in-use",
            Self::Inherited => "inherited",
            Self::ReaderStuck => "reader-stuck",
            Self::ReaderStalled => "reader-stalled",
            Self::Pooled => "pooled",
            Self::EofIgnored => "eof-ignored",
            Self::EofConsumed => "eof-consumed",
            Self::EofUnread => "eof-unread",
            Self::FinWait2Held => "fin-wait2-held",
            Self::Orphaned => "orphaned",
            Self::SynSent => "syn-sent",
            Self::OpenIdle => "open-idle",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

/// What else is true of a group.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    JsonSchema,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Qualifier {
    /// The count rises from survey to survey.
    Growing,
    /// --min-age lies between the bounds of the age: it may or may not be a leak yet.
    AgeUnknown,
    /// Some of the connections were open before tcpleak started: their opener is not known.
    BeforeTracer,
    /// The kernel does not let connections be traced: openers and code paths are not known, however
    /// long tcpleak watches.
    NotTraced,
    /// The code path of some of the connections was not captured.
    NotSampled,
    /// The owner was taken from who holds the descriptor, because accept() was not seen.
    OwnerFromSurvey,
    /// Some of the sockets have a file that no process holds: in flight between processes, or
    /// registered with io_uring.
    HeldWithoutDescriptor,
    /// The processes have ended, and the connections with them; this is how they were last seen.
    ProcessEnded,
    /// Some of the connections were closed by nothing but the end of their process.
    ClosedByExit,
    /// Snapshot only: data was sent after the peer closed its half; it may be in use.
    RecentlySent,
    /// Snapshot only: an idle pool looks the same; watching tells them apart.
    LeakOrIdlePool,
}

impl Qualifier {
    /// The word used in every output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::AgeUnknown => "age-unknown",
            Self::BeforeTracer => "before-tracer",
            Self::NotTraced => "not-traced",
            Self::NotSampled => "not-sampled",
            Self::OwnerFromSurvey => "owner-from-survey",
            Self::HeldWithoutDescriptor => "held-without-descriptor",
            Self::ProcessEnded => "process-ended",
            Self::ClosedByExit => "closed-by-exit",
            Self::RecentlySent => "recently-sent",
            Self::LeakOrIdlePool => "leak-or-idle-pool",
        }
    }
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Process {
    /// Process id; null when neither a holder nor the opener is known.
    pub pid: Option<u32>,
    /// Name of the process.
    pub comm: String,
    /// Path of the executable; null when it could not be read.
    pub exe: Option<String>,
    /// Command line; null when it could not be read.
    pub cmdline: Option<Vec<String>>,
    /// Control group; null when it could not be read.
    pub cgroup: Option<String>,
    /// Systemd unit; null when the process is in none.
    pub unit: Option<String>,
    /// Container; null when the process is in none.
    pub container: Option<Container>,
    /// Inode number of the network namespace of the connections.
    pub netns: u32,
}

/// A container, as its control group names it and, where these can be read, the data of what started it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Container {
    /// Its id, as its runtime gave it.
    pub id: String,
    /// Its runtime (`containerd`, `crio`, `docker`, `podman`); null when the control group does not tell.
    pub runtime: Option<String>,
    /// Its name; null when it is not known, as everything that follows.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Kubernetes: the pod.
    pub pod: Option<String>,
    /// Kubernetes: the namespace of the pod.
    pub namespace: Option<String>,
    /// Kubernetes: the uid of the pod.
    pub pod_uid: Option<String>,
}

/// The process and thread that opened a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Opener {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
}

/// A process that holds connections of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Its descriptors, ascending, at most 64.
    pub fds: Vec<u32>,
    /// How many descriptors there are, listed or not.
    pub fds_total: u64,
}

/// Whether an age was measured or is a lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeKind {
    /// The peer's FIN or RST, or what else the age counts from, was seen.
    Exact,
    /// The connection is at least this old.
    AtLeast,
}

/// What a verdict rests on: the fields of the group's verdict. Byte counts and ages are those of the
/// worst connection of the group unless the name says total.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Evidence {
    /// `not-accepted`
    NotAccepted {
        /// Connections waiting in the listener's accept queue.
        accept_queue: u32,
        /// The most that may wait.
        backlog: u32,
        /// The listening address and port; null when nobody listens there any more, so that no program can
        /// accept or close the connection.
        listener: Option<String>,
    },
    /// `dead-fd`: how the connections ended.
    DeadFd {
        /// The peer sent a RST, no FIN came before it.
        reset: u64,
        /// The peer sent a FIN, a RST followed.
        fin_then_reset: u64,
        /// Both sides shut down in order, the descriptor was never closed.
        shut_down_in_order: u64,
        /// The peer stopped answering.
        timed_out: u64,
    },
    /// `half-close-in-use`
    HalfCloseInUse {
        /// Connections on which data was sent since the FIN.
        sending: u64,
        /// Connections on which data was read since the FIN.
        reading: u64,
    },
    /// `inherited`
    Inherited {
        /// Processes that hold the connections.
        holding_processes: u64,
        /// Whether the opener is one of them; null when the opener is not known.
        opener_holds: Option<bool>,
    },
    /// `reader-stuck`
    ReaderStuck {
        /// Bytes that wait, worst connection.
        unread_bytes: u64,
        /// Bytes that wait, whole group.
        unread_bytes_total: u64,
    },
    /// `reader-stalled`
    ReaderStalled {
        /// Bytes that wait, worst connection.
        unread_bytes: u64,
        /// Bytes that wait, whole group.
        unread_bytes_total: u64,
        /// Receive window offered to the peer.
        window_bytes: u64,
    },
    /// `pooled`
    Pooled {
        /// Siblings (connections of the same origin) that were used again while watching.
        siblings_reused: u64,
        /// Siblings that were closed while watching, after they had been idle without a peer.
        siblings_evicted: u64,
    },
    /// `eof-ignored`
    EofIgnored {
        /// Seconds since the read that returned end of file, oldest connection.
        eof_read_s: f64,
    },
    /// `eof-consumed` and `eof-unread`
    Eof {
        /// Bytes that wait unread: zero, or the verdict would be `reader-stuck`.
        unread_bytes: u64,
        /// Whether the peer's FIN waits to be read.
        fin_unread: bool,
    },
    /// `fin-wait2-held`
    FinWait2Held {
        /// Seconds since data last came, connection on which it came last.
        last_data_s: f64,
        /// Bytes that wait, worst connection.
        unread_bytes: u64,
        /// Bytes that wait, whole group.
        unread_bytes_total: u64,
    },
    /// `orphaned`
    Orphaned {
        /// Bytes that the peer has not acknowledged, worst connection; its FIN is not counted.
        unacknowledged_bytes: u64,
        /// The same, whole group.
        unacknowledged_bytes_total: u64,
        /// Seconds since the peer last sent an acknowledgement, connection on which it did last: it is
        /// there and takes nothing, or it is gone.
        last_ack_s: f64,
    },
    /// `syn-sent`
    SynSent {
        /// Times that the kernel asked again, worst connection.
        retransmits: u64,
    },
    /// `open-idle`
    OpenIdle {
        /// Seconds since anything was sent or received, connection that was used last.
        idle_s: f64,
        /// Bytes that wait, worst connection.
        unread_bytes: u64,
        /// Bytes that wait, whole group.
        unread_bytes_total: u64,
    },
}

/// One connection of a group.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Connection {
    /// Local address and port.
    pub local: String,
    /// Remote address and port.
    pub remote: String,
    /// TCP state as the kernel calls it: `CLOSE_WAIT`, `CLOSE`, `ESTABLISHED`, `FIN_WAIT2`.
    pub state: String,
    /// Seconds since the peer went away, as the group's `oldest_s` (see its `age_kind`).
    pub age_s: f64,
    /// Inode number of the socket, as in /proc/PID/fd; zero when there is none.
    pub inode: u64,
    /// Descriptors that refer to it, of every holder, ascending.
    pub fds: Vec<u32>,
}
