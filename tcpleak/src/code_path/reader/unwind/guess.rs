//! The caller of code that has no unwind information.
//!
//! Such code mostly keeps frame pointers: that of Go does, and code made at run time. But a C
//! library built for size has neither. In a file that has unwind information for its other code, a
//! return address counts if the call before it leads to the function that is running.

use super::{
    RawFrame, arch,
    code::{Code, Mapped},
    registers::Registers,
    stack::Stack,
};

/// Most words of a frame that are looked through for a return address.
const WORDS: u64 = 256;
/// Most bytes of such a function.
const FUNCTION_BYTES: u64 = 8 << 10;

/// How the caller is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the frame pointer.
    FramePointer,
    /// By the call that led here, where there is one.
    Call,
}

impl Way {
    /// How the caller of a frame is best guessed.
    pub fn of(frame: RawFrame, code: &Code) -> Self {
        match Function::at(frame, code) {
            Some(function) if !function.is_near_frame_pointers() => Self::Call,
            _ => Self::FramePointer,
        }
    }

    /// The registers of the caller. Its address is zero when there is none.
    pub fn caller(
        self,
        frame: RawFrame,
        registers: &Registers,
        stack: &mut Stack<'_>,
        code: &Code,
    ) -> Option<Registers> {
        let by_call = |stack: &mut Stack<'_>| match self {
            Self::Call => Function::at(frame, code)?.caller(registers, stack, code),
            Self::FramePointer => None,
        };
        caller_of_leaf(frame, registers, stack, code)
            .or_else(|| by_call(stack))
            .or_else(|| by_frame_pointer(registers, stack))
    }
}

/// The caller of running code that has not set up a frame. It counts only if it is at a call.
fn caller_of_leaf(
    frame: RawFrame,
    registers: &Registers,
    stack: &mut Stack<'_>,
    code: &Code,
) -> Option<Registers> {
    if frame.is_return {
        return None;
    }
    let has_rows = (code.mapped(frame.address)).is_some_and(|mapped| mapped.image.has_rows());
    let caller = arch::caller_of_leaf(registers, stack, has_rows)?;
    let address = arch::plain_address(caller.pc, code.highest());
    arch::ends_in_call(code_before(address, code)?).then_some(caller)
}

/// The caller by the chain of frame pointers: each points to the caller's, and the return address
/// lies above it.
fn by_frame_pointer(registers: &Registers, stack: &mut Stack<'_>) -> Option<Registers> {
    let fp = registers.fp;
    if fp == 0 {
        return Some(Registers::default());
    }
    let (above, sp) = (fp.checked_add(8)?, fp.checked_add(16)?);
    Some(arch::returned(stack.word(above)?, sp, stack.word(fp)?))
}

/// Code between functions that have unwind information.
struct Function<'a> {
    mapped: &'a Mapped,
    /// Where it may begin, at the earliest, as the file itself counts.
    earliest: u64,
    /// What runs.
    instruction: u64,
}

impl<'a> Function<'a> {
    fn at(frame: RawFrame, code: &'a Code) -> Option<Self> {
        let mapped = code.mapped(frame.instruction())?;
        let instruction = mapped.own_address(frame.instruction());
        if !mapped.image.has_rows() {
            return None;
        }
        let covered = mapped.image.end_of_rows_before(instruction);
        Some(Self {
            mapped,
            earliest: covered.max(instruction.saturating_sub(FUNCTION_BYTES)),
            instruction,
        })
    }

    /// Whether this function, or one close before it, keeps a frame pointer.
    fn is_near_frame_pointers(&self) -> bool {
        let size = self.instruction.saturating_sub(self.earliest);
        let code = (self.mapped.image).code(self.earliest, size.min(FUNCTION_BYTES) as usize);
        arch::sets_up_frame_pointer(code)
    }

    /// The caller, by a return address behind a call of this very function: the one above the
    /// frame pointer, or else the nearest one on the stack.
    fn caller(
        &self,
        registers: &Registers,
        stack: &mut Stack<'_>,
        code: &Code,
    ) -> Option<Registers> {
        let by_frame_pointer = by_frame_pointer(registers, stack)
            .filter(|caller| caller.sp > registers.sp && self.is_called_before(caller.pc, code));
        if by_frame_pointer.is_some() || arch::CALL_LEAVES_STACK_ALONE {
            return by_frame_pointer;
        }
        let mut places = (0..WORDS).filter_map(|word| registers.sp.checked_add(word * 8));
        places.find_map(|place| {
            let return_address = stack.copied_word(place)?;
            let caller = arch::returned(return_address, place.checked_add(8)?, registers.fp);
            self.is_called_before(return_address, code)
                .then_some(caller)
        })
    }

    /// Whether the instruction before an address calls this function.
    fn is_called_before(&self, address: u64, code: &Code) -> bool {
        let address = arch::plain_address(address, code.highest());
        let target = code_before(address, code).and_then(|call| arch::call_target(call, address));
        target.is_some_and(|target| {
            (self.earliest..=self.instruction).contains(&self.mapped.own_address(target))
        })
    }
}

/// The bytes of code that may be a call before a return address.
fn code_before(address: u64, code: &Code) -> Option<&[u8]> {
    let start = address.checked_sub(arch::CALL_BYTES)?;
    let mapped = code.mapped(start)?;
    Some((mapped.image).code(mapped.own_address(start), arch::CALL_BYTES as usize))
}
