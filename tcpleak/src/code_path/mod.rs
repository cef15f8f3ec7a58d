//! Code paths: from captured stacks to named frames.
//!
//! The kernel hands over registers and a copy of the stack ([`Capture`]). [`CodePaths`] takes them
//! on a thread of its own, has them unwound at once, and names the frames of those that are asked
//! for. Whatever reads the files of other processes does so in a process of its own ([`reader`]),
//! which may fail without harm. What a name means (is it the program's own code, does the path reach
//! the thread's first function) is decided by pure rules in [`own`] and [`root`].

mod child;
mod debug_files;
pub(crate) mod files;
mod image;
mod maps;
mod name;
pub mod own;
mod path;
mod paths;
mod protocol;
pub mod reader;
pub mod root;
mod supply;
mod worker;

use std::ops::Range;

pub use reader::{
    Registers,
    runtimes::{Chain, Link, Plan},
};
pub use worker::{CaptureSource, CodePaths};

use crate::{
    report::{CodePath, Frame, Incomplete, PathKind},
    survey::ProcessId,
};

/// Language runtime of every frame that is found by address.
const NATIVE: &str = "native";
/// The runtime of frames that stand for io_uring.
const IO_URING: &str = "io_uring";
/// The runtime of code that was compiled while the program ran.
const JIT: &str = "jit";

/// A code path as the kernel captured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Hash of the process and of what its stack holds: paths with the same one are the same.
    pub fingerprint: u64,
    /// The process.
    pub process: ProcessId,
    /// Its name at that time.
    pub comm: String,
    /// Start of the process's first stack: another one after each exec.
    pub image: u64,
    /// Pages of code that the process had mapped.
    pub code_pages: u64,
    /// Whether io_uring did it while the thread was in io_uring_enter().
    pub in_ring_call: bool,
    /// Whether it is the path of one connection alone, so that it tells who asked for that one.
    pub of_one: bool,
    /// What was captured.
    pub stack: Stack,
    /// The frames that an interpreter keeps in memory.
    pub chain: Chain,
}

/// What was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The registers and a copy of the stack.
    Copied {
        /// The registers.
        registers: Registers,
        /// The stack, from the stack pointer on.
        bytes: Vec<u8>,
    },
    /// Return addresses found by frame pointers, innermost first.
    Walked(Vec<u64>),
    /// Nothing: io_uring did it by itself.
    IoUring,
    /// Nothing: it is no path yet. The process has become another program, whose paths may follow.
    NotYet,
}

/// Where the code of a process lies: what lets the kernel tell its paths apart at a lower cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    /// Process id.
    pub pid: u32,
    /// The image that this is about, as in [`Capture::image`].
    pub image: u64,
    /// Pages of code that the process had mapped then.
    pub code_pages: u64,
    /// Bytes of the stack that tell its paths apart.
    pub window: u32,
    /// Whether who asks for a connection may be on another stack than the one that opens it.
    pub asked_elsewhere: bool,
    /// Ranges of addresses that hold all of its code, a few at most.
    pub ranges: Vec<Range<u64>>,
}

/// How to follow the frames that an interpreter keeps in the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainOf {
    /// Process id.
    pub pid: u32,
    /// The image that this is about, as in [`Capture::image`].
    pub image: u64,
    /// How.
    pub plan: Plan,
}

/// What is learned from taking a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// What the kernel needs to know of the process.
    pub layout: Option<CodeLayout>,
    /// How the kernel is to follow the frames that an interpreter keeps in memory.
    pub plan: Option<ChainOf>,
    /// The fingerprint of the capture, and that of an earlier one which is the same path: the kernel
    /// may take one path for several.
    pub same: Option<(u64, u64)>,
}

/// A code path with names; what the program was doing is for the caller to add.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// The frames, innermost first; inlined functions have frames of their own.
    pub frames: Vec<Frame>,
    /// Why the path is not proven to reach the thread's first function; none when it is.
    pub incomplete: Option<Incomplete>,
    /// Why frames of a language runtime are not shown as what they are, if they are not.
    pub unreadable: Option<String>,
    /// The frames of who asked for it on another stack, innermost first, when they are known.
    pub requested_by: Option<Vec<Frame>>,
}

impl Resolved {
    /// The path as a report shows it, with what the program was doing.
    pub fn of_kind(&self, kind: PathKind) -> CodePath {
        CodePath {
            unreadable: self.unreadable.clone(),
            requested_by: self.requested_by.clone(),
            ..CodePath::new(kind, self.frames.clone(), self.incomplete)
        }
    }
}

/// A frame of which at most the file that holds its code is known.
fn unknown_frame(module: Option<String>) -> Frame {
    Frame {
        function: None,
        file: None,
        line: None,
        module,
        offset: None,
        runtime: NATIVE.to_owned(),
        inlined: false,
        own: false,
    }
}
