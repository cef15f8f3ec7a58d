//! A walk over the stack, block by block: copies it, and adds up what tells one path from another,
//! the addresses of code in their order.
//!
//! A loop over all words of a stack would give the verifier more states than it can compare, so the
//! kernel does the looping: it calls a function for each element of an array, of which nothing but
//! the number counts. The function is verified once.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_for_each_map_elem, bpf_probe_read_user},
    macros::map,
    maps::Array,
};
use tcpleak_ebpf::{CODE_RANGES, CodeRange, STACK_BYTES};

use crate::maps::{PATH_SCRATCH, PathScratch};

/// Bytes that are copied at once: a read that meets a missing page fails as a whole.
const BLOCK: usize = 256;
/// Words of a block.
const WORDS: usize = BLOCK / 8;
/// Blocks of the largest stack.
const BLOCKS: u32 = (STACK_BYTES / BLOCK) as u32;
/// The smallest page.
const PAGE: u64 = 4096;
/// Most bytes that are missing where a stack goes on: a buffer that is not filled yet may hold pages that
/// nobody has touched. 16 KiB is a usual size of a large one.
const GAP: u32 = 5 * PAGE as u32;

#[map]
static BLOCK_NUMBERS: Array<u8> = Array::with_max_entries(BLOCKS, 0);

/// A walk over the stack in one slot of [`PATH_SCRATCH`], where it is kept too: what lies in a map is
/// unknown to the verifier, so that all walks look alike to it. On the program's own stack it would
/// follow the function anew for every value that it knows there.
#[repr(C)]
pub struct Walk {
    /// Where code lies.
    pub ranges: [CodeRange; CODE_RANGES],
    /// What was added up so far.
    pub fingerprint: u64,
    /// Where to begin.
    pub sp: u64,
    /// Bytes to walk over, in whole blocks.
    pub bytes: u32,
    /// Bytes that were walked over.
    pub walked: u32,
    /// Whether to add up.
    pub adds_up: u32,
    /// Where the page ends that was missing last.
    pub missing_to: u32,
}

/// Walks as the slot says, until it is done or the stack ends.
#[inline(always)]
pub fn run(mut slot: u32) {
    // SAFETY: the function has the signature that the kernel calls for an array, and the slot
    // outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const BLOCK_NUMBERS).cast_mut().cast(),
            walk_block as *mut c_void,
            (&raw mut slot).cast(),
            0,
        );
    }
}

/// One block. Returns zero to go on.
#[inline(never)]
extern "C" fn walk_block(
    _map: *mut c_void,
    number: *const u32,
    _value: *mut c_void,
    slot: *const u32,
) -> i64 {
    // SAFETY: the kernel passes the number of the element, and what `run` gave it.
    let (number, slot) = unsafe { (*number, *slot) };
    block(slot, number.into())
}

