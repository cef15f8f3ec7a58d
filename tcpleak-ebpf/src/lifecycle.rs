//! What happens to a connection, kept in its lifecycle record.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::PerCpuArray,
};
use aya_log_ebpf::{debug, warn};
use tcpleak_ebpf::{Connection, Task, Use, birth, cost_slot, tcp_state};

use crate::{
    closes, followed,
    kernel::{Address, Current, Sock, is_orphaned},
    limits::Subject,
    maps::{CONNECTIONS, RECORD_SCRATCH, TASK_SCRATCH, count},
    path::{Capture, Stacks, capture, permit},
};

/// Whether the running program is about a connection that is opened, not closed.
#[map]
static OPENS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// What a change of state means for a connection.
enum Event {
    Connecting,
    Connected,
    /// Refused, or never answered.
    Failed,
    PassivelyOpened,
    PeerGone,
    /// Into CLOSE: the peer reset it, or both sides are done.
    Ended,
    /// This side ends it first: TIME_WAIT will be here.
    ClosedFirst,
    Closed,
}

impl Event {
    /// Most of the changes in the life of a connection mean nothing here, and cost nothing.
    #[inline(always)]
    fn of(from: u8, to: u8) -> Option<Self> {
        match (from, to) {
            (tcp_state::CLOSE, tcp_state::SYN_SENT) => Some(Self::Connecting),
            (tcp_state::SYN_SENT, tcp_state::ESTABLISHED) => Some(Self::Connected),
            (tcp_state::SYN_RECV, tcp_state::ESTABLISHED) => Some(Self::PassivelyOpened),
            (_, tcp_state::CLOSE_WAIT) => Some(Self::PeerGone),
            (tcp_state::ESTABLISHED, tcp_state::FIN_WAIT1) => Some(Self::ClosedFirst),
            (tcp_state::CLOSE_WAIT, tcp_state::LAST_ACK) => Some(Self::Closed),
            (tcp_state::SYN_SENT, tcp_state::CLOSE) => Some(Self::Failed),
            // A connection that never was has no peer.
            (tcp_state::SYN_RECV | tcp_state::LISTEN, tcp_state::CLOSE) => None,
            (_, tcp_state::CLOSE) => Some(Self::Ended),
            _ => None,
        }
    }
}

/// A socket goes from one TCP state to another.
///
/// Only the changes that a system call causes look at the running process: the others happen in
/// whatever process the packet's interrupt met.
#[inline(always)]
pub fn state_changed<S: Stacks>(context: &impl EbpfContext, sock: Address, from: i32, to: i32) {
    let Some(event) = Event::of(from as u8, to as u8) else {
        return;
    };
    // Nobody is left to leak an orphan.
    if matches!(event, Event::Ended) && is_orphaned(sock) {
        return;
    }
    // The tracepoint is about no other family.
    let Some(sock) = Sock::of_inet(sock) else {
        return;
    };
    match event {
        Event::Connecting | Event::ClosedFirst => {
            acts::<S>(context, sock, matches!(event, Event::Connecting));
        }
        Event::Connected => connected(sock),
        // What is left of an attempt tells nothing, and the next one begins anew.
        Event::Failed => destroyed(sock.key()),
        Event::PassivelyOpened => passively_opened(context, sock),
        Event::PeerGone => peer_gone(context, sock),
        // close() with data unread, or told not to linger: it ends without a FIN.
        Event::Ended if sock.is_ended_here() && !is_closed(sock) => {
            closed(sock, None);
        }
        Event::Ended => {
            peer_gone(context, sock);
            ended(sock);
        }
        Event::Closed => {
            closed(sock, None);
        }
    }
}

/// The kernel frees a socket. One that was dead before its process ended is closed by nothing else.
#[inline(always)]
pub fn destroyed(sock: u64) {
    if followed::follows_any()
        && let current = Current::get()
        && current.is_ending()
        && let Some(record) = CONNECTIONS.get_ptr_mut(sock)
        && let Some(checked) = Sock::checked(Address(sock))
    {
        // SAFETY: as in `accepted`.
        let record = unsafe { &mut *record };
        if record.closed_at == 0 && record.peer_gone_at != 0 {
            record.closed_at = now();
            followed::tell_of_end(checked, record, current);
        }
    }
    // Most sockets of a host have no record: not finding one is no error.
    let _ = CONNECTIONS.remove(sock);
}

/// A process takes a connection from a listener.
#[inline(always)]
pub fn accepted<S: Stacks>(context: &impl EbpfContext, sock: Sock) {
    match CONNECTIONS.get_ptr_mut(sock.key()) {
        Some(record) => {
            // SAFETY: entries are freed only after a grace period, and this one's writers are the
            // hooks of one socket, which the kernel runs one after another.
            let record = unsafe { &mut *record };
            if record.birth == birth::PENDING {
                own::<S>(
                    context,
                    record,
                    sock.key(),
                    birth::ACCEPTED,
                    Capture::Accept,
                );
            }
        }
        None => {
            if let Some(record) = new_record(Capture::Accept, sock, birth::PENDING) {
                own::<S>(
                    context,
                    record,
                    sock.key(),
                    birth::ACCEPTED,
                    Capture::Accept,
                );
                keep(context, sock, record);
            }
        }
    }
}

