//! The goroutines of a process, and the one that waits for a connection.
//!
//! They go on while they are looked at. What is read at first is read once more at the end, and counts
//! only if it is the same: then that goroutine has not moved in between, for the text that it is found
//! by is that of one request.

use tcpleak_ebpf::BELOW_STACK;

use super::{
    Asked, Functions,
    address::Text,
    layout::{Layout, Machine},
};
use crate::code_path::reader::{memory::Memory, unwind::Registers};

/// Most goroutines that are looked at.
const MOST: u64 = 4096;
/// Most frames between where a goroutine waits and the function that has it wait.
const FRAMES: usize = 8;
/// Frames that are one and the same wait however far it is: that of the function that has the goroutine wait,
/// and of `Transport.roundTrip`, which calls one such function after the other.
const OF_WAIT: usize = 2;
/// Most bytes of a stack that are read.
const STACK_BYTES: u64 = 64 << 10;

/// What a goroutine is at while it waits; the bit is set while its stack is searched for garbage.
const WAITS: u32 = 4;
const SEARCHED: u32 = 0x1000;
/// In a goroutine: the end of its stack, and where it goes on: stack pointer, program counter and the
/// goroutine itself.
pub const STACK_END: u64 = 8;
const SP: u64 = 56;
const PC: u64 = 64;
pub const ITSELF: u64 = 72;

/// Where `getConn` keeps the text of the address among its arguments: it comes behind the transport, the
/// request, the proxy and the scheme (2 words).
const WANTED: u64 = 40;
/// Where a connection of the HTTP client has that text: in what it is kept by, behind the proxy and the
/// scheme.
const CONNECTED_TO: u64 = 24 + 32;

/// The goroutines of a process.
pub struct Goroutines<'a> {
    pub(super) machine: Machine,
    pub(super) layout: &'a Layout,
    pub(super) functions: &'a Functions,
    /// Bytes of the frame of the function at an address.
    pub(super) frame: &'a dyn Fn(u64) -> Option<u64>,
    /// Where the list of them begins.
    pub(super) list: u64,
}

/// A goroutine that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    registers: Registers,
    stack_end: u64,
}

impl Goroutines<'_> {
    /// The one that waits for a connection to this address, or for the first answer on it.
    pub fn asking_for(&self, text: Text, memory: &Memory<'_>) -> Option<Asked> {
        let list = memory.word(self.list)?;
        let number = memory.word(self.list.checked_add(8)?)?.min(MOST);
        let (goroutine, waiting, frames) = (0..number).find_map(|index| {
            let goroutine = memory.word(list.checked_add(index * 8)?)?;
            let waiting = self.waiting(goroutine, memory)?;
            let frames = self.asks_for(waiting, text, memory)?;
            Some((goroutine, waiting, frames))
        })?;
        let asked = Asked {
            registers: waiting.registers,
            stack: waiting.stack(memory)?,
            waiting: frames + OF_WAIT,
        };
        let now = memory.afresh();
        let still = self.waiting(goroutine, &now)? == waiting;
        (still && self.asks_for(waiting, text, &now)? == frames).then_some(asked)
    }

    fn waiting(&self, goroutine: u64, memory: &Memory<'_>) -> Option<Waiting> {
        let word = |offset: u64| memory.word(goroutine.checked_add(offset)?);
        let status = memory.half(goroutine.checked_add(self.layout.status)?)?;
        if status & !SEARCHED != WAITS || word(ITSELF)? != goroutine {
            return None;
        }
        let (sp, stack_end) = (word(SP)?, word(STACK_END)?);
        let registers = Registers {
            pc: word(PC)?,
            sp,
            fp: word(self.layout.frame_pointer)?,
            lr: 0,
        };
        let inside = word(0)? <= sp && sp < stack_end;
        inside.then_some(Waiting {
            registers,
            stack_end,
        })
    }

    /// The frame of the function that has the goroutine wait, if it does so for this address.
    fn asks_for(&self, waiting: Waiting, text: Text, memory: &Memory<'_>) -> Option<usize> {
        let Registers { mut pc, mut sp, .. } = waiting.registers;
        for number in 0..FRAMES {
            let instruction = pc.checked_sub(1)?;
            let frame = (self.frame)(instruction)?;
            let (return_address, caller) = self.machine.caller(sp, frame)?;
            let arguments = self.machine.arguments_above(caller);
            if self.functions.wants_connection.contains(&instruction) {
                return (Text::at(arguments, WANTED, memory)? == text).then_some(number);
            }
            if self.functions.wants_answer.contains(&instruction) {
                return (self.is_first_on(arguments, text, memory)?).then_some(number);
            }
            if caller >= waiting.stack_end {
                return None;
            }
            (pc, sp) = (memory.word(return_address)?, caller);
        }
        None
    }

    /// Whether the first argument is a connection to this address that serves its first request.
    fn is_first_on(&self, arguments: u64, text: Text, memory: &Memory<'_>) -> Option<bool> {
        let connection = memory.word(arguments)?;
        let reused = memory.byte(connection.checked_add(self.layout.reused)?)?;
        let same = Text::at(connection, CONNECTED_TO, memory)? == text;
        Some(same && reused == 0)
    }
}

impl Waiting {
    fn stack(&self, memory: &Memory<'_>) -> Option<Vec<u8>> {
        let from = self.registers.sp.checked_sub(BELOW_STACK)?;
        let length = self.stack_end.checked_sub(from)?.min(STACK_BYTES);
        let length = usize::try_from(length).ok()?;
        memory.bytes(from, length, length)
    }
}
