//! Code paths: from captured return addresses to named frames.
//!
//! The kernel hands over addresses ([`RawPath`]); the [`Symbolizer`] names them on a thread of its
//! own. What a name means (is it the program's own code, does the path reach the thread's first
//! function) is decided by pure rules in [`own`] and [`root`].

mod elf;
mod lookup;
mod mapped_file;
mod maps;
mod name;
pub mod own;
pub mod root;
mod symbolize;

pub use symbolize::Symbolizer;

use crate::report::{Frame, Incomplete};

/// Language runtime of every frame that is found by address.
const NATIVE: &str = "native";

/// A code path as the kernel captured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPath {
    /// Hash of the process and the frames: paths with the same one are the same.
    pub fingerprint: u64,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When the process started, in nanoseconds since boot, time asleep included.
    pub start_ns: u64,
    /// Name of the process at the time of capture.
    pub comm: String,
    /// Addresses in user space, innermost first. The first is where the thread was; the others are
    /// return addresses: each lies behind the call it returns from.
    pub frames: Vec<u64>,
    /// Whether the capture ended for want of room.
    pub truncated: bool,
}

/// A code path with names; what the program was doing is for the caller to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The frames, innermost first; inlined functions have frames of their own.
    pub frames: Vec<Frame>,
    /// Why the path is not proven to reach the thread's first function; `None` when it is.
    pub incomplete: Option<Incomplete>,
}

impl Resolved {
    /// A path of which nothing but its length is known.
    fn unknown(path: &RawPath) -> Self {
        let frames = path.frames.iter().map(|_| unknown_frame(None)).collect();
        Self {
            frames,
            incomplete: Some(Incomplete::ProcessGone),
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
