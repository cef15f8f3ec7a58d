//! Who closes first: TIME_WAIT is on that side, long after socket and process are gone.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use tcpleak_ebpf::{CLOSE_SPAN, CLOSE_SPANS, Closes, ClosesOf, Connection, Endpoints, Task, birth};

use crate::{
    kernel::Sock,
    lifecycle::now,
    maps::{CONNECTIONS, count},
};

/// The first port that the kernel chooses for a client, unless it is told otherwise.
const CHOSEN_PORTS: u16 = 32_768;

/// How many connections each process has closed first, by what they have in common. User space removes
/// what has not counted for a while.
#[map]
static CLOSES: HashMap<ClosesOf, Closes> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// What a count is put together from.
#[repr(C)]
struct Scratch {
    of: ClosesOf,
    new: Closes,
    ends: Endpoints,
}

/// The only one who puts one together is the program of state changes.
#[map]
static CLOSES_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Whether the path that closes a connection tells more than the one that opened it: who accepts is one
/// loop for all, as a rule.
#[inline(always)]
pub fn wants_path(sock: Sock) -> bool {
    // SAFETY: entries are freed only after a grace period, and this one is read at once.
    match unsafe { CONNECTIONS.get(sock.key()) } {
        Some(record) => record.origin == 0 || is_accepted(record),
        None => true,
    }
}

/// Counts a connection that `task` is the first to close, which has this record if any; `path` is zero where
/// none was captured.
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, keys and counts would take room on the stack, which is short of it"
)]
#[inline(always)]
pub fn count_close(sock: Sock, record: Option<&Connection>, task: &Task, path: u64) {
    let Some(scratch) = CLOSES_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the slot is this CPU's, and a program does not interrupt itself.
    let Scratch { of, new, ends } = unsafe { &mut *scratch };
    match record {
        Some(record) => *ends = record.ends,
        None => sock.endpoints(ends),
    }
    *of = ClosesOf::default();
    of.start_ns = task.start_ns;
    of.tgid = task.tgid;
    of.netns = ends.netns;
    of.local = ends.local;
    let mut accepted = looks_accepted(ends);
    let mut origin = 0;
    *new = Closes {
        at: now(),
        comm: task.comm,
        ..Closes::default()
    };
    if let Some(record) = record {
        new.bound = u64::from(record.bound);
        if record.birth != birth::BEFORE_TRACER {
            accepted = is_accepted(record);
            origin = record.origin;
        }
    }
    if accepted {
        of.passive = 1;
        of.port = ends.local_port;
    } else {
        of.port = ends.remote_port;
        of.remote = ends.remote;
    }
    let by_origin = !accepted && origin != 0;
    of.path = if by_origin { origin } else { path };
    of.closing = u8::from(!by_origin);
    match CLOSES.get_ptr_mut(&*of) {
        // SAFETY: entries are freed only after a grace period. When two CPUs count at once, one of the
        // two may be lost.
        Some(closes) => add(unsafe { &mut *closes }, new),
        None => {
            new.count = 1;
            new.spans[index_of(new.at)] = counted(new.at, 1);
            if CLOSES.insert(&*of, &*new, 0).is_err() {
                count(|counters| &mut counters.closes_dropped);
            }
        }
    }
}

/// Counts one more. A span takes the place of the one that was there before, eight spans ago or more.
#[inline(always)]
fn add(closes: &mut Closes, one: &Closes) {
    let place = &mut closes.spans[index_of(one.at)];
    let is_same = *place >> 32 == one.at >> CLOSE_SPAN & u64::from(u32::MAX);
    *place = if is_same {
        *place + 1
    } else {
        counted(one.at, 1)
    };
    closes.count += 1;
    closes.bound += one.bound;
    closes.at = one.at;
}

/// The place of the span of this time.
#[inline(always)]
fn index_of(at: u64) -> usize {
    const LAST: u64 = CLOSE_SPANS as u64 - 1;
    (at >> CLOSE_SPAN & LAST) as usize
}

/// The number of the span of this time, and how many there were in it.
#[inline(always)]
fn counted(at: u64, number: u64) -> u64 {
    (at >> CLOSE_SPAN) << 32 | number
}

#[inline(always)]
fn is_accepted(record: &Connection) -> bool {
    matches!(
        record.birth,
        birth::PENDING | birth::ACCEPTED | birth::FIRST_USED
    )
}

/// Whether a connection that is older than the tracer was accepted, as far as its ports tell.
#[inline(always)]
fn looks_accepted(ends: &Endpoints) -> bool {
    ends.local_port < CHOSEN_PORTS && ends.remote_port >= CHOSEN_PORTS
}
