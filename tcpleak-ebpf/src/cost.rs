//! What the programs cost: every run is counted, one of some is timed, and every capture is.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use tcpleak_ebpf::{Cost, cost_slot};

use crate::{lifecycle::now, maps::COSTS};

/// One run of so many is timed.
const TIMED: u64 = 64;

/// When the run that is timed began; zero when none is. In a map, where the verifier does not know
/// it: as a variable it would have every program followed twice, once with and once without.
#[map]
static STARTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(cost_slot::COUNT, 0);

/// Runs a program and accounts for it. Captures within are accounted for by themselves.
#[inline(always)]
pub fn account(slot: u32, program: impl FnOnce()) {
    let Some(cost) = COSTS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: the slot is this CPU's own. Programs that preempt each other there can lose a count,
    // which is an estimate anyway.
    let cost: &mut Cost = unsafe { &mut *cost };
    cost.runs += 1;
    let Some(started) = STARTED.get_ptr_mut(slot) else {
        return;
    };
    if cost.runs.is_multiple_of(TIMED) {
        // SAFETY: as above.
        unsafe { *started = now() };
    }
    let captured = cost.capture_ns;
    program();
    // SAFETY: as above.
    let started = unsafe { core::mem::take(&mut *started) };
    if started == 0 {
        return;
    }
    let elapsed = now().wrapping_sub(started);
    let capturing = cost.capture_ns.wrapping_sub(captured);
    cost.timed_runs += 1;
    // Preempted by another capture: that one's time is not part of this run.
    if elapsed > capturing {
        cost.timed_ns += elapsed - capturing;
    }
}

/// Adds a capture that began at `started`.
#[inline(always)]
pub fn captured(slot: u32, started: u64) {
    if let Some(cost) = COSTS.get_ptr_mut(slot) {
        // SAFETY: as in `account`.
        let cost: &mut Cost = unsafe { &mut *cost };
        cost.captures += 1;
        cost.capture_ns += now().wrapping_sub(started);
    }
}