/// As [`run`], for kernels before 5.13: the loop is our own, and what is called by it is a global
/// function, which the verifier looks at once, by itself, whatever it is called with.
#[inline(always)]
pub fn run_by_calls(slot: u32) {
    for number in 0..BLOCKS {
        if tcpleak_walk_block(slot.into(), number.into()) != 0 {
            break;
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tcpleak_walk_block(slot: u64, number: u64) -> u64 {
    // The verifier knows nothing of the arguments. Taken from a copy that the compiler cannot look
    // through, the number that is compared is the one that is counted with.
    let number = core::hint::black_box(number & 0xff);
    block(slot as u32, number) as u64
}

/// One block. Returns zero to go on.
#[inline(always)]
fn block(slot: u32, number: u64) -> i64 {
    let Some(scratch) = PATH_SCRATCH.get_ptr_mut(slot) else {
        return 1;
    };
    // SAFETY: the slot is that of the program that is running (see PATH_SCRATCH).
    let PathScratch { walk, path } = unsafe { &mut *scratch };
    // All counting is by the number, which the verifier knows nothing of: counting up here would
    // have it follow every block.
    if number >= u64::from(BLOCKS) {
        return 1;
    }
    let start = number * BLOCK as u64;
    if start >= u64::from(walk.bytes) {
        return 1;
    }
    let first = number as usize * WORDS;
    let stack = &mut path.payload;
    // SAFETY: the number is less than BLOCKS, so the block lies within the stack. A checked access
    // would end in a panic, which the verifier takes for a function without an end.
    let block = unsafe { stack.as_mut_ptr().add(first).cast::<[u64; WORDS]>() };
    if start as u32 + BLOCK as u32 <= walk.missing_to {
        // SAFETY: as above.
        unsafe { *block = [0; WORDS] };
        return 0;
    }
    let source = walk.sp.wrapping_add(start);
    // SAFETY: it is one block.
    if unsafe { read(block.cast(), BLOCK as u32, source) } {
        walk.walked = start as u32 + BLOCK as u32;
    } else if !around_page(walk, stack.as_mut_ptr(), number, source) {
        return 1;
    }
    if walk.adds_up != 0 {
        // SAFETY: as above.
        let block = unsafe { &*block };
        let mut fingerprint = walk.fingerprint;
        for word in block {
            let word = plain_address(*word);
            let chosen = if_code(&walk.ranges, word);
            fingerprint = mix(fingerprint, word) & chosen | fingerprint & !chosen;
        }
        walk.fingerprint = fingerprint;
    }
    0
}

/// Reads what is there of a block that is not there as a whole, and notes what is missing. False when that is
/// too much.
#[inline(always)]
fn around_page(walk: &mut Walk, stack: *mut u64, number: u64, source: u64) -> bool {
    let start = number as u32 * BLOCK as u32;
    let on_page = PAGE - source % PAGE;
    walk.missing_to = start + on_page as u32;
    // The verifier takes both parts for as long as they can be, and so for longer than a block: the last one
    // is left out. It believes that only of a place that is found after the question.
    let number = core::hint::black_box(number);
    if on_page < BLOCK as u64 && number < u64::from(BLOCKS) - 1 {
        let first = (on_page & (BLOCK as u64 - 8)) as u32;
        // SAFETY: both parts together are one block, which lies within the stack.
        let (before, behind) = unsafe {
            let block = stack.add(number as usize * WORDS).cast::<u8>();
            let behind = block.add(first as usize);
            (
                read(block, first, source),
                read(behind, BLOCK as u32 - first, source + u64::from(first)),
            )
        };
        if behind {
            walk.walked = start + BLOCK as u32;
        } else {
            if before {
                walk.walked = start + first;
            }
            walk.missing_to += PAGE as u32;
        }
    }
    walk.missing_to.saturating_sub(walk.walked) <= GAP
}

/// Copies from user memory; false, and zeroes, when not all of it is there.
///
/// # Safety
///
/// The place has room for so many bytes.
#[inline(always)]
unsafe fn read(place: *mut u8, bytes: u32, source: u64) -> bool {
    // SAFETY: the caller says so, and the helper checks the source.
    unsafe { bpf_probe_read_user(place.cast(), bytes, source as *const c_void) == 0 }
}

/// All ones when a word lies in one of the ranges, else zero. By arithmetic: with a branch for each
/// word the verifier would have many ways to follow.
#[inline(always)]
fn if_code(ranges: &[CodeRange; CODE_RANGES], word: u64) -> u64 {
    // The highest bit is set when the distance is not negative and less than the length.
    let inside = |range: &CodeRange| {
        let distance = word.wrapping_sub(range.start);
        distance.wrapping_sub(range.length) & !distance
    };
    let any = inside(&ranges[0]) | inside(&ranges[1]) | inside(&ranges[2]) | inside(&ranges[3]);
    // The compiler would make a branch of it all the same.
    core::hint::black_box((any as i64 >> 63) as u64)
}

/// A word without the bits that authenticate it, should it be a return address: they depend on where
/// on the stack it lies. The highest ones stay, so that few other words become addresses. Code is not
/// mapped above 48 bits unless a program asks for it.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn plain_address(word: u64) -> u64 {
    word & !(0x7f << 48)
}

/// A word, which may be a return address.
#[cfg(not(bpf_target_arch = "aarch64"))]
#[inline(always)]
fn plain_address(word: u64) -> u64 {
    word
}

/// One step of a multiply-and-rotate hash: every input bit reaches the high half, the rotation
/// brings it back down.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}
