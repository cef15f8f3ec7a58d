//! Programs that start: user space looks whether one keeps the frames of its functions in memory, so that
//! it is known how to follow them before the program opens its first connection.

use aya_ebpf::{
    macros::{btf_tracepoint, map, tracepoint},
    maps::Array,
    programs::{BtfTracePointContext, TracePointContext},
};
use tcpleak_ebpf::{PathHeader, cost_slot::LIFECYCLE, path_kind};

use crate::{
    cost::account,
    followed,
    kernel::{Current, current_image},
    lifecycle::now,
    maps::PATHS,
};

/// So many nanoseconds for each program that is told of: a host may start thousands in a second, and each
/// takes user space some 200 microseconds.
const INTERVAL: u64 = 50_000_000;
/// So many nanoseconds may be used up ahead: by a hundred programs that start at once.
const BURST: u64 = 5_000_000_000;

/// Until when what may be told is used up.
#[map]
static STARTS_BUCKET: Array<u64> = Array::with_max_entries(1, 0);

/// A program was started; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(_context: BtfTracePointContext) -> i32 {
    account(LIFECYCLE, tell);
    0
}

/// A program was started; classic tracepoint.
#[tracepoint(category = "sched", name = "sched_process_exec")]
fn sched_process_exec_classic(_context: TracePointContext) -> i32 {
    account(LIFECYCLE, tell);
    0
}

/// Tells user space of the running process.
#[inline(always)]
fn tell() {
    if !followed::minds_current() || !permit() {
        return;
    }
    let Some(mut entry) = PATHS.reserve::<PathHeader>(0) else {
        return;
    };
    let place = entry.as_mut_ptr();
    // SAFETY: the entry is as large as a header, of which any bytes are a value; it is filled here.
    let header = unsafe {
        place.write_bytes(0, 1);
        &mut *place
    };
    header.kind = path_kind::STARTED;
    current_image(header);
    Current::get().describe(&mut header.task);
    entry.submit(0);
}

/// Whether one more may be told of now. A race lets through one too many.
#[inline(always)]
fn permit() -> bool {
    let Some(bucket) = STARTS_BUCKET.get_ptr_mut(0) else {
        return false;
    };
    let now = now();
    // SAFETY: the slot is a number, which may change at any time.
    let used_until = unsafe { bucket.read_volatile() }.max(now);
    if used_until - now > BURST {
        return false;
    }
    // SAFETY: as above.
    unsafe { bucket.write_volatile(used_until + INTERVAL) };
    true
}
