//! Language runtimes: what the frames of code mean that no ELF file describes.
//!
//! One module for each runtime, which says three things: whether a process has it, what its frames
//! are called, and, where unwind information does not know, who called them. `docs/runtimes.md`
//! shows how to add one. Everything that is read from a process may have been made up by it.

mod go;
mod node;
mod process;

use serde::{Deserialize, Serialize};

use super::{
    memory::Memory,
    unwind::{AddressSpace, Guide, RawFrame, Registers, Stack, Unwound},
};
pub use process::{Object, Process};

/// A language runtime in one process.
pub trait Runtime {
    /// Looks at one frame while a stack is followed from the innermost outwards; none when the
    /// frame's code is not the runtime's.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found>;

    /// Whether the stack that was just followed is one of those that open connections for others: who
    /// asks is on another stack, and may be somebody else the next time.
    fn is_asked_elsewhere(&self) -> bool {
        false
    }

    /// The stack of who asked for what the stack that was just followed does, when it is on another
    /// one and beyond doubt.
    fn asked_by(&mut self, _memory: &Memory<'_>) -> Option<Asked> {
        None
    }
}

/// A stack that waits for what another one does.
pub struct Asked {
    /// The registers there.
    pub registers: Registers,
    /// The stack, from [`BELOW_STACK`](tcpleak_ebpf::BELOW_STACK) bytes below the stack pointer on.
    pub stack: Vec<u8>,
}

/// A frame that is looked at.
pub struct At<'a, 'stack> {
    /// Where its code goes on.
    pub frame: RawFrame,
    /// Whether unwind information describes that code. It does not where a runtime made it.
    pub described: bool,
    /// The registers there.
    pub registers: Registers,
    /// The copied part of the stack.
    pub stack: &'a mut Stack<'stack>,
    /// The memory of the process as it is now: later than the copy of the stack.
    pub memory: &'a Memory<'a>,
}

/// What a runtime knows of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What to show in place of the frame, innermost first: several when functions were inlined, none
    /// for what means nothing to the reader of a report.
    pub frames: Vec<ManagedFrame>,
    /// The registers of the caller; none to find it as for any other code.
    pub caller: Option<Registers>,
}

/// A frame of a language runtime, as a report shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManagedFrame {
    /// As in [`crate::report::Frame::runtime`].
    pub language: String,
    /// Name of the function, as its language writes it; none when it cannot be read.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line in that file.
    pub line: Option<u32>,
    /// Whether the compiler inlined it into the next frame.
    pub inlined: bool,
    /// Whether it is the program's own, not a library's.
    pub own: bool,
}

/// Whether a process has a runtime.
pub enum Detected {
    /// It has not.
    No,
    /// It has.
    Yes(Box<dyn Runtime>),
    /// It has, but its frames cannot be read, for this reason: so they stay native ones.
    Unreadable(String),
}

/// The runtimes, each by the function that looks for it.
const RUNTIMES: [fn(&Process<'_>) -> Detected; 2] = [go::detect, node::detect];

/// The runtimes of one process.
#[derive(Default)]
pub struct Runtimes {
    found: Vec<Box<dyn Runtime>>,
    unreadable: Vec<String>,
}

impl Runtimes {
    /// Looks for them.
    pub fn detect(process: &Process<'_>) -> Self {
        let mut runtimes = Self::default();
        for detect in RUNTIMES {
            match detect(process) {
                Detected::No => {}
                Detected::Yes(runtime) => runtimes.found.push(runtime),
                Detected::Unreadable(why) => runtimes.unreadable.push(why),
            }
        }
        runtimes
    }

    /// Follows a stack with what the runtimes know.
    pub fn follow(
        &mut self,
        space: &mut AddressSpace,
        registers: Registers,
        stack: &[u8],
        memory: &Memory<'_>,
    ) -> Followed {
        let (unwound, managed) = self.walk(space, registers, stack, memory);
        let mut runtimes = self.found.iter();
        let asked_elsewhere = runtimes.any(|runtime| runtime.is_asked_elsewhere());
        let mut runtimes = self.found.iter_mut();
        let asked = runtimes.find_map(|runtime| runtime.asked_by(memory));
        let requested_by =
            asked.map(|asked| self.walk(space, asked.registers, &asked.stack, memory));
        Followed {
            unwound,
            managed,
            asked_elsewhere,
            requested_by,
            unreadable: self.unreadable.first().cloned(),
        }
    }

    fn walk(
        &mut self,
        space: &mut AddressSpace,
        registers: Registers,
        stack: &[u8],
        memory: &Memory<'_>,
    ) -> (Unwound, Managed) {
        let mut walk = Walk {
            runtimes: &mut self.found,
            memory,
            managed: Vec::new(),
        };
        let unwound = space.unwind(registers, stack, &mut walk);
        (unwound, walk.managed)
    }
}

/// One stack that is followed.
struct Walk<'a> {
    runtimes: &'a mut [Box<dyn Runtime>],
    memory: &'a Memory<'a>,
    managed: Managed,
}

impl Guide for Walk<'_> {
    fn caller(
        &mut self,
        number: usize,
        frame: RawFrame,
        described: bool,
        registers: &Registers,
        stack: &mut Stack<'_>,
    ) -> Option<Registers> {
        let mut at = At {
            frame,
            described,
            registers: *registers,
            stack,
            memory: self.memory,
        };
        let mut runtimes = self.runtimes.iter_mut();
        let found = runtimes.find_map(|runtime| runtime.look(&mut at))?;
        self.managed
            .push((u32::try_from(number).ok()?, found.frames));
        found.caller
    }
}

/// What to show in place of the frames with these numbers, which ascend.
pub type Managed = Vec<(u32, Vec<ManagedFrame>)>;

/// A stack that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Its frames by address.
    pub unwound: Unwound,
    /// What to show in place of some.
    pub managed: Managed,
    /// Whether it opens connections for others, who are on stacks of their own.
    pub asked_elsewhere: bool,
    /// The stack of who asked, when that is known.
    pub requested_by: Option<(Unwound, Managed)>,
    /// Why the frames of a runtime could not be read, when they could not.
    pub unreadable: Option<String>,
}
