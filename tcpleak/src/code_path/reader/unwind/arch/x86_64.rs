//! x86-64.

use framehop::x86_64::UnwindRegsX86_64;
use gimli::{Register, Vendor, X86_64};
use object::elf;

use super::super::{
    registers::Registers,
    row::{CfaRule, RegisterRule, Row},
    stack::Stack,
};

/// The processor as ELF files name it.
pub const MACHINE: u16 = elf::EM_X86_64;
/// Number of the stack pointer in DWARF.
pub const STACK_POINTER: Register = X86_64::RSP;
/// Number of the frame pointer in DWARF.
pub const FRAME_POINTER: Register = X86_64::RBP;
/// Number of the column that holds the rule for the return address.
pub const RETURN_ADDRESS: Register = X86_64::RA;
/// Whose own instructions unwind information may have.
pub const VENDOR: Vendor = Vendor::Default;
/// The column that says whether the return address is signed.
pub const SIGNED: Option<Register> = None;
/// Whether a function may not have moved the stack pointer at all. A call pushes a word here.
pub const CALL_LEAVES_STACK_ALONE: bool = false;
/// Whether the code of a signal trampoline says more than its unwind information.
pub const TRUST_TRAMPOLINE_CODE: bool = false;
/// Most bytes that a call instruction has.
pub const CALL_BYTES: u64 = 7;

/// `mov $15,%rax` or `mov $15,%eax`, then `syscall`: the system call that ends a signal handler.
const TRAMPOLINES: [&[u8]; 2] = [
    &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05],
];
/// Where the kernel's `ucontext`, which the stack pointer is at in a trampoline, has the registers.
const SAVED_FRAME_POINTER: u64 = 120;
const SAVED_STACK_POINTER: u64 = 160;
const SAVED_PC: u64 = 168;

/// The plain address in a return address.
pub fn plain_address(address: u64, _highest: u64) -> u64 {
    address
}

/// What the return address column stands for before a call has returned: the program counter.
pub fn return_address_register(registers: &Registers) -> u64 {
    registers.pc
}

/// The return address when the unwind information has no rule for it: there is none.
pub fn implied_return_address(_registers: &Registers) -> Option<u64> {
    None
}

/// Registers of the caller as far as they follow from a return address and the stack.
pub fn returned(pc: u64, sp: u64, fp: u64) -> Registers {
    Registers { pc, sp, fp, lr: 0 }
}

/// The caller of a function that has not set up a frame.
pub fn caller_of_leaf(
    registers: &Registers,
    stack: &mut Stack<'_>,
    _has_rows: bool,
) -> Option<Registers> {
    let Registers { sp, fp, .. } = *registers;
    Some(returned(stack.word(sp)?, sp.checked_add(8)?, fp))
}

/// The caller of a Go function whose stack pointer is so many bytes below where it was when the function
/// began. The uppermost of them hold the caller's frame pointer, unless there are none.
pub fn caller_by_frame_size(
    bytes: u64,
    registers: &Registers,
    stack: &mut Stack<'_>,
    _innermost: bool,
) -> Option<Registers> {
    let place = registers.sp.checked_add(bytes)?;
    let fp = match bytes {
        0 => registers.fp,
        _ => stack.word(place.checked_sub(8)?)?,
    };
    Some(returned(stack.word(place)?, place.checked_add(8)?, fp))
}

/// Whether bytes end in a call instruction.
pub fn ends_in_call(code: &[u8]) -> bool {
    match code {
        [.., 0xe8, _, _, _, _] => true,
        // An indirect call, by the length that its operand has.
        [.., 0xff, operand] if operand & 0xf8 == 0xd0 => true,
        [.., 0xff, operand] if operand & 0xf8 == 0x10 => !matches!(operand & 7, 4 | 5),
        [.., 0xff, 0x14, _] => true,
        [.., 0xff, operand, _] if operand & 0xf8 == 0x50 => operand & 7 != 4,
        [.., 0xff, 0x54, _, _] => true,
        [.., 0xff, operand, _, _, _, _] if operand & 0xf8 == 0x90 => operand & 7 != 4,
        [.., 0xff, 0x15, _, _, _, _] => true,
        [.., 0xff, 0x14 | 0x94, _, _, _, _, _] => true,
        _ => false,
    }
}

