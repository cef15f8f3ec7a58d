//! The records that the kernel programs and user space share.
//!
//! Every type is `repr(C)` without hidden padding, because it crosses the kernel boundary as bytes:
//! the size assertions below fail the build when a field would change a layout unseen. There is no
//! logic here, only layouts and the constants that give the numbers their names.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`); zero means "not seen".
//! Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`. Ports are in host byte order.

#![no_std]

/// Longest code path, in frames, that a walk by frame pointers keeps. A path of this length counts as
/// truncated.
pub const MAX_FRAMES: usize = 64;

/// Most bytes of a stack that are copied: what one slot of a per-CPU map (32 KiB) has room for
/// beside the header.
pub const STACK_BYTES: usize = 127 * 256;

/// Bytes below the stack pointer that are copied too: on arm64 Go keeps the frame pointer of the caller
/// there.
pub const BELOW_STACK: u64 = if cfg!(any(bpf_target_arch = "aarch64", target_arch = "aarch64")) {
    8
} else {
    0
};

/// Most ranges of addresses that a process's code is said to lie in.
pub const CODE_RANGES: usize = 4;

/// Bytes of a process name, as in the kernel's `TASK_COMM_LEN`.
pub const COMM_LEN: usize = 16;

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
pub mod tcp_state {
    #![allow(missing_docs)]
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    pub const NEW_SYN_RECV: u8 = 12;
    /// Slots of a table by state: more than the largest, and a power of two, so that a mask bounds an index.
    pub const SLOTS: usize = 16;
}

/// How the tracer came to know a connection: the values of [`Connection::birth`].
pub mod birth {
    /// Open before the tracer was: only later events are known.
    pub const BEFORE_TRACER: u8 = 0;
    /// Seen in connect().
    pub const CONNECTED: u8 = 1;
    /// The handshake ended, no process has been seen to take the connection yet.
    pub const PENDING: u8 = 2;
    /// Seen in accept().
    pub const ACCEPTED: u8 = 3;
    /// Claimed by the process that first read or wrote it.
    pub const FIRST_USED: u8 = 4;
}

/// A process and one of its threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// When the process (its thread group leader) started, in nanoseconds since boot. With `tgid`
    /// it names a process for good, although pids are reused.
    pub start_ns: u64,
    /// Process id (thread group id) in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Name of the process (its thread group leader), NUL-padded, any bytes.
    pub comm: [u8; COMM_LEN],
}

/// The two ends of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Local address.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
}

/// What a capture holds: the values of [`PathHeader::kind`].
pub mod path_kind {
    /// Registers, and a copy of the stack from the stack pointer on.
    pub const STACK: u32 = 0;
    /// Return addresses, found by frame pointers.
    pub const FRAME_POINTERS: u32 = 1;
    /// Nothing: io_uring did it, in a thread of the kernel, or in between while a thread of the
    /// program was at something else.
    pub const IO_URING: u32 = 2;
    /// Nothing: it is no path, but says that the process runs another program from now on.
    pub const STARTED: u32 = 3;
}

/// Uses of a connection in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// The last one.
    pub at: u64,
    /// Fingerprint of the latest code path that was captured; zero when none was.
    pub path: u64,
    /// How many there were; stays at its largest value.
    pub count: u32,
    /// How many there were when `path` was captured.
    pub captured_count: u32,
}

