//! arm64.

use framehop::aarch64::{PtrAuthMask, UnwindRegsAarch64};
use gimli::{AArch64, Register, Vendor};
use object::elf;

use super::super::{
    registers::Registers,
    row::{CfaRule, RegisterRule, Row},
    stack::Stack,
};

/// The processor as ELF files name it.
pub const MACHINE: u16 = elf::EM_AARCH64;
/// Number of the stack pointer in DWARF.
pub const STACK_POINTER: Register = AArch64::SP;
/// Number of the frame pointer in DWARF.
pub const FRAME_POINTER: Register = AArch64::X29;
/// Number of the column that holds the rule for the return address.
pub const RETURN_ADDRESS: Register = AArch64::X30;
/// Whose own instructions unwind information may have.
pub const VENDOR: Vendor = Vendor::AArch64;
/// The column that says whether the return address is signed.
pub const SIGNED: Option<Register> = Some(AArch64::RA_SIGN_STATE);
/// Whether a function may not have moved the stack pointer at all.
pub const CALL_LEAVES_STACK_ALONE: bool = true;
/// Whether the code of a signal trampoline says more than its unwind information: that of the vDSO
/// leads to the caller of the interrupted function and leaves the function itself out.
pub const TRUST_TRAMPOLINE_CODE: bool = true;
/// Bytes that a call instruction has.
pub const CALL_BYTES: u64 = 4;

/// `mov x8, #139` and `svc #0`: the system call that ends a signal handler.
const TRAMPOLINE: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
/// Where the kernel's signal frame, which the stack pointer is at in a trampoline, has the first
/// of the registers x0 to x30; the stack pointer and the program counter follow them.
const SAVED_REGISTERS: u64 = 312;

/// The plain address in a return address, without the bits that authenticate it.
pub fn plain_address(address: u64, highest: u64) -> u64 {
    // The mask of no bits at all would not be one.
    PtrAuthMask::from_max_known_address(highest | 1).strip_ptr_auth(address)
}

/// What the return address column stands for before a call has returned: the link register.
pub fn return_address_register(registers: &Registers) -> u64 {
    registers.lr
}

/// The return address when the unwind information has no rule for it.
pub fn implied_return_address(registers: &Registers) -> Option<u64> {
    Some(registers.lr)
}

/// Registers of the caller as far as they follow from a return address and the stack.
pub fn returned(pc: u64, sp: u64, fp: u64) -> Registers {
    Registers { pc, sp, fp, lr: pc }
}

/// The caller of a function that has not set up a frame. In a file that has unwind information
/// those without are such functions; elsewhere the link register may be one that is no longer
/// needed.
pub fn caller_of_leaf(
    registers: &Registers,
    _stack: &mut Stack<'_>,
    has_rows: bool,
) -> Option<Registers> {
    let Registers { sp, fp, lr, .. } = *registers;
    has_rows.then(|| returned(lr, sp, fp))
}

/// The caller of a Go function whose stack pointer is so many bytes below where it was when the function
/// began. The lowest word of the frame is the return address, and right below it the caller's frame pointer
/// is saved; before Go 1.21 that may still point to where the stack was before it was moved.
pub fn caller_by_frame_size(
    bytes: u64,
    registers: &Registers,
    stack: &mut Stack<'_>,
    innermost: bool,
) -> Option<Registers> {
    let Registers { sp, fp, lr, .. } = *registers;
    if bytes == 0 {
        return innermost.then(|| returned(lr, sp, fp));
    }
    let fp = stack.word(sp.checked_sub(8)?)?;
    Some(returned(stack.word(sp)?, sp.checked_add(bytes)?, fp))
}

