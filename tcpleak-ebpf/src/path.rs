//! Capture of the user-space code path, sent to user space once for each distinct path.

use core::mem::size_of;

use aya_ebpf::{EbpfContext, bindings::BPF_F_USER_STACK, helpers::bpf_get_stack};
use tcpleak_ebpf::{CapturedPath, Counter, MAX_FRAMES, Task};

use crate::{
    kernel::current_has_user_stack,
    maps::{KNOWN_PATHS, PATH_SCRATCH, PATHS, count},
};

/// The program that captures, and so the scratch slot that it owns.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Capture {
    /// A state change: connect().
    State = 0,
    /// accept().
    Accept = 1,
    /// A read.
    Receive = 2,
    /// A write.
    Send = 3,
}

/// Captures the running thread's user stack. Gives its fingerprint, zero when there is none.
#[inline(always)]
pub fn capture(context: &impl EbpfContext, slot: Capture, task: &Task) -> u64 {
    if !current_has_user_stack() {
        return 0;
    }
    let Some(path) = PATH_SCRATCH.get_ptr_mut(slot as u32) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's and this program's alone while it runs (see PATH_SCRATCH).
    let path: &mut CapturedPath = unsafe { &mut *path };
    // SAFETY: the buffer is as large as said, and the helper writes no more.
    let bytes = unsafe {
        bpf_get_stack(
            context.as_ptr(),
            path.frames.as_mut_ptr().cast(),
            size_of::<[u64; MAX_FRAMES]>() as u32,
            u64::from(BPF_F_USER_STACK),
        )
    };
    if bytes <= 0 {
        count(Counter::PathsUnreadable);
        return 0;
    }
    let frame_count = bytes as usize / size_of::<u64>();
    let mut fingerprint = mix(FINGERPRINT_SEED, u64::from(task.tgid));
    fingerprint = mix(fingerprint, task.start_ns);
    for index in 0..MAX_FRAMES {
        if index >= frame_count {
            break;
        }
        fingerprint = mix(fingerprint, path.frames[index]);
    }
    // SAFETY: only the presence of the entry is looked at.
    if unsafe { KNOWN_PATHS.get(fingerprint) }.is_some() {
        return fingerprint;
    }
    path.fingerprint = fingerprint;
    path.task = *task;
    path.frame_count = frame_count as u32;
    path.reserved = 0;
    // Known only once it is on its way: a path that found the ring full is sent the next time.
    if PATHS.output::<CapturedPath>(&*path, 0).is_ok() {
        let _ = KNOWN_PATHS.insert(fingerprint, 1, 0);
    } else {
        count(Counter::PathsDropped);
    }
    fingerprint
}

const FINGERPRINT_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of a multiply-and-rotate hash: every input bit reaches the high half, the rotation
/// brings it back down.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}