/// What tracing knows about one connection: the value kept for each sock address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// connect() for an active connection, the end of the handshake (or accept(), when that is all
    /// that was seen) for a passive one.
    pub opened_at: u64,
    /// The peer's FIN or RST.
    pub peer_gone_at: u64,
    /// First read that returned end of file.
    pub eof_read_at: u64,
    /// The local FIN (into FIN_WAIT1 or LAST_ACK).
    pub closed_at: u64,
    /// Fingerprint of the code path that opened it; zero when none was captured.
    pub origin: u64,
    /// Control group of the opener (cgroup v2 id).
    pub cgroup_id: u64,
    /// Who opened it; zeroed when unknown.
    pub opener: Task,
    /// Who sent the local FIN, where nobody is known who opened it; zeroed otherwise.
    pub closer: Task,
    /// The ends at the time of opening. A local port of zero was not chosen yet.
    pub ends: Endpoints,
    /// Reads that returned data, or the end of file.
    pub reads: Use,
    /// Writes that took data.
    pub writes: Use,
    /// Last survey that found this socket, for the sweep of entries whose end was missed.
    pub survey: u32,
    /// One of [`birth`].
    pub birth: u8,
    /// One when the program bound it to a port before it connected: that port is taken for every remote
    /// end, and not for one.
    pub bound: u8,
    /// One when the opener is a process that is followed.
    pub followed: u8,
    /// The error (errno, all of which fit) with which the connection ended, as it was then: the program may fetch it,
    /// which clears it.
    pub end_error: u8,
}

/// Closes are counted in spans of so many nanoseconds, as a power of two: 8.6 seconds.
pub const CLOSE_SPAN: u32 = 33;

/// Spans that are kept: more than the minute that a socket stays in TIME_WAIT.
pub const CLOSE_SPANS: usize = 8;

/// What connections that were closed here first, so that TIME_WAIT is on this side, have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosesOf {
    /// Local address.
    pub local: [u8; 16],
    /// Remote address of connections that were opened here; zeroes for accepted ones.
    pub remote: [u8; 16],
    /// Fingerprint of the code path; zero when none was captured.
    pub path: u64,
    /// Who closed them: when the process started, as in [`Task`].
    pub start_ns: u64,
    /// Who closed them: process id.
    pub tgid: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The remote port of connections that were opened here, the local one of accepted ones.
    pub port: u16,
    /// One for accepted ones.
    pub passive: u8,
    /// One when the path is that which closed them, zero when it is that which opened them.
    pub closing: u8,
    /// Zero.
    pub reserved: u32,
}

/// How many such connections there were.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closes {
    /// The latest close.
    pub at: u64,
    /// Since tracing began.
    pub count: u64,
    /// Of these, those that were bound to a port before they connected.
    pub bound: u64,
    /// By span, whose number modulo [`CLOSE_SPANS`] is the index: its number in the upper half, and how
    /// many there were in it in the lower one.
    pub spans: [u64; CLOSE_SPANS],
    /// Name of the process, NUL-padded, any bytes.
    pub comm: [u8; COMM_LEN],
}

/// A socket as a survey finds it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Address of the `struct sock`.
    pub address: u64,
    /// Inode number of the socket's file; zero when it has none.
    pub inode: u64,
    /// When a packet or a timer last had the kernel look at the connection.
    pub last_event_at: u64,
    /// The ends.
    pub ends: Endpoints,
    /// Next byte that a read returns.
    pub copied_seq: u32,
    /// Next byte expected from the peer (its FIN counts one).
    pub rcv_nxt: u32,
    /// One past the last byte written by the program.
    pub write_seq: u32,
    /// First byte that the peer has not acknowledged.
    pub snd_una: u32,
    /// What is left of the receive window offered to the peer, in bytes.
    pub receive_window: u32,
    /// Jiffies since the last segment with an acknowledgement arrived.
    pub last_ack_jiffies: u32,
    /// Jiffies since the last data arrived.
    pub last_data_jiffies: u32,
    /// Jiffies since the program last sent data.
    pub last_sent_jiffies: u32,
    /// Listening socket: connections waiting for accept().
    pub accept_queue: u32,
    /// Listening socket: the most that may wait.
    pub backlog: u32,
    /// Pending error (errno), positive.
    pub error: i32,
    /// One of [`tcp_state`].
    pub state: u8,
    /// `enum socket_state` of the `struct socket`: 1 unconnected, 2 connecting, 3 connected.
    pub socket_state: u8,
    /// One when the peer's FIN was received (`SOCK_DONE`).
    pub fin_received: u8,
    /// One when a `struct socket` exists: user space, or the kernel itself, owns it.
    pub has_socket: u8,
    /// One when that `struct socket` belongs to a file.
    pub has_file: u8,
    /// Times that the oldest segment which waits for its acknowledgement was sent again.
    pub retransmits: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// One record of a survey: a socket, what tracing knows about it, and one holder of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The socket.
    pub socket: Socket,
    /// Its lifecycle record; `opened_at` and `peer_gone_at` both zero when there is none.
    pub connection: Connection,
    /// The process that holds it; zeroed in records of sockets found without a descriptor.
    pub holder: Task,
    /// The descriptor number; meaningless without a holder.
    pub fd: u32,
    /// Zero.
    pub reserved: u32,
}