/// Whether bytes end in a call instruction.
pub fn ends_in_call(code: &[u8]) -> bool {
    let Some(last) = code.last_chunk::<4>().copied().map(u32::from_le_bytes) else {
        return false;
    };
    let direct = last & 0xfc00_0000 == 0x9400_0000;
    let by_register = last & 0xffff_fc1f == 0xd63f_0000;
    let authenticated = last & 0xfeff_f800 == 0xd63f_0800;
    direct || by_register || authenticated
}

/// Where the call that bytes end in leads to; none for one that a register decides. `end` is the
/// address behind it.
pub fn call_target(code: &[u8], end: u64) -> Option<u64> {
    let last = code.last_chunk::<4>().copied().map(u32::from_le_bytes)?;
    let direct = last & 0xfc00_0000 == 0x9400_0000;
    // 26 bits with a sign, in words.
    let distance = i64::from((last << 6) as i32 >> 4);
    direct.then(|| end.wrapping_sub(4).wrapping_add_signed(distance))
}

/// Whether code sets up a frame pointer anywhere: nearly all does.
pub fn sets_up_frame_pointer(_code: &[u8]) -> bool {
    true
}

/// Whether code is a signal trampoline.
pub fn is_trampoline(code: &[u8]) -> bool {
    code.starts_with(&TRAMPOLINE)
}

/// The registers of the code that a signal interrupted.
pub fn interrupted(registers: &Registers, stack: &mut Stack<'_>) -> Option<Registers> {
    let first = registers.sp.checked_add(SAVED_REGISTERS)?;
    let mut saved = |number: u64| stack.word(first.checked_add(number * 8)?);
    Some(Registers {
        fp: saved(29)?,
        lr: saved(30)?,
        sp: saved(31)?,
        pc: saved(32)?,
    })
}

/// Whether a row is of the few kinds that framehop has a rule for.
pub fn is_plain(row: &Row) -> bool {
    let CfaRule::RegisterAndOffset { register, offset } = row.cfa else {
        return false;
    };
    // framehop does not know the instruction that says so.
    if row.may_be_signed {
        return false;
    }
    // framehop ends where a frame pointer is zero: such rows are better followed without it.
    if register != STACK_POINTER || offset % 16 != 0 || !(0..1 << 17).contains(&offset) {
        return false;
    }
    let saved = |rule: &RegisterRule| {
        matches!(rule, RegisterRule::Offset(saved)
            if saved % 8 == 0 && (-(1 << 17)..0).contains(saved))
    };
    row.return_address.as_ref().is_some_and(saved) && row.frame_pointer.as_ref().is_none_or(saved)
}

/// The registers as framehop takes them.
pub fn to_framehop(registers: &Registers) -> UnwindRegsAarch64 {
    let Registers { sp, fp, lr, .. } = *registers;
    UnwindRegsAarch64::new(lr, sp, fp)
}

/// The registers of the caller as framehop gives them.
pub fn from_framehop(pc: u64, registers: &UnwindRegsAarch64) -> Registers {
    returned(pc, registers.sp(), registers.fp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_authenticate_an_address_are_no_part_of_it() {
        let highest = 0x0000_ffff_a320_6000;
        assert_eq!(
            plain_address(0x002b_aaaa_b54f_7000, highest),
            0xaaaa_b54f_7000
        );
        assert_eq!(
            plain_address(0x0000_aaaa_b54f_7000, highest),
            0xaaaa_b54f_7000
        );
    }

    #[test]
    fn calls_are_told_from_what_is_none() {
        for call in [0x9400_0010_u32, 0xd63f_0020, 0xd63f_083f, 0xd73f_0822] {
            assert!(ends_in_call(&call.to_le_bytes()), "{call:x}");
        }
        let back_by_8 = 0x97ff_fffe_u32.to_le_bytes();
        assert_eq!(call_target(&back_by_8, 0x1004), Some(0xff8));
        for other in [0x1400_0010_u32, 0xd61f_0020, 0xd65f_03c0, 0xd503_201f] {
            assert!(!ends_in_call(&other.to_le_bytes()), "{other:x}");
        }
    }
}
