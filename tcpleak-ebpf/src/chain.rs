//! The frames of an interpreter that keeps them in memory: a chain, from the innermost frame to the
//! outermost. They are followed while the thread is in its system call, because they change as soon as
//! that returns.
//!
//! How to follow them user space has found out ([`ChainPlan`]). The loops are made as those of
//! [`crate::walk`], and for the same reasons.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_for_each_map_elem, bpf_probe_read_kernel, bpf_probe_read_user},
    macros::map,
    maps::Array,
};
use tcpleak_ebpf::{
    CapturedPath, ChainPlan, DIRECT, LINK_SPAN, LINKS, Link, PathHeader, STACK_BYTES,
};

use crate::{
    kernel::{current_parent, current_thread_pointer},
    maps::{CHAIN_SCRATCH, CHAIN_THREADS, PROCESS_CHAINS},
    walk::mix,
};

/// Most thread states that are looked at to find a thread's own.
const THREADS: u32 = 512;
/// Bytes of the links of one chain.
const LINK_BYTES: usize = LINKS * size_of::<Link>();
/// Words of a frame that there is room for: a power of two, so that a number is bounded by its bits.
const WORDS: usize = (LINK_SPAN / 8).next_power_of_two();

/// How far below the thread pointer the C library's `pthread_self` lies, at most.
const THREAD_REACH: u64 = if cfg!(bpf_target_arch = "aarch64") {
    4096
} else {
    1
};

#[map]
static THREAD_NUMBERS: Array<u8> = Array::with_max_entries(THREADS, 0);

#[map]
static LINK_NUMBERS: Array<u8> = Array::with_max_entries(LINKS as u32, 0);

/// A chain that is followed.
#[repr(C)]
pub struct Chain {
    /// How.
    pub plan: ChainPlan,
    /// The thread.
    pub tid: u64,
    /// Its thread pointer.
    pub thread_pointer: u64,
    /// The list of thread states that is looked through.
    pub list: u64,
    /// The thread state that is looked at next.
    pub thread: u64,
    /// The frame that is looked at next.
    pub frame: u64,
    /// Where frames that lie one behind the other end.
    pub end: u64,
    /// What was added up so far.
    pub sum: u64,
    /// Links that were found.
    pub found: u64,
    /// The words of a frame.
    pub words: [u64; WORDS],
    /// The links.
    pub links: [Link; LINKS],
}

/// Follows the chain of the running thread, if it is known how, and notes in the header what was found.
#[inline(always)]
pub fn follow(slot: u32, header: &mut PathHeader, run: impl Fn(u32, bool)) {
    let Some(chain) = CHAIN_SCRATCH.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: the slot is that of the program that is running, as in `walk`.
    if !begin(unsafe { &mut *chain }, header) {
        return;
    }
    // SAFETY: as above; no other reference lives while the loops run.
    if unsafe { (*chain).frame } == 0 {
        run(slot, true);
    }
    run(slot, false);
    // SAFETY: the loops are over.
    let chain = unsafe { &mut *chain };
    header.links = chain.found as u32;
    // Never zero, which stands for a chain that is not known.
    header.chain = chain.sum | 1;
}

/// Copies the links behind what is in the payload, and says how much is in it then. What has no room is
/// cut from the stack.
#[inline(always)]
pub fn append(path: &mut CapturedPath, slot: u32) -> usize {
    let mut length = path.header.length as usize;
    if path.header.links == 0 {
        return length;
    }
    let Some(chain) = CHAIN_SCRATCH.get_ptr_mut(slot) else {
        return length;
    };
    const ROOM: usize = STACK_BYTES - LINK_BYTES;
    if length > ROOM {
        length = ROOM;
        path.header.length = ROOM as u32;
    }
    // SAFETY: the room behind is as large as all links; the helper checks nothing but copies them.
    unsafe {
        let place = path.payload.as_mut_ptr().cast::<u8>().add(length);
        let links = (&raw const (*chain).links).cast::<c_void>();
        bpf_probe_read_kernel(place.cast(), LINK_BYTES as u32, links);
    }
    length + LINK_BYTES
}

