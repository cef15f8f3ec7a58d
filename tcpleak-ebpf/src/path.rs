//! Capture of the user-space code path, sent to user space once for each distinct path.
//!
//! Two paths are the same when the same addresses of code stand on the stack in the same order. That
//! takes no unwinding, and errs on the safe side: old addresses in unused parts of the stack can make
//! one path look like two, but never two like one. User space makes them one again.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_USER_STACK,
    helpers::{bpf_get_stack, bpf_probe_read_user},
};
use tcpleak_ebpf::{
    BELOW_STACK, CODE_RANGES, CapturedPath, CodeRange, MAX_FRAMES, PathHeader, STACK_BYTES, Task,
    path_kind,
};

use crate::{
    cause::{self, Cause},
    chain, cost, followed,
    kernel::{Address, Current, current_image, current_registers},
    lifecycle::now,
    limits::{self, Subject},
    maps::{KNOWN_PATHS, PATH_SCRATCH, PATHS, PROCESS_CODE, PathScratch, count},
    registers,
    walk::{Walk, mix, run, run_by_calls},
};

/// The program that captures, and so the scratch slot that it owns.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Capture {
    /// A state change: connect(), or the first close.
    State = 0,
    /// accept().
    Accept = 1,
    /// A read.
    Receive = 2,
    /// A write.
    Send = 3,
}

/// How a stack is captured. Which way it is, is part of the program: older kernels refuse a program
/// that holds the better one, whether it comes to it or not.
pub trait Stacks {
    /// Captures the stack of the running thread, which has one, and sends it when it is new. Gives
    /// its fingerprint, zero when it could not be read.
    fn capture(
        context: &impl EbpfContext,
        scratch: *mut PathScratch,
        slot: Capture,
        sock: u64,
    ) -> u64;
}

/// Registers and stack are copied: 5.15 and later. A 32-bit program's are not: its stack is laid out
/// in another way.
pub struct Copied;

impl Stacks for Copied {
    #[inline(always)]
    fn capture(
        context: &impl EbpfContext,
        scratch: *mut PathScratch,
        slot: Capture,
        sock: u64,
    ) -> u64 {
        // SAFETY: as in `capture`.
        let path = unsafe { &mut (*scratch).path };
        let saved = registers::saved();
        if is_of_other_code(path, saved, slot, sock) {
            return of_io_uring(path, slot);
        }
        chain::follow(slot as u32, &mut path.header, chain::run);
        if registers::read(saved, &mut path.header) {
            of_stack(scratch, saved, slot, run)
        } else {
            of_frame_pointers(context, path, slot)
        }
    }
}

/// Whether [`Walked`] programs copy stacks as well, with the registers that they find themselves. Set
/// by the loader.
#[unsafe(no_mangle)]
static COPY_BY_CALLS: u32 = 0;

/// Without the helpers of 5.15: stacks are copied by other means, or frame pointers are followed.
pub struct Walked;

impl Stacks for Walked {
    #[inline(always)]
    fn capture(
        context: &impl EbpfContext,
        scratch: *mut PathScratch,
        slot: Capture,
        sock: u64,
    ) -> u64 {
        // SAFETY: as in `capture`.
        let path = unsafe { &mut (*scratch).path };
        // SAFETY: a plain read of an initialised static.
        let copies = unsafe { core::ptr::read_volatile(&raw const COPY_BY_CALLS) } != 0;
        let Some(saved) = current_registers().filter(|_| copies) else {
            chain::follow(slot as u32, &mut path.header, chain::run_by_calls);
            return of_frame_pointers(context, path, slot);
        };
        if !registers::read_unproven(saved, &mut path.header) {
            chain::follow(slot as u32, &mut path.header, chain::run_by_calls);
            return of_frame_pointers(context, path, slot);
        }
        if is_of_other_code(path, saved, slot, sock) {
            return of_io_uring(path, slot);
        }
        chain::follow(slot as u32, &mut path.header, chain::run_by_calls);
        of_stack(scratch, saved, slot, run_by_calls)
    }
}

/// Whether the stack is that of code which has nothing to do with what happens to the socket. Notes in
/// the path when it is that of a call into io_uring.
#[inline(always)]
fn is_of_other_code(path: &mut CapturedPath, saved: Address, slot: Capture, sock: u64) -> bool {
    match cause::of(saved, slot, sock) {
        Cause::ThisCall => false,
        Cause::RingCall => {
            path.header.in_ring_call = 1;
            false
        }
        Cause::RingInBetween => true,
    }
}

