//! The part of the report that is about code.

use schemars::JsonSchema;
use serde::Serialize;

/// The frame that names the culprit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Title {
    /// Name of the function; `crawler+0x1a2b` (module and offset) when it has none.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Source line.
    pub line: Option<u32>,
    /// File that holds the code: an executable or a library.
    pub module: Option<String>,
    /// The code path that it was found on.
    pub path: TitlePath,
}

/// Which code path of a group the title was found on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TitlePath {
    /// The one that opened the connections.
    Origin,
    /// The one that last read.
    LastRead,
    /// The one that last wrote.
    LastWrite,
}

/// An ordered list of frames, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct CodePath {
    /// What the program was doing.
    pub kind: PathKind,
    /// Whether the path is proven to reach the thread's first function.
    pub complete: bool,
    /// Why the path ends where it does; null when it is complete.
    pub incomplete: Option<Incomplete>,
    /// Why functions of a language runtime are missing from the frames; null when none are known to
    /// be.
    pub unreadable: Option<String>,
    /// The frames, innermost first.
    pub frames: Vec<Frame>,
    /// The frames of who asked for the connection and waits for it on another stack, innermost first;
    /// null when nobody does, or when it is not known.
    pub requested_by: Option<Vec<Frame>>,
}

impl CodePath {
    /// A path that is complete unless there is a reason why it is not.
    pub fn new(kind: PathKind, frames: Vec<Frame>, incomplete: Option<Incomplete>) -> Self {
        Self {
            kind,
            complete: incomplete.is_none(),
            incomplete,
            unreadable: None,
            frames,
            requested_by: None,
        }
    }
}

/// Why a code path is not proven to reach the thread's first function.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    JsonSchema,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Incomplete {
    /// The part of the stack that was copied ended.
    StackTooDeep,
    /// Nothing says how to find the caller of the outermost function.
    NoUnwindInformation,
    /// Only frame pointers could be followed, as on kernels before 5.15.
    FramePointers,
    /// The process ended, or replaced itself, before its code could be read.
    ProcessGone,
    /// The process that reads the files of programs failed on this one.
    ReaderFailed,
    /// io_uring did it by itself, in a thread of the kernel or while the thread that asked was at
    /// something else: no stack tells who asked.
    IoUring,
    /// Nothing proves that the outermost frame is the thread's first.
    Unproven,
}

/// What the program was doing when a code path was captured.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    JsonSchema,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// connect()
    Connect,
    /// accept()
    Accept,
    /// The first read or write after an accept() that was not seen.
    FirstUse,
    /// A read.
    Read,
    /// A write.
    Write,
    /// close() or shutdown(), by whoever ended the connection first.
    Close,
}

/// One function on a code path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Frame {
    /// Name, demangled; null when there is no symbol.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Source line.
    pub line: Option<u32>,
    /// File that holds the code: an executable or a library.
    pub module: Option<String>,
    /// Address within `module`, as `addr2line` and `objdump` count; only where the function has no
    /// name.
    pub offset: Option<u64>,
    /// Language runtime: `native` for compiled code, `jit` for code that was compiled at run time
    /// and has no other name, `io_uring` for what stands for io_uring.
    pub runtime: String,
    /// Whether the compiler inlined the function into the next frame.
    pub inlined: bool,
    /// Whether the code is the program's own, not a library's or a runtime's.
    pub own: bool,
}

/// How the connections of a group were used last.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LastUse {
    /// Whether the very last use was a read or a write.
    pub direction: Direction,
    /// Seconds since that use: the latest use of any connection of the group.
    pub ago_s: f64,
    /// Connections of the group no use of which was captured. The paths are those of the others.
    pub unsampled: u64,
    /// The latest captured path that read; the most frequent one of the group.
    pub read: Option<CodePath>,
    /// Reads of one connection since that path was captured, at most.
    pub reads_since: u64,
    /// The latest captured path that wrote; the most frequent one of the group.
    pub write: Option<CodePath>,
    /// Writes of one connection since that path was captured, at most.
    pub writes_since: u64,
}

/// Which way data went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The program read.
    Read,
    /// The program wrote.
    Write,
}