/// Prepares to follow the chain of the running thread. False when it is not known how.
#[inline(always)]
fn begin(chain: &mut Chain, header: &PathHeader) -> bool {
    let tgid = header.task.tgid;
    if !copy_plan(&mut chain.plan, tgid, header.image)
        && !copy_plan(&mut chain.plan, current_parent(), header.image)
    {
        return false;
    }
    chain.tid = header.task.tid.into();
    chain.thread_pointer = current_thread_pointer();
    chain.list = word(chain.plan.lists);
    chain.thread = 0;
    chain.frame = 0;
    chain.end = 0;
    chain.sum = 1;
    chain.found = 0;
    // SAFETY: the entry is read before the program ends, within the grace period.
    if let Some(thread) = unsafe { CHAIN_THREADS.get(header.task.tid) } {
        find_innermost(chain, *thread);
    }
    true
}

/// Takes the plan of a process when it is about this very program. A child has the plan of its parent
/// until it becomes another program.
#[inline(always)]
fn copy_plan(place: &mut ChainPlan, tgid: u32, image: u64) -> bool {
    // SAFETY: the entry is copied from before the program ends, within the grace period.
    match unsafe { PROCESS_CHAINS.get(tgid) } {
        Some(plan) if plan.image == image => {
            *place = *plan;
            true
        }
        _ => false,
    }
}

/// Finds the innermost frame of a thread state, if it is that of the running thread.
#[inline(always)]
fn find_innermost(chain: &mut Chain, thread: u64) {
    let plan = &chain.plan;
    let holder = if plan.thread == DIRECT {
        thread
    } else {
        word(thread.wrapping_add(plan.thread.into()))
    };
    let own = word(holder.wrapping_add(plan.thread_pointer.into()));
    if own == 0 || chain.thread_pointer.wrapping_sub(own) >= THREAD_REACH {
        return;
    }
    let lead = word(thread.wrapping_add(plan.innermost.into()));
    if plan.end != DIRECT {
        let words = word(lead.wrapping_add(plan.end_words.into()));
        chain.end = word(lead.wrapping_add(plan.end.into())).wrapping_add(words.wrapping_mul(8));
    }
    chain.frame = if plan.through == DIRECT || lead == 0 {
        lead
    } else {
        word(lead.wrapping_add(plan.through.into()))
    };
}

/// The word at a user address; zero when it cannot be read.
#[inline(always)]
fn word(address: u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: the helper writes one word, and checks the source.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, address as *const c_void) };
    word
}

/// Runs a loop until it is done: over thread states, or over frames.
#[inline(always)]
pub fn run(mut slot: u32, threads: bool) {
    let (numbers, step): (*const Array<u8>, *mut c_void) = match threads {
        true => (&raw const THREAD_NUMBERS, step_thread as *mut c_void),
        false => (&raw const LINK_NUMBERS, step_link as *mut c_void),
    };
    // SAFETY: the functions have the signature that the kernel calls for an array, and the slot
    // outlives the call.
    unsafe {
        bpf_for_each_map_elem(numbers.cast_mut().cast(), step, (&raw mut slot).cast(), 0);
    }
}

#[inline(never)]
extern "C" fn step_thread(
    _map: *mut c_void,
    _number: *const u32,
    _value: *mut c_void,
    slot: *const u32,
) -> i64 {
    // SAFETY: the kernel passes what `run` gave it.
    look_at_thread(unsafe { *slot })
}

#[inline(never)]
extern "C" fn step_link(
    _map: *mut c_void,
    number: *const u32,
    _value: *mut c_void,
    slot: *const u32,
) -> i64 {
    // SAFETY: the kernel passes the number of the element, and what `run` gave it.
    let (number, slot) = unsafe { (*number, *slot) };
    look_at_link(slot, number.into())
}