/// What is known of a captured code path beside its stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathHeader {
    /// Hash of the process and of what its stack holds.
    pub fingerprint: u64,
    /// Start of the process's first stack: another one after each exec.
    pub image: u64,
    /// Pages of code that the process has mapped: another number once a library was loaded.
    pub code_pages: u64,
    /// The process and thread whose stack it is.
    pub task: Task,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer register.
    pub fp: u64,
    /// Link register; zero where there is none.
    pub lr: u64,
    /// One of [`path_kind`].
    pub kind: u32,
    /// Bytes of payload that follow.
    pub length: u32,
    /// One when io_uring did it while the thread was in io_uring_enter(): there it asks for work, and
    /// waits for what was asked for before.
    pub in_ring_call: u16,
    /// One when it is the path of this connection alone, whatever its stack has in common with others.
    pub of_one: u16,
    /// How many [`Link`]s follow the payload.
    pub links: u32,
    /// Sum of the links; zero when it is not known how to follow the thread's chain, if it has one.
    pub chain: u64,
}

/// Most links of a chain that are followed.
pub const LINKS: usize = 128;

/// Bytes of a frame that is a link of a chain which are looked at.
pub const LINK_SPAN: usize = 120;

/// [`ChainPlan::through`] where nothing lies in between.
pub const DIRECT: u32 = u32::MAX;

/// How to find the frames of a thread in an interpreter that keeps them in memory, each with a pointer
/// to its caller. The interpreter has a list of lists of thread states. A thread's own is the one that
/// holds its thread pointer, as the C library's `pthread_self` gives it.
///
/// A frame is looked at as words, and the fields below are numbers of words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainPlan {
    /// The [`PathHeader::image`] that this is about.
    pub image: u64,
    /// Where the address of the first list of thread states is.
    pub lists: u64,
    /// Bits of a frame's code that count.
    pub code_mask: u64,
    /// Bits of its place in the code that count.
    pub at_mask: u64,
    /// Bits of its kind that count.
    pub kind_mask: u64,
    /// In a list: offset of the address of the next one.
    pub next_list: u32,
    /// In a list: offset of the address of its first thread state.
    pub threads: u32,
    /// In a thread state: offset of the address of the next one.
    pub next_thread: u32,
    /// In a thread state: offset of the thread pointer.
    pub thread_pointer: u32,
    /// In a thread state: offset of the address of the innermost frame, or of what leads to it.
    pub innermost: u32,
    /// In what leads to it: offset of the address of the innermost frame; [`DIRECT`] when nothing
    /// lies in between.
    pub through: u32,
    /// In a frame: the word with the address of its code.
    pub code: u32,
    /// In a frame: the word that says where in its code it is.
    pub at: u32,
    /// In a frame: the word that says what kind of frame it is.
    pub kind: u32,
    /// In a frame: the word with the address of its caller.
    pub next: u32,
    /// Bytes of a frame that hold these words, [`LINK_SPAN`] at most.
    pub span: u32,
    /// In a thread state: offset of the address of what holds the thread pointer; [`DIRECT`] when it
    /// does itself.
    pub thread: u32,
    /// Frames lie one behind the other, from the innermost on, up to an address: that of the word at
    /// this offset, in what leads to the innermost; [`DIRECT`] when each has the address of its caller.
    pub end: u32,
    /// The same: so many words further, as the word at this offset says.
    pub end_words: u32,
}

