//! A path that was unwound: where its frames lie, and what becomes of them once they have names.

use std::sync::Arc;

use super::{
    IO_URING, JIT, Resolved,
    files::Identity,
    image::ImageKey,
    name::clip,
    own,
    protocol::{NamedPlace, Place},
    reader::{
        runtimes::{Managed, ManagedFrame},
        unwind::{End, RawFrame},
    },
    root, unknown_frame,
};
use crate::report::{Frame, Incomplete};

/// Whether frame pointers that lead to the root may have passed by callers on the way: on arm64 code
/// that keeps none leaves the register alone.
const SKIPS_CALLERS: bool = cfg!(target_arch = "aarch64");

/// Most frames of a path, inlined ones included.
pub const FRAMES: usize = 256;

/// A path that was unwound.
pub struct Path {
    /// Whose it is; none when that is not known any more.
    pub image: Option<ImageKey>,
    /// The frames, innermost first.
    pub frames: Vec<Located>,
    /// What a language runtime shows behind them.
    pub behind: Vec<ManagedFrame>,
    /// Whether io_uring did it while the thread was in io_uring_enter(): asked for there, or before.
    pub in_ring_call: bool,
    /// Why frames of a language runtime are not shown as what they are, if they are not.
    pub unreadable: Option<String>,
    /// The path of who asked for it on another stack, when that is known.
    pub requested_by: Option<Box<Path>>,
    /// How it ended.
    pub end: Ended,
}

/// What a frame is told by. Code of a language runtime may lie anywhere, and elsewhere next time; and
/// what its compilers inline changes as the program runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its address.
    Native(RawFrame),
    /// What it is called.
    Managed(ManagedFrame),
    /// One of the path that asked for it.
    RequestedBy(Box<Part>),
}

impl Part {
    /// What compilers inline tells no code paths apart.
    fn of_managed(frame: &ManagedFrame) -> Self {
        Self::Managed(ManagedFrame {
            inlined: false,
            ..frame.clone()
        })
    }
}

impl Path {
    /// One without frames.
    pub fn without_frames(end: Ended) -> Self {
        Self {
            image: None,
            frames: Vec::new(),
            behind: Vec::new(),
            in_ring_call: false,
            unreadable: None,
            requested_by: None,
            end,
        }
    }

    /// Has frames of language runtimes take the place of those with these numbers.
    pub fn replace(&mut self, managed: Managed) {
        for (number, frames) in managed {
            if let Some(located) = self.frames.get_mut(number as usize) {
                located.managed = Some(frames);
            }
        }
    }

    /// What makes it the same path as another one; none when too little is known of it.
    pub fn identity(&self) -> Option<(ImageKey, Vec<Part>)> {
        if self.frames.is_empty() {
            return None;
        }
        let mut parts = self.parts();
        if let Some(path) = &self.requested_by {
            let asked = path.parts().into_iter();
            parts.extend(asked.map(|part| Part::RequestedBy(Box::new(part))));
        }
        Some((self.image?, parts))
    }

    fn parts(&self) -> Vec<Part> {
        let is_managed = |located: &Located| located.managed.is_some();
        let has_managed = !self.behind.is_empty() || self.frames.iter().any(is_managed);
        let mut parts = Vec::new();
        for frame in &self.frames {
            match &frame.managed {
                Some(managed) => parts.extend(managed.iter().map(Part::of_managed)),
                // How a runtime comes from one function to the next changes as the program runs: an
                // interpreter adapts, a coroutine is begun in one way and woken in another.
                None if has_managed && !frame.may_be_own() => {}
                None => parts.push(Part::Native(frame.raw)),
            }
        }
        parts.extend(self.behind.iter().map(Part::of_managed));
        parts
    }

    /// The path with names: those of each frame, none when the reader failed on them.
    pub fn resolved(&self, named: Option<Vec<NamedPlace>>) -> Resolved {
        if self.end == Ended::IoUring {
            return Resolved {
                frames: vec![io_uring("io_uring")],
                incomplete: Some(Incomplete::IoUring),
                unreadable: None,
                requested_by: None,
            };
        }
        let failed = named.is_none() && self.image.is_some();
        let mut named = named.unwrap_or_default().into_iter();
        let mut frames = Vec::new();
        for located in &self.frames {
            frames.extend(located.frames(named.next().unwrap_or_default()));
        }
        frames.extend(self.behind.iter().map(shown));
        own::disown_start_code(&mut frames);
        if self.in_ring_call {
            frames.insert(0, io_uring("request of io_uring"));
        }
        let truncated = frames.len() > FRAMES;
        frames.truncate(FRAMES);
        // What the stack holds beyond the first function of a thread is left over from earlier.
        if let Some(first) = frames.iter().position(root::is_first) {
            frames.truncate(first + 1);
        }
        let proven = !truncated && root::is_proven(&frames);
        let incomplete = match self.end {
            _ if failed => Some(Incomplete::ReaderFailed),
            Ended::Unwound(End::Root) if !truncated => None,
            Ended::Unwound(End::Unproven | End::Lost) if proven => None,
            Ended::Walked if proven && !SKIPS_CALLERS => None,
            Ended::Unwound(End::Root | End::StackTooDeep | End::TooMany) => {
                Some(Incomplete::StackTooDeep)
            }
            Ended::Unwound(End::Unproven) => Some(Incomplete::Unproven),
            Ended::Unwound(End::Lost) => Some(Incomplete::NoUnwindInformation),
            Ended::Walked => Some(Incomplete::FramePointers),
            Ended::IoUring => Some(Incomplete::IoUring),
            Ended::ProcessGone => Some(Incomplete::ProcessGone),
            Ended::ReaderFailed => Some(Incomplete::ReaderFailed),
        };
        Resolved {
            frames,
            incomplete,
            unreadable: self.unreadable.clone(),
            requested_by: None,
        }
    }
}