/// What a read or a write did.
pub struct Outcome {
    /// The program that saw it.
    pub program: Capture,
    /// Bytes moved; negative for an error.
    pub returned: i64,
    /// Whether the bytes stay to be read again (`MSG_PEEK`).
    pub peeked: bool,
}

/// A process reads from or writes to some socket, TCP or not. Claims a connection whose accept()
/// was not seen.
#[inline(always)]
pub fn used<S: Stacks>(context: &impl EbpfContext, sock: u64, outcome: &Outcome) {
    let Some(record) = CONNECTIONS.get_ptr_mut(sock) else {
        return;
    };
    // SAFETY: as in `accepted`.
    let record = unsafe { &mut *record };
    let mut claimed = false;
    if record.birth == birth::PENDING {
        own::<S>(context, record, sock, birth::FIRST_USED, outcome.program);
        claimed = true;
    }
    let reads = matches!(outcome.program, Capture::Receive);
    let mut end_of_file = false;
    if reads && outcome.returned == 0 && !outcome.peeked {
        // A read of no bytes, and one after shutdown(SHUT_RD), return zero as well.
        let Some(sock) = Sock::checked(Address(sock)) else {
            return;
        };
        end_of_file = record.eof_read_at == 0 && sock.is_read_to_the_end();
    }
    if (outcome.returned <= 0 && !end_of_file) || outcome.peeked {
        return;
    }
    let now = now();
    if end_of_file {
        record.eof_read_at = now;
    }
    let origin = record.origin;
    let uses = if reads {
        &mut record.reads
    } else {
        &mut record.writes
    };
    let notable = note(uses, now);
    if claimed {
        uses.path = origin;
        uses.captured_count = uses.count;
    } else if notable || end_of_file {
        capture_use::<S>(context, uses, sock, outcome.program);
    }
}

/// Counts a use, and says whether its code path is worth a capture: that of the first few, the first
/// one after a pause, and then ever fewer.
#[inline(always)]
fn note(uses: &mut Use, now: u64) -> bool {
    const FIRST: u32 = 4;
    const PAUSE: u64 = 1_000_000_000;
    let paused = now.wrapping_sub(uses.at) > PAUSE;
    uses.at = now;
    uses.count = uses.count.saturating_add(1);
    paused || uses.count <= FIRST || uses.count & (uses.count - 1) == 0
}

#[inline(always)]
fn capture_use<S: Stacks>(context: &impl EbpfContext, uses: &mut Use, sock: u64, program: Capture) {
    // Under load most are not: so this comes first.
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if !permit(Subject::Use, tgid) {
        return;
    }
    let Some(task) = TASK_SCRATCH.get_ptr_mut(program as u32) else {
        return;
    };
    // SAFETY: the slot is this CPU's and this program's alone while it runs (see PATH_SCRATCH).
    let task: &mut Task = unsafe { &mut *task };
    if !Current::get().describe(task) {
        return;
    }
    let path = capture::<S>(context, program, sock, task, cost_slot::USE);
    // The path of an earlier use tells more than none.
    if path != 0 {
        uses.path = path;
        uses.captured_count = uses.count;
    }
}

/// The running process opens a connection, or is the first to close one. Both capture at one place: a
/// program that did at two would take the kernel twice as long to check.
#[inline(always)]
fn acts<S: Stacks>(context: &impl EbpfContext, sock: Sock, opens: bool) {
    let Some(task) = TASK_SCRATCH.get_ptr_mut(Capture::State as u32) else {
        return;
    };
    // SAFETY: the slot is this CPU's and this program's alone while it runs (see PATH_SCRATCH).
    let task: &mut Task = unsafe { &mut *task };
    let current = Current::get();
    let is_process = current.describe(task);
    // Kept where neither the compiler nor the kernel's check follows it: what comes next is the same for
    // both, and is there once.
    let Some(remembered) = OPENS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the slot is this CPU's, and only the program of state changes uses it.
    unsafe { remembered.write_volatile(u32::from(opens)) };
    // At its end a process is wherever it was.
    let wanted = opens || (!current.is_ending() && closes::wants_path(sock));
    // SAFETY: as above.
    let subject = match unsafe { remembered.read_volatile() } {
        0 => Subject::Close,
        _ => Subject::Origin,
    };
    let mut path = 0;
    if is_process && wanted && permit(subject, task.tgid) {
        path = capture::<S>(
            context,
            Capture::State,
            sock.key(),
            task,
            cost_slot::LIFECYCLE,
        );
    }
    // SAFETY: as above.
    if unsafe { remembered.read_volatile() } != 0 {
        connecting(context, sock, is_process.then_some(&*task), path);
    } else {
        let record = closed(sock, Some(task));
        closes::count_close(sock, record, task, path);
    }
}