/// Whether a capture may be made now, by this process; one that may not is counted.
#[inline(always)]
pub fn permit(subject: Subject, tgid: u32) -> bool {
    if !followed::minds_current() {
        return false;
    }
    let permitted = limits::permit(subject, tgid, now());
    match subject {
        _ if permitted => {}
        Subject::Origin => count(|counters| &mut counters.origins_unsampled),
        Subject::Use => count(|counters| &mut counters.uses_unsampled),
        // It is counted without a path.
        Subject::Close => {}
    }
    permitted
}

/// Captures the running thread's user stack, for what happens to the socket at this address. Gives its
/// fingerprint, zero when there is none.
#[inline(always)]
pub fn capture<S: Stacks>(
    context: &impl EbpfContext,
    slot: Capture,
    sock: u64,
    task: &Task,
    accounted: u32,
) -> u64 {
    let started = now();
    let Some(scratch) = PATH_SCRATCH.get_ptr_mut(slot as u32) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's and this program's alone while it runs (see PATH_SCRATCH).
    let path = unsafe { &mut (*scratch).path };
    path.header.task = *task;
    path.header.in_ring_call = 0;
    path.header.links = 0;
    path.header.chain = 0;
    path.header.of_one = 0;
    current_image(&mut path.header);
    let fingerprint = if !Current::get().has_user_stack() {
        of_io_uring(path, slot)
    } else {
        S::capture(context, scratch, slot, sock)
    };
    if fingerprint == 0 {
        count(|counters| &mut counters.paths_unreadable);
    }
    cost::captured(accounted, started);
    fingerprint
}

/// What io_uring does on no stack that tells anything is one path of the process.
#[inline(always)]
fn of_io_uring(path: &mut CapturedPath, slot: Capture) -> u64 {
    path.header.kind = path_kind::IO_URING;
    path.header.length = 0;
    let fingerprint = mix(seed(&path.header), u64::from(path_kind::IO_URING));
    send(path, fingerprint, slot);
    fingerprint
}

/// Copies as much of the stack as tells the paths of this process apart, and all of it for a path
/// that is new.
#[inline(always)]
fn of_stack(scratch: *mut PathScratch, saved: Address, slot: Capture, run: impl Fn(u32)) -> u64 {
    // SAFETY: as in `capture`. The walk borrows the slot by itself, after this.
    prepare(unsafe { &mut *scratch }, saved, slot);
    run(slot as u32);
    // SAFETY: the walk is over.
    let PathScratch { walk, path } = unsafe { &mut *scratch };
    let fingerprint = walk.fingerprint;
    if is_known(fingerprint) {
        return fingerprint;
    }
    path.header.length = walk.walked;
    // The stack may go on behind pages that are missing where this walk ended.
    if walk.walked.max(walk.missing_to) >= walk.bytes {
        walk.bytes = STACK_BYTES as u32;
        walk.walked = 0;
        walk.missing_to = 0;
        walk.adds_up = 0;
        run(slot as u32);
        // SAFETY: the walk is over.
        let PathScratch { walk, path } = unsafe { &mut *scratch };
        path.header.length = walk.walked;
    }
    // SAFETY: as above.
    send(unsafe { &mut (*scratch).path }, fingerprint, slot);
    fingerprint
}

/// Sets the walk at its begin.
#[inline(always)]
fn prepare(scratch: &mut PathScratch, saved: Address, slot: Capture) {
    let PathScratch { walk, path } = scratch;
    path.header.kind = path_kind::STACK;
    *walk = Walk {
        ranges: [CodeRange::default(); CODE_RANGES],
        fingerprint: mix(seed(&path.header), path.header.pc),
        sp: path.header.sp.wrapping_sub(BELOW_STACK),
        bytes: STACK_BYTES as u32,
        walked: 0,
        adds_up: 1,
        missing_to: 0,
    };
    // SAFETY: the entry is copied from before the program ends, within the grace period.
    match unsafe { PROCESS_CODE.get(path.header.task.tgid) } {
        Some(code)
            if code.image == path.header.image && code.code_pages == path.header.code_pages =>
        {
            walk.ranges = code.ranges;
            walk.bytes = code.window;
            path.header.of_one = u16::from(code.asked_elsewhere != 0);
        }
        _ => {
            take_for_code(&mut walk.ranges, path.header.sp);
            path.header.of_one = u16::from(is_goroutine(saved, path.header.sp));
        }
    }
    // Only who opens a connection may do so for somebody else.
    match slot {
        Capture::State if path.header.of_one != 0 => {
            walk.fingerprint = mix(walk.fingerprint, now());
        }
        _ => path.header.of_one = 0,
    }
}

