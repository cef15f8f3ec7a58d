//! The processes that `tcpleak run` follows: a command, and whatever descends from it, also when its
//! parents have ended. And the connections that these leave to the kernel to close, as they end.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map, tracepoint},
    maps::{Array, HashMap, RingBuf},
    programs::{BtfTracePointContext, TracePointContext},
};
use tcpleak_ebpf::{Connection, Sighting, cost_slot::LIFECYCLE};

use crate::{
    cost::account,
    field,
    kernel::{Address, Current, Sock, current_start, ids_of, offset, start_of},
    maps::count,
};

/// When each process that is followed started, by process id; zero when that is not known.
#[map]
static FOLLOWED: HashMap<u32, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Set by the loader: one when processes are followed.
#[unsafe(no_mangle)]
static FOLLOWS: u32 = 0;

/// Set by the loader: one when nothing else matters than the processes that are followed.
#[unsafe(no_mangle)]
static ONLY_FOLLOWED: u32 = 0;

/// The thread whose children are the first to be followed; zero for none.
#[map]
static STARTER: Array<u32> = Array::with_max_entries(1, 0);

/// Connections that nothing but the end of their process closes, as [`Sighting`]s of the moment before.
#[map]
static ENDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// A process or thread is made, and has not run yet; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let child = Address(context.arg(1));
    account(LIFECYCLE, || {
        let (process, thread) = ids_of(child);
        if process == thread {
            made(process, start_of(child));
        }
    });
    0
}

/// A process or thread is made; classic tracepoint. It does not tell which: an entry for a thread fits no
/// process, and ends with the thread.
#[tracepoint(category = "sched", name = "sched_process_fork")]
fn sched_process_fork_classic(context: TracePointContext) -> i32 {
    let child: u32 = field(&context, offset!(fork_child_pid));
    account(LIFECYCLE, || made(child, 0));
    0
}

/// A process or thread is over, and so is the use of its id; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "sched_process_free")]
fn sched_process_free(context: BtfTracePointContext) -> i32 {
    let task = Address(context.arg(0));
    account(LIFECYCLE, || {
        let (process, thread) = ids_of(task);
        // Its id may have been given to another one by now.
        if process == thread && follows(process, || start_of(task)) {
            forget(process);
        }
    });
    0
}

/// A process or thread is over; classic tracepoint.
#[tracepoint(category = "sched", name = "sched_process_free")]
fn sched_process_free_classic(context: TracePointContext) -> i32 {
    let task: u32 = field(&context, offset!(free_pid));
    account(LIFECYCLE, || forget(task));
    0
}

#[inline(always)]
fn made(child: u32, start: u64) {
    if !is_starter() && !follows_current() {
        return;
    }
    if FOLLOWED.insert(child, start, 0).is_err() {
        count(|counters| &mut counters.processes_dropped);
    }
}

#[inline(always)]
fn forget(process: u32) {
    // Most are not followed.
    let _ = FOLLOWED.remove(process);
}

/// Whether processes are followed at all.
#[inline(always)]
pub fn follows_any() -> bool {
    // SAFETY: a plain read of an initialised static, read so that the compiler cannot take today's zero
    // for granted.
    unsafe { core::ptr::read_volatile(&raw const FOLLOWS) != 0 }
}

/// Whether the running process is followed.
#[inline(always)]
pub fn follows_current() -> bool {
    if !follows_any() {
        return false;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    follows(process, current_start)
}

#[inline(always)]
fn follows(process: u32, start: impl FnOnce() -> u64) -> bool {
    // SAFETY: the value is a number, which is copied at once.
    match unsafe { FOLLOWED.get(process) } {
        Some(&0) => true,
        Some(&known) => known == start(),
        None => false,
    }
}

/// Whether anything that the running process does may matter.
#[inline(always)]
pub fn minds_current() -> bool {
    // SAFETY: as in `follows_any`.
    let only_followed = unsafe { core::ptr::read_volatile(&raw const ONLY_FOLLOWED) };
    only_followed == 0 || follows_current()
}

#[inline(always)]
fn is_starter() -> bool {
    let thread = bpf_get_current_pid_tgid() as u32;
    STARTER.get(0).is_some_and(|starter| *starter == thread)
}

/// The kernel closes a connection because its process ends: tells of it as it was until now.
#[inline(always)]
pub fn tell_of_end(sock: Sock, record: &Connection, current: Current) {
    if !follows_current() {
        return;
    }
    let Some(mut entry) = ENDS.reserve::<Sighting>(0) else {
        count(|counters| &mut counters.ends_dropped);
        return;
    };
    let place = entry.as_mut_ptr();
    // SAFETY: the entry is as large as a sighting, of which any bytes are a value; it is filled here.
    let sighting = unsafe {
        place.write_bytes(0, 1);
        &mut *place
    };
    sock.describe(&mut sighting.socket);
    sighting.connection = *record;
    current.describe(&mut sighting.holder);
    entry.submit(0);
}
