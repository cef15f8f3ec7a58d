//! Where frames of Java code keep what leads to their callers. This is by the machine; what is
//! called by its number of words is the same on both.

use super::{code::Blob, layout::Frame as FrameLayout};
use crate::code_path::reader::{runtimes::At, unwind::Registers};

/// Words from the frame pointer of an interpreted method to the method.
const METHOD: i64 = -3;
/// Words from the frame pointer of an interpreted method to where it is in its byte code.
#[cfg(target_arch = "x86_64")]
const BYTE_CODE: i64 = -8;
#[cfg(not(target_arch = "x86_64"))]
const BYTE_CODE: i64 = -9;
/// The same in JDK 8.
const BYTE_CODE_8: i64 = -7;

/// Most bytes from a frame pointer to the caller's stack pointer: arguments lie between.
const ARGUMENTS: u64 = 1 << 16;
/// Most bytes from the stack pointer to the frame pointer.
const FRAME: u64 = 1 << 20;
/// Words that compiled code may have on the stack beyond its frame.
const EXTRA: u64 = 6;

/// The method that an interpreted frame is of, and the address in its byte code.
pub fn interpreted(at: &mut At<'_, '_>, layout: &FrameLayout) -> Option<(u64, Option<u64>)> {
    let method = word(at, METHOD)?;
    let byte_code = word(
        at,
        if layout.is_old {
            BYTE_CODE_8
        } else {
            BYTE_CODE
        },
    );
    Some((method, byte_code))
}

/// The caller of an interpreted method.
pub fn caller_of_interpreted(at: &mut At<'_, '_>, layout: &FrameLayout) -> Option<Registers> {
    let caller = by_frame_pointer(at)?;
    // Where the caller's frame ends is known to the frame alone: what is between belongs to the call.
    let sender = word(at, layout.sender)?;
    let fits = (caller.sp..caller.sp.saturating_add(ARGUMENTS)).contains(&sender);
    Some(Registers {
        sp: if fits { sender } else { caller.sp },
        ..caller
    })
}

/// The caller of code that keeps the frame pointer.
pub fn by_frame_pointer(at: &mut At<'_, '_>) -> Option<Registers> {
    let Registers { sp, fp, .. } = at.registers;
    if fp < sp || fp - sp > FRAME || fp % 8 != 0 {
        return None;
    }
    Some(Registers {
        pc: at.stack.word(fp.checked_add(8)?)?,
        fp: at.stack.word(fp)?,
        sp: fp.checked_add(16)?,
        lr: 0,
    })
}

/// The caller of code whose frames have a known size; `is_code` says whether it can be one.
pub fn by_size(
    at: &mut At<'_, '_>,
    blob: &Blob,
    is_code: impl Fn(u64) -> bool,
) -> Option<Registers> {
    let end = at.registers.sp.checked_add(blob.frame_size)?;
    for extra in 0..=EXTRA {
        let sp = end.checked_add(extra * 8)?;
        let pc = at.stack.word(sp.checked_sub(8)?)?;
        if is_code(pc) {
            let fp = at.stack.word(sp.checked_sub(16)?)?;
            return Some(Registers { pc, sp, fp, lr: 0 });
        }
    }
    None
}

/// Where a method was before it was found to be compiled for what is no longer so.
pub fn before_deoptimization(at: &mut At<'_, '_>, offset: u64) -> Option<u64> {
    at.stack.word(at.registers.sp.checked_add(offset)?)
}

fn word(at: &mut At<'_, '_>, words: i64) -> Option<u64> {
    at.stack
        .word(at.registers.fp.checked_add_signed(words * 8)?)
}