/// Whether the running code is a goroutine on its own stack. Go begins its description of one with the
/// bounds of that stack.
#[inline(always)]
fn is_goroutine(saved: Address, sp: u64) -> bool {
    let goroutine = registers::goroutine(saved) as *const [u64; 2];
    // SAFETY: the helper checks the address, which is one of user space.
    match unsafe { bpf_probe_read_user(goroutine) } {
        Ok([low, high]) => low != 0 && low <= sp && sp < high,
        Err(_) => false,
    }
}

/// As far as frame pointers lead.
#[inline(always)]
fn of_frame_pointers(context: &impl EbpfContext, path: &mut CapturedPath, slot: Capture) -> u64 {
    path.header.kind = path_kind::FRAME_POINTERS;
    path.header.length = size_of::<[u64; MAX_FRAMES]>() as u32;
    // SAFETY: the payload is larger than this, and any bytes are words.
    let frames = unsafe { &mut *path.payload.as_mut_ptr().cast::<[u64; MAX_FRAMES]>() };
    *frames = [0; MAX_FRAMES];
    // SAFETY: the buffer is as large as said, and the helper writes no more.
    let bytes = unsafe {
        bpf_get_stack(
            context.as_ptr(),
            frames.as_mut_ptr().cast(),
            size_of::<[u64; MAX_FRAMES]>() as u32,
            u64::from(BPF_F_USER_STACK),
        )
    };
    if bytes <= 0 {
        return 0;
    }
    let mut fingerprint = seed(&path.header);
    for index in 0..MAX_FRAMES {
        fingerprint = mix(fingerprint, path.payload[index]);
    }
    send(path, fingerprint, slot);
    fingerprint
}

/// What is taken for code before user space has looked at the process: everything but the stack.
#[inline(always)]
fn take_for_code(ranges: &mut [CodeRange; CODE_RANGES], sp: u64) {
    const LOWEST: u64 = 0x1000;
    const HIGHEST: u64 = if cfg!(bpf_target_arch = "aarch64") {
        1 << 48
    } else {
        1 << 47
    };
    /// The stack is not larger, as a rule.
    const AROUND: u64 = 16 << 20;
    let (below, above) = (sp.wrapping_sub(AROUND), sp.wrapping_add(AROUND));
    ranges[0] = CodeRange {
        start: LOWEST,
        length: below.saturating_sub(LOWEST),
    };
    ranges[1] = CodeRange {
        start: above,
        length: HIGHEST.saturating_sub(above),
    };
}

#[inline(always)]
fn is_known(fingerprint: u64) -> bool {
    // SAFETY: only the presence of the entry is looked at.
    unsafe { KNOWN_PATHS.get(fingerprint) }.is_some()
}

/// Sends a path that is new. It counts as known only once it is on its way: one that found the ring
/// full is sent the next time.
#[inline(always)]
fn send(path: &mut CapturedPath, fingerprint: u64, slot: Capture) {
    if is_known(fingerprint) {
        return;
    }
    path.header.fingerprint = fingerprint;
    let length = chain::append(path, slot as u32);
    if length > STACK_BYTES {
        return;
    }
    let start = (&raw const *path).cast::<u8>();
    // SAFETY: the record is at least as large as its header and what its payload holds.
    let filled = unsafe { core::slice::from_raw_parts(start, size_of::<PathHeader>() + length) };
    if PATHS.output::<[u8]>(filled, 0).is_err() {
        count(|counters| &mut counters.paths_dropped);
    } else if path.header.of_one == 0 {
        // The path of one connection does not come again.
        let _ = KNOWN_PATHS.insert(fingerprint, 1, 0);
    }
}

const FINGERPRINT_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// The process, and the program that it is at this time.
#[inline(always)]
fn seed(header: &PathHeader) -> u64 {
    let process = mix(FINGERPRINT_SEED, u64::from(header.task.tgid));
    mix(
        mix(mix(process, header.task.start_ns), header.image),
        header.chain,
    )
}