/// A frame that an interpreter keeps in memory, as it was during the system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub address: u64,
    /// Its code.
    pub code: u64,
    /// Where in the code it is.
    pub at: u64,
    /// What kind of frame it is.
    pub kind: u64,
}

/// A captured code path, sent once for each fingerprint, and only as much of it as is filled.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CapturedPath {
    /// What follows.
    pub header: PathHeader,
    /// The stack from [`BELOW_STACK`] bytes below `sp` on, or return addresses, innermost first.
    pub payload: [u64; STACK_BYTES / 8],
}

/// Where the code of a process lies, as user space knows it once it has looked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCode {
    /// The [`PathHeader::image`] that this is about.
    pub image: u64,
    /// The [`PathHeader::code_pages`] that this is about.
    pub code_pages: u64,
    /// Bytes of the stack that tell its paths apart.
    pub window: u32,
    /// One when who asks for a connection is not on the stack that opens it, so that equal stacks do not
    /// make equal paths: each connection has one of its own.
    pub asked_elsewhere: u32,
    /// Ranges that hold all of its code; unused ones are empty.
    pub ranges: [CodeRange; CODE_RANGES],
}

/// A range of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeRange {
    /// The first address.
    pub start: u64,
    /// How many there are.
    pub length: u64,
}

/// How much capturing is allowed: rates as the time that one capture uses up, and how much time may
/// be used up ahead. All in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of one process.
    pub process_interval: u64,
    /// Of one process, at once.
    pub process_burst: u64,
    /// Of the whole host.
    pub host_interval: u64,
    /// Of the whole host, at once.
    pub host_burst: u64,
}

/// What a group of programs has cost on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Times that one of them ran.
    pub runs: u64,
    /// Of these, those that were timed.
    pub timed_runs: u64,
    /// What the timed ones took, captures not included, in nanoseconds.
    pub timed_ns: u64,
    /// Captures.
    pub captures: u64,
    /// What the captures took, in nanoseconds.
    pub capture_ns: u64,
}

/// Slots of the map `COSTS`.
pub mod cost_slot {
    /// State changes, ends and accept().
    pub const LIFECYCLE: u32 = 0;
    /// Reads and writes.
    pub const USE: u32 = 1;
    /// Number of slots.
    pub const COUNT: u32 = 2;
}

/// What the programs count on one CPU: the value of the map `COUNTERS`.
///
/// One value of all, because a read of it is a system call on a map, and programs of perf events are skipped on
/// a CPU that has such a call under way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections not recorded because the map was full.
    pub connections_dropped: u64,
    /// Connections whose user stack could not be read.
    pub paths_unreadable: u64,
    /// Code paths lost because the ring was full.
    pub paths_dropped: u64,
    /// Lifecycle records that did not fit the socket found at their address.
    pub stale_records: u64,
    /// Connections whose opening was not sampled, to keep the cost down.
    pub origins_unsampled: u64,
    /// Reads and writes that were to be sampled and were not, to keep the cost down.
    pub uses_unsampled: u64,
    /// Closes that were not counted because the map was full.
    pub closes_dropped: u64,
    /// Processes not followed because the map was full.
    pub processes_dropped: u64,
    /// Connections closed by the end of their process that were lost because the ring was full.
    pub ends_dropped: u64,
    /// Sockets found by `iter/tcp`, by TCP state.
    pub states: [u64; tcp_state::SLOTS],
}

