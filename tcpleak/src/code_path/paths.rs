//! The paths of one run: unwound as they come, named when somebody asks.
//!
//! Blocking, and bound to one thread.

use std::{collections::HashMap, io, num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use super::{
    Capture, Chain, ChainOf, CodeLayout, Learned, Resolved, Stack,
    child::Start,
    image::ImageKey,
    maps::Mappings,
    path::{Ended, FRAMES, Located, Part, Path, walked},
    protocol::{Answer, NamedPlace, Place, Request},
    reader::{
        Registers,
        runtimes::{self, Chained, Followed},
        unwind::{End, RawFrame, Unwound},
    },
    supply::{IMAGES, Supply},
};
use crate::{process, survey::ProcessId};

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
        if capture.stack == Stack::NotYet {
            return Learned {
                plan: self.look_at(capture.process, capture.image),
                ..Learned::default()
            };
        }
        let fingerprint = capture.fingerprint;
        let in_ring_call = capture.in_ring_call;
        let of_one = capture.of_one;
        let (mut path, layout, plan) = self.unwind(capture);
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
            plan,
            same: same.map(|first| (fingerprint, first)),
        }
    }

    /// Looks at the processes that run for interpreters that keep the frames of their functions in
    /// memory.
    pub fn look_around(&mut self) -> Vec<Learned> {
        let images = process::pids().into_iter().filter_map(process::image);
        images
            .filter_map(|(process, start_stack)| self.look_at(process, start_stack))
            .map(|plan| Learned {
                plan: Some(plan),
                ..Learned::default()
            })
            .collect()
    }

    /// Looks at one. Those that have nothing of an interpreter by name are passed over: an interpreter
    /// in another disguise is found with the first path of the process.
    fn look_at(&mut self, process: ProcessId, start_stack: u64) -> Option<ChainOf> {
        let mappings = Mappings::read(process.pid).ok()?;
        if !mappings
            .iter()
            .any(|mapping| runtimes::may_have_chain(&mapping.path))
            || self.is_given_up(process)
        {
            return None;
        }
        let key = (process, start_stack);
        if self.supply.image(key).is_none() {
            self.supply.look(key, 0).ok()?;
        } else {
            // What it has loaded since is seen when there is any.
            let _ = self.supply.look_again(key);
        }
        let plan = self.attempt(process, |paths| paths.supply.plan(key)).ok()?;
        self.supply.image(key)?.image.learn_plan(plan, true)
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

    fn unwind(&mut self, capture: Capture) -> (Path, Option<CodeLayout>, Option<ChainOf>) {
        let process = capture.process;
        if capture.stack == Stack::IoUring {
            return (Path::without_frames(Ended::IoUring), None, None);
        }
        if self.is_given_up(process) {
            return (Path::without_frames(Ended::ReaderFailed), None, None);
        }
        let key = (process, capture.image);
        if self.supply.look(key, capture.code_pages).is_err() {
            return (Path::without_frames(Ended::ProcessGone), None, None);
        }
        let chain = capture.chain;
        let followed = match capture.stack {
            Stack::IoUring | Stack::NotYet => {
                return (Path::without_frames(Ended::IoUring), None, None);
            }
            Stack::Walked(addresses) => {
                let chained = self.attempt(process, |paths| paths.supply.name_chain(key, &chain));
                let mut path = self.locate(key, walked(addresses), Ended::Walked);
                let plan = self.add_chain(&mut path, chained.unwrap_or_default(), chain.known);
                return (path, None, plan);
            }
            Stack::Copied { registers, bytes } => self.attempt(process, |paths| {
                paths.follow(key, registers, &bytes, &chain)
            }),
        };
        let Ok(Followed {
            unwound: Unwound {
                frames, end, depth, ..
            },
            managed,
            chained,
            asked_elsewhere,
            requested_by,
        }) = followed
        else {
            return (Path::without_frames(Ended::ReaderFailed), None, None);
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
        path.requested_by = requested_by.map(|(unwound, managed)| {
            let mut path = self.locate(key, unwound.frames, Ended::Unwound(unwound.end));
            path.replace(managed);
            Box::new(path)
        });
        let plan = self.add_chain(&mut path, chained, chain.known);
        (path, layout, plan)
    }

    /// Adds what an interpreter kept in memory to a path. Gives what the kernel needs to know to follow
    /// the next chain of the process, and did not know.
    fn add_chain(&mut self, path: &mut Path, chained: Chained, known: bool) -> Option<ChainOf> {
        path.behind = chained.frames;
        path.unreadable = chained.unreadable;
        let image = &mut self.supply.image(path.image?)?.image;
        image.learn_plan(chained.plan, known)
    }

    /// Has a stack followed. The process may have got other code in place of as much that is known: when
    /// the stack leads out of that, or to where other code lies now, it is worth another look.
    fn follow(
        &mut self,
        key: ImageKey,
        registers: Registers,
        stack: &[u8],
        chain: &Chain,
    ) -> io::Result<Followed> {
        let followed = self.supply.follow(key, registers, stack, chain)?;
        let unwound = &followed.unwound;
        let is_news = match unwound.outside {
            Some(_) => self.supply.look_again(key).is_ok(),
            None => self.supply.look_if_replaced(key, &unwound.frames),
        };
        match is_news {
            true => self.supply.follow(key, registers, stack, chain),
            false => Ok(followed),
        }
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
            behind: Vec::new(),
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
