//! Language runtimes: what the frames of code mean that no ELF file describes.
//!
//! One module for each runtime, which says three things: whether a process has it, what its frames
//! are called, and, where unwind information does not know, who called them. `docs/runtimes.md`
//! shows how to add one. Everything that is read from a process may have been made up by it.

mod chain;
mod cpython;
mod go;
mod hotspot;
#[cfg(test)]
mod made_up;
mod node;
mod process;
mod ruby;

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    memory::Memory,
    unwind::{AddressSpace, Guide, RawFrame, Registers, Stack, Unwound},
};
pub use chain::{Chain, Chained, Link, Plan};
pub use process::{Object, Process};

/// A language runtime in one process.
pub trait Runtime {
    /// Looks at one frame while a stack is followed from the innermost outwards; none when the
    /// frame's code is not the runtime's.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found>;

    /// How the kernel is to follow frames that the runtime keeps in memory, if it does.
    fn plan(&self) -> Option<Plan> {
        None
    }

    /// A stack is about to be followed, that of a thread with this chain.
    fn begin(&mut self, _chain: &Chain, _memory: &Memory<'_>) {}

    /// A stack has been followed.
    fn end(&mut self) -> Rest {
        Rest::default()
    }

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

/// What a runtime adds once a stack has been followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// What to show in place of frames with these numbers, instead of what [`Runtime::look`] said.
    pub managed: Vec<(usize, Vec<ManagedFrame>)>,
    /// What to show behind the outermost frame that was found.
    pub behind: Vec<ManagedFrame>,
    /// Why its frames are not shown, if they are not.
    pub unreadable: Option<String>,
}

/// Why the frames of an interpreter that keeps them in memory are missing from its first paths.
fn not_looked_at(language: &str) -> String {
    format!("{language}: tcpleak had not looked at the interpreter yet")
}

/// A stack that waits for what another one does.
pub struct Asked {
    /// The registers there.
    pub registers: Registers,
    /// The stack, from [`BELOW_STACK`](tcpleak_ebpf::BELOW_STACK) bytes below the stack pointer on.
    pub stack: Vec<u8>,
    /// How many of its innermost frames do nothing but wait, which differ with when one looks.
    pub waiting: usize,
}

/// A frame that is looked at.
pub struct At<'a, 'stack> {
    /// Its number, from the innermost on.
    pub number: usize,
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
const RUNTIMES: [fn(&Process<'_>) -> Detected; 5] = [
    hotspot::detect,
    cpython::detect,
    go::detect,
    node::detect,
    ruby::detect,
];

/// Parts of the names of files that may be of an interpreter that keeps frames in memory.
const INTERPRETERS: [&[u8]; 2] = [b"python", b"ruby"];

/// Whether a file is likely to be of an interpreter that keeps the frames of its functions in memory.
pub fn may_have_chain(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let holds = |part: &&[u8]| name.windows(part.len()).any(|window| window == *part);
    INTERPRETERS.iter().any(holds)
}

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
        chain: &Chain,
        memory: &Memory<'_>,
    ) -> Followed {
        self.begin(chain, memory);
        let (unwound, mut managed) = self.walk(space, registers, stack, memory);
        let rest = self.end();
        for (number, frames) in rest.managed {
            managed.insert(u32::try_from(number).unwrap_or(u32::MAX), frames);
        }
        let mut runtimes = self.found.iter();
        let asked_elsewhere = runtimes.any(|runtime| runtime.is_asked_elsewhere());
        let mut runtimes = self.found.iter_mut();
        let asked = runtimes.find_map(|runtime| runtime.asked_by(memory));
        let requested_by = asked.map(|asked| {
            let (mut unwound, managed) = self.walk(space, asked.registers, &asked.stack, memory);
            let waiting = asked.waiting.min(unwound.frames.len());
            unwound.frames.drain(..waiting);
            let later = managed.into_iter().filter_map(|(number, frames)| {
                let number = usize::try_from(number).ok()?.checked_sub(waiting)?;
                Some((u32::try_from(number).ok()?, frames))
            });
            (unwound, later.collect())
        });
        Followed {
            unwound,
            managed,
            chained: Chained {
                frames: rest.behind,
                unreadable: rest.unreadable.or_else(|| self.unreadable.first().cloned()),
                plan: self.plan(),
            },
            asked_elsewhere,
            requested_by,
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
            managed: BTreeMap::new(),
        };
        let unwound = space.unwind(registers, stack, &mut walk);
        (unwound, walk.managed)
    }

    /// Names the frames of a chain whose stack could not be followed.
    pub fn name_chain(&mut self, chain: &Chain, memory: &Memory<'_>) -> Chained {
        self.begin(chain, memory);
        let rest = self.end();
        Chained {
            frames: rest.behind,
            unreadable: rest.unreadable.or_else(|| self.unreadable.first().cloned()),
            plan: self.plan(),
        }
    }

    /// How the kernel is to follow a chain, if there is a runtime with one.
    pub fn plan(&self) -> Option<Plan> {
        self.found.iter().find_map(|runtime| runtime.plan())
    }

    /// One runtime has the chain: the first that has a plan.
    fn begin(&mut self, chain: &Chain, memory: &Memory<'_>) {
        let mut with_plan = self.found.iter_mut().filter(|found| found.plan().is_some());
        if let Some(runtime) = with_plan.next() {
            runtime.begin(chain, memory);
        }
    }

    fn end(&mut self) -> Rest {
        let mut all = Rest::default();
        for rest in self.found.iter_mut().map(|runtime| runtime.end()) {
            all.managed.extend(rest.managed);
            all.behind.extend(rest.behind);
            all.unreadable = all.unreadable.or(rest.unreadable);
        }
        all
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
            number,
            frame,
            described,
            registers: *registers,
            stack,
            memory: self.memory,
        };
        let mut runtimes = self.runtimes.iter_mut();
        let found = runtimes.find_map(|runtime| runtime.look(&mut at))?;
        self.managed
            .insert(u32::try_from(number).ok()?, found.frames);
        found.caller
    }
}

/// What to show in place of the frames with these numbers.
pub type Managed = BTreeMap<u32, Vec<ManagedFrame>>;

/// A stack that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Its frames by address.
    pub unwound: Unwound,
    /// What to show in place of some.
    pub managed: Managed,
    /// What an interpreter keeps in memory and was not put in the place of a frame.
    pub chained: Chained,
    /// Whether it opens connections for others, who are on stacks of their own.
    pub asked_elsewhere: bool,
    /// The stack of who asked, when that is known.
    pub requested_by: Option<(Unwound, Managed)>,
}
