//! What is said to the process that reads other programs' files, and what it answers.
//!
//! One request, one answer, each a [`message`](crate::message). A request that is about a file carries its
//! descriptor.

use serde::{Deserialize, Serialize};

use super::reader::{
    runtimes::{Chain, Chained, Followed, Plan},
    symbols::{Named, Wanted},
    unwind::Registers,
};

/// What the reader is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take the file that comes with it, and say what else would help to name its code.
    File(u32),
    /// Take the file that comes with it as debug information of a file, if it is.
    DebugFile(u32),
    /// Take the file that comes with it as what the debug information of a file shares with others.
    AlternateFile(u32),
    /// Take the file that comes with it as the names of code compiled while a process ran.
    PerfMap(u32),
    /// Forget a file.
    ForgetFile(u32),
    /// Code lies here in a process. Replaces what was said of it before.
    Space(u32, Vec<CodeMapping>),
    /// Forget a process.
    ForgetSpace(u32),
    /// Follow a stack of a process, whose memory comes with it when it can be had.
    Unwind(
        u32,
        Registers,
        #[serde(with = "serde_bytes")] Vec<u8>,
        Chain,
    ),
    /// Name the frames that an interpreter keeps in the memory of a process, which comes with it.
    Chain(u32, Chain),
    /// Say how to follow such frames in a process, whose memory comes with it.
    Plan(u32),
    /// Name places in files.
    Name(Vec<Place>),
}

/// What the reader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, or refused: there is nothing to say.
    Done,
    /// To [`Request::File`].
    File(Wanted),
    /// To [`Request::DebugFile`]: what else would help; none when it is of another file.
    DebugFile(Option<Wanted>),
    /// To [`Request::Unwind`].
    Followed(Followed),
    /// To [`Request::Chain`].
    Chained(Chained),
    /// To [`Request::Plan`].
    Plan(Option<Plan>),
    /// To [`Request::Name`], in the same order.
    Named(Vec<NamedPlace>),
}

/// Code in a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// What it comes from.
    pub source: Source,
}

/// What code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file, by its number.
    File(u32),
    /// The code that the kernel lends to every process.
    Vdso,
    /// Memory that belongs to no file: code that was compiled while the process ran.
    Memory,
}

/// A place in the code of a file, or of memory that belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// So many bytes into a file.
    File(u32, u64),
    /// So many bytes into what the kernel lends to every process.
    Vdso(u64),
    /// An address in a process, by the number of its space.
    Memory(u32, u64),
}

/// The functions at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPlace {
    /// The place as the file itself counts; none when nothing is known.
    pub address: Option<u64>,
    /// The functions, innermost first; empty when none is known.
    pub functions: Vec<Named>,
}