/// How a path ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Unwound.
    Unwound(End),
    /// Followed by frame pointers.
    Walked,
    /// What io_uring does by itself has none.
    IoUring,
    /// The process was gone before its code could be looked at.
    ProcessGone,
    /// The reader failed.
    ReaderFailed,
}

/// A frame, and where it lies.
#[derive(Clone)]
pub struct Located {
    /// The frame.
    pub raw: RawFrame,
    /// Where the reader finds its code.
    pub place: Option<Place>,
    /// The file that holds its code.
    pub file: Option<Identity>,
    /// Path of that file, or the name of the mapping.
    pub module: Option<Arc<str>>,
    /// Whether that file is the program itself.
    pub main: bool,
    /// What a language runtime shows in its place.
    pub managed: Option<Vec<ManagedFrame>>,
}

impl Located {
    /// Whether it lies in no file: code that was compiled while the program ran.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.place, Some(Place::Memory(..))) && self.managed.is_none()
    }

    /// Whether it lies in a file that the program may have brought along.
    fn may_be_own(&self) -> bool {
        let module = self.module.as_deref();
        module.is_some_and(|module| own::is_own_module(module, self.main))
    }

    /// The frames of this place: the functions inlined there, then the one that holds it.
    fn frames(&self, place: NamedPlace) -> Vec<Frame> {
        if let Some(managed) = &self.managed {
            return managed.iter().map(shown).collect();
        }
        let module = self.module.as_deref();
        let mut frames: Vec<Frame> = place
            .functions
            .into_iter()
            .filter(|named| named.function.is_some())
            .map(|named| Frame {
                function: named.function.map(|function| clip(&function)),
                file: named.file.map(|file| clip(&file)),
                line: named.line,
                inlined: named.inlined,
                ..unknown_frame(None)
            })
            .collect();
        if frames.is_empty() {
            frames.push(Frame {
                offset: place.address,
                ..unknown_frame(None)
            });
        }
        for frame in &mut frames {
            frame.module = module.map(str::to_owned);
            let (function, file) = (frame.function.as_deref(), frame.file.as_deref());
            frame.own = own::is_own(function, file, module, self.main);
            if self.is_in_memory() {
                frame.runtime = JIT.to_owned();
            }
        }
        frames
    }
}

/// Frames from return addresses, innermost first; the first is where the thread was.
pub fn walked(addresses: Vec<u64>) -> Vec<RawFrame> {
    let frames = addresses.into_iter().enumerate();
    frames
        .map(|(index, address)| RawFrame {
            address,
            is_return: index != 0,
        })
        .collect()
}

/// A frame of a language runtime.
fn shown(managed: &ManagedFrame) -> Frame {
    Frame {
        function: managed.function.as_deref().map(clip),
        file: managed.file.as_deref().map(clip),
        line: managed.line,
        runtime: clip(&managed.language),
        inlined: managed.inlined,
        own: managed.own,
        ..unknown_frame(None)
    }
}

/// A frame that stands for io_uring.
fn io_uring(what: &str) -> Frame {
    Frame {
        function: Some(what.to_owned()),
        runtime: IO_URING.to_owned(),
        ..unknown_frame(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::ProcessId;

    fn native(address: u64, module: &str) -> Located {
        let raw = RawFrame {
            address,
            is_return: true,
        };
        Located {
            raw,
            place: None,
            file: None,
            module: Some(module.into()),
            main: false,
            managed: None,
        }
    }

    fn managed(function: &str) -> Located {
        let managed = ManagedFrame {
            function: Some(function.to_owned()),
            ..ManagedFrame::default()
        };
        Located {
            managed: Some(vec![managed]),
            ..native(0, "/usr/bin/python3.11")
        }
    }

    fn path(frames: &[Located]) -> Path {
        let process = ProcessId {
            pid: 1,
            start_ns: 1,
        };
        Path {
            image: Some((process, 1)),
            frames: frames.to_vec(),
            ..Path::without_frames(Ended::Unwound(End::Root))
        }
    }

    #[test]
    fn how_a_runtime_calls_makes_no_other_path() {
        let asyncio = "/usr/lib/python3.11/lib-dynload/_asyncio.so";
        let begun = path(&[managed("fetch"), native(1, asyncio), managed("run")]);
        let woken = path(&[
            managed("fetch"),
            native(1, asyncio),
            native(2, asyncio),
            managed("run"),
        ]);
        assert!(begun.identity() == woken.identity());
        let other = path(&[managed("crawl"), native(1, asyncio), managed("run")]);
        assert!(begun.identity() != other.identity());
    }

    #[test]
    fn what_the_program_brought_along_makes_another_path_whatever_runtime_it_has() {
        let extension = |address| {
            let own = native(address, "/srv/app/crawler.so");
            path(&[own, managed("run")])
        };
        assert!(extension(1).identity() == extension(1).identity());
        assert!(extension(1).identity() != extension(2).identity());
    }

    #[test]
    fn without_a_runtime_each_address_makes_another_path() {
        let library = |address| path(&[native(address, "/usr/lib/libcurl.so.4")]);
        assert!(library(1).identity() == library(1).identity());
        assert!(library(1).identity() != library(2).identity());
    }
}