/// As [`run`], for kernels before 5.13.
#[inline(always)]
pub fn run_by_calls(slot: u32, threads: bool) {
    if threads {
        for _ in 0..THREADS {
            if tcpleak_look_at_thread(slot.into()) != 0 {
                break;
            }
        }
    } else {
        for number in 0..LINKS as u64 {
            if tcpleak_look_at_link(slot.into(), number) != 0 {
                break;
            }
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tcpleak_look_at_thread(slot: u64) -> u64 {
    look_at_thread(slot as u32) as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tcpleak_look_at_link(slot: u64, number: u64) -> u64 {
    // As in `walk`: the number that is compared is the one that is counted with.
    let number = core::hint::black_box(number & 0xff);
    look_at_link(slot as u32, number) as u64
}

/// One thread state, or the step to the next list of them. Returns zero to go on.
#[inline(always)]
fn look_at_thread(slot: u32) -> i64 {
    let Some(chain) = CHAIN_SCRATCH.get_ptr_mut(slot) else {
        return 1;
    };
    // SAFETY: the slot is that of the program that is running.
    let chain = unsafe { &mut *chain };
    if chain.thread == 0 {
        if chain.list == 0 {
            return 1;
        }
        chain.thread = word(chain.list.wrapping_add(chain.plan.threads.into()));
        chain.list = word(chain.list.wrapping_add(chain.plan.next_list.into()));
        return 0;
    }
    find_innermost(chain, chain.thread);
    if chain.frame != 0 {
        let _ = CHAIN_THREADS.insert(chain.tid as u32, chain.thread, 0);
        return 1;
    }
    chain.thread = word(chain.thread.wrapping_add(chain.plan.next_thread.into()));
    0
}

/// One frame. Returns zero to go on.
#[inline(always)]
fn look_at_link(slot: u32, number: u64) -> i64 {
    let Some(chain) = CHAIN_SCRATCH.get_ptr_mut(slot) else {
        return 1;
    };
    // SAFETY: the slot is that of the program that is running.
    let chain = unsafe { &mut *chain };
    if chain.frame == 0 || number >= LINKS as u64 {
        return 1;
    }
    // Bounded by its bits: a comparison may be compiled in a way that tells the verifier nothing.
    let span = core::hint::black_box(chain.plan.span) & (8 * WORDS as u32 - 1);
    let source = chain.frame as *const c_void;
    // SAFETY: the helper writes no more than there is room for, and checks the source.
    if unsafe { bpf_probe_read_user((&raw mut chain.words).cast(), span, source) } != 0 {
        return 1;
    }
    let link = Link {
        address: chain.frame,
        code: chosen(&chain.words, chain.plan.code) & chain.plan.code_mask,
        at: chosen(&chain.words, chain.plan.at) & chain.plan.at_mask,
        kind: chosen(&chain.words, chain.plan.kind) & chain.plan.kind_mask,
    };
    chain.frame = if chain.plan.end == DIRECT {
        chosen(&chain.words, chain.plan.next)
    } else {
        let next = chain.frame.wrapping_add(span.into());
        if next < chain.end { next } else { 0 }
    };
    chain.sum = mix(mix(mix(chain.sum, link.code), link.at), link.kind);
    // SAFETY: the number is less than the number of links; a checked access would end in a panic.
    unsafe { *chain.links.as_mut_ptr().add(number as usize) = link };
    chain.found = number + 1;
    0
}

/// The word with this number.
#[inline(always)]
fn chosen(words: &[u64; WORDS], number: u32) -> u64 {
    let number = core::hint::black_box(number as usize & (WORDS - 1));
    // SAFETY: the number is less than the number of words.
    unsafe { *words.as_ptr().add(number & (WORDS - 1)) }
}