/// Offsets, in bytes, into the running kernel's structures; resolved from its BTF by user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Offsets {
    pub task_tgid: u32,
    pub task_pid: u32,
    pub task_comm: u32,
    pub task_flags: u32,
    pub task_group_leader: u32,
    pub task_start_boottime: u32,
    pub task_files: u32,
    pub task_mm: u32,
    pub task_stack: u32,
    /// From the start of a task's stack to the registers with which it entered the kernel.
    pub stack_registers: u32,
    /// Zero when the kernel has no io_uring: it is never the first member.
    pub task_io_uring: u32,
    pub task_real_parent: u32,
    /// The thread pointer. Zero where it cannot be told: then no chain is followed.
    pub task_thread_pointer: u32,
    pub mm_start_stack: u32,
    pub mm_exec_vm: u32,
    pub files_fdt: u32,
    pub fdtable_max_fds: u32,
    pub fdtable_fd: u32,
    pub file_inode: u32,
    pub file_private_data: u32,
    pub inode_mode: u32,
    pub inode_ino: u32,
    pub socket_state: u32,
    pub socket_file: u32,
    pub socket_sk: u32,
    pub sk_family: u32,
    pub sk_state: u32,
    pub sk_dport: u32,
    pub sk_num: u32,
    pub sk_daddr: u32,
    pub sk_rcv_saddr: u32,
    pub sk_v6_daddr: u32,
    pub sk_v6_rcv_saddr: u32,
    pub sk_net: u32,
    pub net_inum: u32,
    pub sk_protocol: u32,
    pub sk_type: u32,
    pub sk_flags: u32,
    pub sk_err: u32,
    pub sk_shutdown: u32,
    pub sk_socket: u32,
    pub sk_ack_backlog: u32,
    pub sk_max_ack_backlog: u32,
    pub inet_sport: u32,
    pub tcp_copied_seq: u32,
    pub tcp_rcv_nxt: u32,
    pub tcp_write_seq: u32,
    pub tcp_snd_una: u32,
    pub tcp_rcv_wnd: u32,
    pub tcp_rcv_wup: u32,
    pub tcp_bytes_acked: u32,
    pub tcp_rcv_tstamp: u32,
    pub tcp_mstamp: u32,
    pub tcp_lsndtime: u32,
    pub icsk_lrcvtime: u32,
    pub icsk_retransmits: u32,
    /// Zero when the kernel has no MPTCP: a subflow pointer is never at the start of a sock.
    pub mptcp_first: u32,
    /// In the record of the tracepoint sched_process_fork. Zero when the kernel does not tell: a record
    /// begins with what all have in common.
    pub fork_child_pid: u32,
    /// In the record of the tracepoint sched_process_free. Zero as above.
    pub free_pid: u32,
}

impl Offsets {
    /// No offset is known.
    // SAFETY: the type is made of integers only, for which zero bytes are a value.
    pub const ZERO: Self = unsafe { core::mem::zeroed() };
}

const _: () = {
    assert!(size_of::<Task>() == 32);
    assert!(size_of::<Endpoints>() == 40);
    assert!(size_of::<Use>() == 24);
    assert!(size_of::<Connection>() == 208);
    assert!(size_of::<ClosesOf>() == 64);
    assert!(size_of::<Closes>() == 104);
    assert!(size_of::<Socket>() == 120);
    assert!(size_of::<Sighting>() == 368);
    assert!(size_of::<PathHeader>() == 112);
    assert!(size_of::<CapturedPath>() == 112 + STACK_BYTES);
    // The most that the kernel allocates for each CPU.
    assert!(size_of::<CapturedPath>() <= 32 * 1024);
    assert!(8 * MAX_FRAMES <= STACK_BYTES);
    assert!(size_of::<ProcessCode>() == 88);
    assert!(size_of::<ChainPlan>() == 96);
    assert!(size_of::<Link>() == 32);
    assert!(LINKS * size_of::<Link>() < STACK_BYTES);
    assert!(size_of::<Limits>() == 32);
    assert!(size_of::<Cost>() == 40);
    assert!(size_of::<Counters>() == (9 + tcp_state::SLOTS) * 8);
    assert!(size_of::<Offsets>() == 59 * 4);
};

#[cfg(not(target_arch = "bpf"))]
mod pod {
    // SAFETY: every type below is `repr(C)`, `Copy`, made of integers and arrays of integers only,
    // and has no padding (asserted above), so any bytes are a valid value.
    unsafe impl aya::Pod for super::Connection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ClosesOf {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Closes {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sighting {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PathHeader {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ProcessCode {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ChainPlan {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Link {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Limits {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Cost {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Counters {}
}