/// Where the call that bytes end in leads to; none for one that its operand decides. `end` is the
/// address behind it.
pub fn call_target(code: &[u8], end: u64) -> Option<u64> {
    let &[.., 0xe8, a, b, c, d] = code else {
        return None;
    };
    Some(end.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into()))
}

/// Whether code sets up a frame pointer anywhere: `push %rbp; mov %rsp,%rbp`, in either encoding.
pub fn sets_up_frame_pointer(code: &[u8]) -> bool {
    let mut starts = code.windows(4);
    starts.any(|start| matches!(start, [0x55, 0x48, 0x89, 0xe5] | [0x55, 0x48, 0x8b, 0xec]))
}

/// Whether code is a signal trampoline.
pub fn is_trampoline(code: &[u8]) -> bool {
    TRAMPOLINES
        .iter()
        .any(|trampoline| code.starts_with(trampoline))
}

/// The registers of the code that a signal interrupted.
pub fn interrupted(registers: &Registers, stack: &mut Stack<'_>) -> Option<Registers> {
    let mut saved = |offset| stack.word(registers.sp.checked_add(offset)?);
    Some(Registers {
        pc: saved(SAVED_PC)?,
        sp: saved(SAVED_STACK_POINTER)?,
        fp: saved(SAVED_FRAME_POINTER)?,
        lr: 0,
    })
}

/// Whether a row is of the few kinds that framehop has a rule for.
pub fn is_plain(row: &Row) -> bool {
    let Some(RegisterRule::Offset(-8)) = row.return_address else {
        return false;
    };
    let CfaRule::RegisterAndOffset { register, offset } = row.cfa else {
        return false;
    };
    let words = |bytes: i64| bytes % 8 == 0;
    match (register, row.frame_pointer.as_ref()) {
        (STACK_POINTER, None) => words(offset) && (8..1 << 18).contains(&offset),
        (STACK_POINTER, Some(RegisterRule::Offset(saved))) => {
            words(offset)
                && words(*saved)
                && (8..1 << 17).contains(&offset)
                && (-(1 << 17)..0).contains(saved)
        }
        (FRAME_POINTER, Some(RegisterRule::Offset(-16))) => offset == 16,
        _ => false,
    }
}

/// The registers as framehop takes them.
pub fn to_framehop(registers: &Registers) -> UnwindRegsX86_64 {
    UnwindRegsX86_64::new(registers.pc, registers.sp, registers.fp)
}

/// The registers of the caller as framehop gives them.
pub fn from_framehop(pc: u64, registers: &UnwindRegsX86_64) -> Registers {
    returned(pc, registers.sp(), registers.bp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_what_is_none() {
        let calls: [&[u8]; 8] = [
            &[0xe8, 1, 2, 3, 4],             // call 0x04030201
            &[0xff, 0xd0],                   // call *%rax
            &[0x41, 0xff, 0xd4],             // call *%r12
            &[0xff, 0x10],                   // call *(%rax)
            &[0xff, 0x50, 0x18],             // call *0x18(%rax)
            &[0xff, 0x14, 0xc8],             // call *(%rax,%rcx,8)
            &[0xff, 0x15, 1, 2, 3, 4],       // call *0x04030201(%rip)
            &[0xff, 0x94, 0xc8, 1, 2, 3, 4], // call *0x04030201(%rax,%rcx,8)
        ];
        for call in calls {
            assert!(ends_in_call(call), "{call:x?}");
        }
        assert_eq!(
            call_target(&[0xe8, 0xfb, 0xff, 0xff, 0xff], 0x1005),
            Some(0x1000)
        );
        let others: [&[u8]; 5] = [&[], &[0x90], &[0x0f, 0x05], &[0xff, 0xe0], &[0xe8, 1, 2]];
        for other in others {
            assert!(!ends_in_call(other), "{other:x?}");
        }
    }
}
