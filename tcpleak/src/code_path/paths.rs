//! The paths of one run: unwound as they come, named when somebody asks.
//!
//! Blocking, and bound to one thread.

use std::{collections::HashMap, io, num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use super::{
    Capture, CodeLayout, Learned, Resolved, Stack,
    child::Start,
    path::{Ended, FRAMES, Located, Part, Path, walked},
    protocol::{Answer, NamedPlace, Place, Request},
    reader::{
        Registers,
        runtimes::Followed,
        unwind::{End, RawFrame, Unwound},
    },
    supply::{IMAGES, ImageKey, Supply},
};
use crate::survey::ProcessId;

/// Most paths that are kept unwound: as many as the kernel remembers to have sent.
const UNWOUND: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Most paths that are kept with names.
const NAMED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Processes on which the reader fails more often are left alone.
const FAILURES: u32 = 2;

/// The paths of one run.
pub struct Paths {
    supply: Supply,
    unwound: LruCache<u64, Arc<Path>>,
    /// The first fingerprint of each path.
    firsts: LruCache<(ImageKey, Vec<Part>), u64>,
    named: LruCache<u64, Resolved>,
    failures: LruCache<ProcessId, u32>,
}

impl Paths {
    /// None yet.
    pub fn new(start: Start) -> Self {
        Self {
            supply: Supply::new(start),
            unwound: LruCache::new(UNWOUND),
            firsts: LruCache::new(UNWOUND),
            named: LruCache::new(NAMED),
            failures: LruCache::new(IMAGES),
        }
    }

    /// Process id of the reader, while there is one.
    pub fn reader_pid(&self) -> Option<u32> {
        self.supply.reader_pid()
    }

    /// Unwinds a path and forgets its stack.
    pub fn take(&mut self, capture: Capture) -> Learned {
        let fingerprint = capture.fingerprint;
        let in_ring_call = capture.in_ring_call;
        let of_one = capture.of_one;
        let (mut path, layout) = self.unwind(capture);
        path.in_ring_call = in_ring_call;
        // A path of several connections tells who asked for the first of them only.
        path.requested_by = path.requested_by.filter(|_| of_one);
        let first = path
            .identity()
            .map(|identity| *self.firsts.get_or_insert(identity, || fingerprint));
        let same = first.filter(|first| *first != fingerprint);
        self.named.pop(&fingerprint);
        self.unwound.put(fingerprint, Arc::new(path));
        Learned {
            layout,
            same: same.map(|first| (fingerprint, first)),
        }
    }

    /// Names the frames of a path; none when no such path was taken.
    pub fn resolve(&mut self, fingerprint: u64) -> Option<Resolved> {
        if let Some(resolved) = self.named.get(&fingerprint) {
            return Some(resolved.clone());
        }
        let path = Arc::clone(self.unwound.get(&fingerprint)?);
        let resolved = self.name(&path);
        self.named.put(fingerprint, resolved.clone());
        Some(resolved)
    }

    fn unwind(&mut self, capture: Capture) -> (Path, Option<CodeLayout>) {
        let process = capture.process;
        if capture.stack == Stack::IoUring {
            return (Path::without_frames(Ended::IoUring), None);
        }
        if self.is_given_up(process) {
            return (Path::without_frames(Ended::ReaderFailed), None);
        }
        let key = (process, capture.image);
        if self.supply.look(key, capture.code_pages).is_err() {
            return (Path::without_frames(Ended::ProcessGone), None);
        }
        let followed = match capture.stack {
            Stack::IoUring => return (Path::without_frames(Ended::IoUring), None),
            Stack::Walked(addresses) => {
                let path = self.locate(key, walked(addresses), Ended::Walked);
                return (path, None);
            }
            Stack::Copied { registers, bytes } => {
                self.attempt(process, |paths| paths.follow(key, registers, &bytes))
            }
        };
        let Ok(Followed {
            unwound: Unwound {
                frames, end, depth, ..
            },
            managed,
            asked_elsewhere,
            requested_by,
            unreadable,
        }) = followed
        else {
            return (Path::without_frames(Ended::ReaderFailed), None);
        };
        let needed = (end != End::StackTooDeep).then_some(depth);
        let layout = self.supply.image(key).and_then(|known| {
            if asked_elsewhere {
                known.image.is_asked_elsewhere();
            }
            known.image.learn(needed)
        });
        let mut path = self.locate(key, frames, Ended::Unwound(end));
        path.replace(managed);
        path.unreadable = unreadable;
        path.requested_by = requested_by.map(|(unwound, managed)| {
            let mut path = self.locate(key, unwound.frames, Ended::Unwound(unwound.end));
            path.replace(managed);
            Box::new(path)
        });
        (path, layout)
    }

    /// Has a stack unwound. When it leads out of all code that is known, the process may have got
    /// more in place of as much other code: then it is worth another look.
    fn follow(
        &mut self,
        key: ImageKey,
        registers: Registers,
        stack: &[u8],
    ) -> io::Result<Followed> {
        let followed = self.supply.follow(key, registers, stack)?;
        if followed.unwound.outside.is_none() || self.supply.look_again(key).is_err() {
            return Ok(followed);
        }
        self.supply.follow(key, registers, stack)
    }

    /// Does something with the reader for a process. The reader may have died of something else
    /// before, so it is tried twice, unless it took too long. A failure counts against the process.
    fn attempt<T>(
        &mut self,
        process: ProcessId,
        work: impl Fn(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let slow = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let done = match work(self) {
            Err(error) if !slow(&error) => work(self),
            done => done,
        };
        if done.is_err() {
            *self.failures.get_or_insert_mut(process, || 0) += 1;
        }
        done
    }

    fn is_given_up(&self, process: ProcessId) -> bool {
        self.failures
            .peek(&process)
            .is_some_and(|failures| *failures >= FAILURES)
    }

    /// Finds out in which file each frame lies.
    fn locate(&mut self, key: ImageKey, frames: Vec<RawFrame>, end: Ended) -> Path {
        let Some(known) = self.supply.image(key) else {
            return Path::without_frames(end);
        };
        let mut modules: HashMap<u64, Arc<str>> = HashMap::new();
        let frames = frames
            .into_iter()
            .take(FRAMES)
            .map(|frame| known.locate(frame, &mut modules))
            .collect();
        Path {
            image: Some(key),
            frames,
            in_ring_call: false,
            unreadable: None,
            requested_by: None,
            end,
        }
    }

    fn name(&mut self, path: &Path) -> Resolved {
        let named = match path.image {
            Some((process, _)) if !self.is_given_up(process) => {
                self.attempt(process, |paths| paths.names(path)).ok()
            }
            _ => None,
        };
        Resolved {
            requested_by: (path.requested_by.as_ref()).map(|path| self.name(path).frames),
            ..path.resolved(named)
        }
    }

    /// The names of each frame of a path.
    fn names(&mut self, path: &Path) -> io::Result<Vec<NamedPlace>> {
        let Some(key @ (process, _)) = path.image else {
            return Ok(Vec::new());
        };
        for located in &path.frames {
            self.supply.give_file_for_names(located, process)?;
        }
        if path.frames.iter().any(Located::is_in_memory) {
            self.supply.give_perf_map(key)?;
        }
        let places = path.frames.iter().map(|located| match located.place {
            // A file that was closed has no number any more.
            Some(Place::File(number, _)) if !self.supply.has_given(number) => Place::Memory(0, 0),
            Some(place) => place,
            None => Place::Memory(0, 0),
        });
        match self.supply.ask(&Request::Name(places.collect()), None)? {
            Answer::Named(named) if named.len() == path.frames.len() => Ok(named),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