fn connecting(context: &impl EbpfContext, sock: Sock, opener: Option<&Task>, origin: u64) {
    let Some(record) = new_record(Capture::State, sock, birth::CONNECTED) else {
        return;
    };
    if sock.has_port() {
        record.bound = 1;
    } else {
        // It may still be that of an earlier connection of the same socket.
        record.ends.local_port = 0;
    }
    if let Some(opener) = opener {
        record.opener = *opener;
        record.origin = origin;
        record.followed = followed::follows_current().into();
        describe_opening(context, record);
    }
    keep(context, sock, record);
}

fn passively_opened(context: &impl EbpfContext, sock: Sock) {
    if let Some(record) = new_record(Capture::State, sock, birth::PENDING) {
        keep(context, sock, record);
    }
}

/// The local end is known only now.
fn connected(sock: Sock) {
    if let Some(record) = CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: as in `accepted`.
        sock.local_end(unsafe { &mut (*record).ends });
    }
}

fn peer_gone(context: &impl EbpfContext, sock: Sock) {
    match CONNECTIONS.get_ptr_mut(sock.key()) {
        Some(record) => {
            // SAFETY: as in `accepted`.
            let record = unsafe { &mut *record };
            if record.peer_gone_at == 0 {
                record.peer_gone_at = now();
            }
        }
        // Older than the tracer: its opener is lost, the age of its leak is not.
        None => {
            if let Some(record) = new_record(Capture::State, sock, birth::BEFORE_TRACER) {
                record.opened_at = 0;
                record.peer_gone_at = now();
                keep(context, sock, record);
            }
        }
    }
}

/// The error is kept as it is now: the program may fetch it, which clears it.
fn ended(sock: Sock) {
    if let Some(record) = CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: as in `accepted`.
        unsafe { (*record).end_error = sock.error().unsigned_abs() as u8 };
    }
}

/// The running process closes a connection; `closer` is that process, where it is known already. Gives the
/// record.
fn closed(sock: Sock, closer: Option<&Task>) -> Option<&'static Connection> {
    let record = CONNECTIONS.get_ptr_mut(sock.key())?;
    // SAFETY: as in `accepted`.
    let record = unsafe { &mut *record };
    record.closed_at = now();
    // Who opened it has it, as a rule: another is asked for only where nobody is known.
    if record.opener.tgid == 0 {
        match closer {
            Some(closer) => record.closer = *closer,
            None => {
                Current::get().describe(&mut record.closer);
            }
        }
    }
    if followed::follows_any() {
        let current = Current::get();
        if current.is_ending() {
            followed::tell_of_end(sock, record, current);
        }
    }
    Some(record)
}

/// Whether this side has sent its FIN, or there is nobody to tell of it.
fn is_closed(sock: Sock) -> bool {
    match CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: as in `accepted`.
        Some(record) => unsafe { (*record).closed_at != 0 },
        None => true,
    }
}

/// Begins a record where the program has room for it: its stack has not.
#[inline(always)]
fn new_record(program: Capture, sock: Sock, birth: u8) -> Option<&'static mut Connection> {
    let record = RECORD_SCRATCH.get_ptr_mut(program as u32)?;
    // SAFETY: the slot is this CPU's and this program's alone while it runs (see PATH_SCRATCH).
    let record = unsafe { &mut *record };
    *record = Connection::default();
    record.opened_at = now();
    sock.endpoints(&mut record.ends);
    record.birth = birth;
    Some(record)
}

/// Writes the running process into the record of a socket that it took. A kernel thread is no owner:
/// before 5.12 they did the work of io_uring. What one has accepted can still be claimed by its first use.
#[inline(always)]
fn own<S: Stacks>(
    context: &impl EbpfContext,
    record: &mut Connection,
    sock: u64,
    birth: u8,
    slot: Capture,
) {
    if !Current::get().describe(&mut record.opener) {
        return;
    }
    record.birth = birth;
    record.followed = followed::follows_current().into();
    if permit(Subject::Origin, record.opener.tgid) {
        let accounted = match slot {
            Capture::State | Capture::Accept => cost_slot::LIFECYCLE,
            Capture::Receive | Capture::Send => cost_slot::USE,
        };
        record.origin = capture::<S>(context, slot, sock, &record.opener, accounted);
    }
    describe_opening(context, record);
}

/// What else is kept of an opening in the running process.
#[inline(always)]
fn describe_opening(context: &impl EbpfContext, record: &mut Connection) {
    // SAFETY: the helper takes nothing and returns a number.
    record.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    debug!(
        context,
        "process {} opened a connection, code path {:x}", record.opener.tgid, record.origin
    );
}

#[inline(always)]
fn keep(context: &impl EbpfContext, sock: Sock, record: &Connection) {
    if CONNECTIONS.insert(sock.key(), record, 0).is_err() {
        count(|counters| &mut counters.connections_dropped);
        warn!(context, "a connection was not recorded: the map is full");
    }
}

/// Nanoseconds of the monotonic clock.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}
