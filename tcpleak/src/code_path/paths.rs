//! The paths of one run: unwound as they come, named when somebody asks.
//!
//! Blocking, and bound to one thread. The files of a process are opened when its first path comes,
//! so that a process that has ended since can still be named. What was given to the reader is
//! remembered, and given again to the next one when it fails.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use lru::LruCache;

use super::{
    Capture, CodeLayout, IO_URING, JIT, Learned, Resolved, Stack,
    child::{Reader, Start},
    debug_files,
    files::{CodeFile, Identity},
    image::Image,
    name::clip,
    own,
    protocol::{Answer, CodeMapping, NamedPlace, Place, Request, Source},
    reader::{
        symbols::Wanted,
        unwind::{End, RawFrame, Unwound},
    },
    root, unknown_frame,
};
use crate::{
    report::{Frame, Incomplete},
    survey::ProcessId,
};

/// Most processes whose code is known at one time.
const IMAGES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Most files that are kept open.
const FILES: usize = 512;
/// Most paths that are kept unwound: as many as the kernel remembers to have sent.
const UNWOUND: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Most paths that are kept with names.
const NAMED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Most frames of a path, inlined ones included.
const FRAMES: usize = 256;
/// Processes on which the reader fails more often are left alone.
const FAILURES: u32 = 2;
/// The mapping that the kernel lends to every process.
const VDSO: &str = "[vdso]";

/// The paths of one run.
pub struct Paths {
    start: Start,
    reader: Option<Reader>,
    images: LruCache<ImageKey, KnownImage>,
    files: HashMap<Identity, KnownFile>,
    given: Given,
    unwound: LruCache<u64, Arc<Path>>,
    /// The first fingerprint of each path.
    firsts: LruCache<(ImageKey, Vec<RawFrame>), u64>,
    named: LruCache<u64, Resolved>,
    failures: LruCache<ProcessId, u32>,
    next_number: u32,
}

/// A process between two execs.
type ImageKey = (ProcessId, u64);

struct KnownImage {
    image: Image,
    space: u32,
    /// The file of each mapping, by its first address.
    files: HashMap<u64, (u32, Identity)>,
}

struct KnownFile {
    number: u32,
    file: File,
    /// Looked for once it is needed; none when there is none.
    debug_file: Option<Option<File>>,
    last_used: u64,
}

/// What the reader at hand was given.
#[derive(Default)]
struct Given {
    files: HashMap<u32, Wanted>,
    debug_files: HashSet<u32>,
    spaces: HashSet<u32>,
}

/// A path that was unwound.
struct Path {
    image: Option<ImageKey>,
    frames: Vec<Located>,
    end: Ended,
}

impl Path {
    /// What makes it the same path as another one; none when too little is known of it.
    fn identity(&self) -> Option<(ImageKey, Vec<RawFrame>)> {
        let frames: Vec<RawFrame> = self.frames.iter().map(|frame| frame.raw).collect();
        Some((self.image?, frames)).filter(|(_, frames)| !frames.is_empty())
    }
}

/// How a path ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Unwound(End),
    /// Followed by frame pointers.
    Walked,
    IoWorker,
    ProcessGone,
    ReaderFailed,
}

/// A frame, and where it lies.
#[derive(Clone)]
struct Located {
    raw: RawFrame,
    place: Option<Place>,
    file: Option<Identity>,
    module: Option<Arc<str>>,
    main: bool,
}

impl Paths {
    /// None yet. The reader is started when there is something to read.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            reader: None,
            images: LruCache::new(IMAGES),
            files: HashMap::new(),
            given: Given::default(),
            unwound: LruCache::new(UNWOUND),
            firsts: LruCache::new(UNWOUND),
            named: LruCache::new(NAMED),
            failures: LruCache::new(IMAGES),
            next_number: 0,
        }
    }

    /// Process id of the reader, while there is one.
    pub fn reader_pid(&self) -> Option<u32> {
        self.reader.as_ref()?.pid()
    }

    /// Unwinds a path and forgets its stack.
    pub fn take(&mut self, capture: Capture) -> Learned {
        let fingerprint = capture.fingerprint;
        let (path, layout) = self.unwind(capture);
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
        let ended = |end| Path {
            image: None,
            frames: Vec::new(),
            end,
        };
        if capture.stack == Stack::IoWorker {
            return (ended(Ended::IoWorker), None);
        }
        if self.is_given_up(process) {
            return (ended(Ended::ReaderFailed), None);
        }
        let key = (process, capture.image);
        if self.look(key, capture.code_pages).is_err() {
            return (ended(Ended::ProcessGone), None);
        }
        let unwound = match capture.stack {
            Stack::IoWorker => return (ended(Ended::IoWorker), None),
            Stack::Walked(addresses) => {
                let path = self.locate(key, walked(addresses), Ended::Walked);
                return (path, None);
            }
            Stack::Copied { registers, bytes } => {
                let request = |space| Request::Unwind(space, registers, bytes.clone());
                self.attempt(process, |paths| paths.follow(key, &request))
            }
        };
        let Ok(Unwound {
            frames, end, depth, ..
        }) = unwound
        else {
            return (ended(Ended::ReaderFailed), None);
        };
        let needed = (end != End::StackTooDeep).then_some(depth);
        let layout = self
            .images
            .get_mut(&key)
            .and_then(|known| known.image.learn(needed));
        (self.locate(key, frames, Ended::Unwound(end)), layout)
    }

    /// Has a stack unwound. When it leads out of all code that is known, the process may have got
    /// more in place of as much other code: then it is worth another look.
    fn follow(&mut self, key: ImageKey, request: &impl Fn(u32) -> Request) -> io::Result<Unwound> {
        let unwound = self.unwind_once(key, request)?;
        if unwound.outside.is_none() || self.look_again(key).is_err() {
            return Ok(unwound);
        }
        self.unwind_once(key, request)
    }

    fn unwind_once(
        &mut self,
        key: ImageKey,
        request: &impl Fn(u32) -> Request,
    ) -> io::Result<Unwound> {
        let space = self.give_space(key)?;
        match self.ask(&request(space), None)? {
            Answer::Unwound(unwound) => Ok(unwound),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes sure that the code of a process is known as it is now, or as it was last seen.
    fn look(&mut self, key: ImageKey, code_pages: u64) -> io::Result<()> {
        if let Some(known) = self.images.get(&key)
            && known.image.code_pages == code_pages
        {
            return Ok(());
        }
        let (process, start_stack) = key;
        match Image::look(process, start_stack, code_pages) {
            Ok(image) => {
                self.know(key, image);
                Ok(())
            }
            // It has ended: what was seen last is what there is.
            Err(_) if self.images.contains(&key) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at a process that is known. Fails when that showed nothing new.
    fn look_again(&mut self, key: ImageKey) -> io::Result<()> {
        let Some(known) = self.images.get(&key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let image = Image::look(key.0, key.1, known.image.code_pages)?;
        if image.mappings == known.image.mappings {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.know(key, image);
        Ok(())
    }

    fn know(&mut self, key: ImageKey, image: Image) {
        let opened: Vec<(u64, CodeFile)> = image
            .open_files()
            .filter_map(|(mapping, file)| Some((mapping.start, file.ok()?)))
            .collect();
        let files = opened
            .into_iter()
            .map(|(start, file)| (start, (self.keep(file.file, file.identity), file.identity)))
            .collect();
        match self.images.get_mut(&key) {
            Some(known) => {
                known.image.renew(image);
                known.files = files;
                self.given.spaces.remove(&known.space);
            }
            None => {
                let space = self.number();
                let known = KnownImage {
                    image,
                    space,
                    files,
                };
                if let Some((_, evicted)) = self.images.push(key, known)
                    && self.given.spaces.remove(&evicted.space)
                {
                    // It is of no use any more; should the reader fail here, the next one starts anew.
                    let _ = self.ask(&Request::ForgetSpace(evicted.space), None);
                }
            }
        }
        self.drop_unused_files();
    }

    fn keep(&mut self, file: File, identity: Identity) -> u32 {
        let now = u64::from(self.next_number);
        if let Some(known) = self.files.get_mut(&identity) {
            known.last_used = now;
            return known.number;
        }
        let number = self.number();
        let known = KnownFile {
            number,
            file,
            debug_file: None,
            last_used: now,
        };
        self.files.insert(identity, known);
        number
    }

    /// Keeps the number of open files within its bound. Names of code in a file that was closed are
    /// lost.
    fn drop_unused_files(&mut self) {
        while self.files.len() > FILES {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.last_used);
            let Some(identity) = oldest.map(|(identity, _)| *identity) else {
                return;
            };
            if let Some(closed) = self.files.remove(&identity)
                && self.given.files.remove(&closed.number).is_some()
            {
                self.given.debug_files.remove(&closed.number);
                let _ = self.ask(&Request::ForgetFile(closed.number), None);
            }
        }
    }

    fn number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// Tells the reader where the code of a process lies, unless it knows.
    fn give_space(&mut self, key: ImageKey) -> io::Result<u32> {
        let Some(known) = self.images.get(&key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let space = known.space;
        if self.given.spaces.contains(&space) {
            return Ok(space);
        }
        let identities: HashSet<Identity> = known.files.values().map(|(_, file)| *file).collect();
        let mappings = known.mappings();
        for identity in identities {
            self.give_file(identity)?;
        }
        self.ask(&Request::Space(space, mappings), None)?;
        self.given.spaces.insert(space);
        Ok(space)
    }

    /// Gives the reader a file, unless it has it. Says what else would help to name its code.
    fn give_file(&mut self, identity: Identity) -> io::Result<Wanted> {
        let Some(known) = self.files.get(&identity) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let number = known.number;
        if let Some(wanted) = self.given.files.get(&number) {
            return Ok(wanted.clone());
        }
        let file = known.file.try_clone()?;
        match self.ask(&Request::File(number), Some(file.as_fd()))? {
            Answer::File(wanted) => {
                self.given.files.insert(number, wanted.clone());
                Ok(wanted)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Gives the reader a file, and the debug information that lies elsewhere.
    fn give_file_for_names(&mut self, located: &Located, process: ProcessId) -> io::Result<()> {
        let Some(identity) = located.file.filter(|file| self.files.contains_key(file)) else {
            return Ok(());
        };
        let wanted = self.give_file(identity)?;
        let Some(known) = self.files.get(&identity) else {
            return Ok(());
        };
        let number = known.number;
        if !self.given.debug_files.insert(number) {
            return Ok(());
        }
        if let Some(found) = &known.debug_file {
            let found = found.as_ref().map(File::try_clone).transpose()?;
            if let Some(file) = found {
                self.ask(&Request::DebugFile(number), Some(file.as_fd()))?;
            }
            return Ok(());
        }
        let path = located.module.as_deref().unwrap_or_default();
        let mut found = None;
        for candidate in debug_files::candidates(&wanted, path) {
            let Ok(file) = candidate.open(process.pid) else {
                continue;
            };
            let answer = self.ask(&Request::DebugFile(number), Some(file.as_fd()))?;
            if answer == Answer::DebugFile(true) {
                found = Some(file);
                break;
            }
        }
        if let Some(known) = self.files.get_mut(&identity) {
            known.debug_file = Some(found);
        }
        Ok(())
    }

    fn ask(&mut self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> io::Result<Answer> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                self.given = Given::default();
                self.reader.insert(Reader::start(self.start)?)
            }
        };
        let answer = reader.ask(request, descriptor);
        if answer.is_err() {
            self.reader = None;
            self.given = Given::default();
        }
        answer
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
        let Some(known) = self.images.get(&key) else {
            return Path {
                image: None,
                frames: Vec::new(),
                end,
            };
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
            end,
        }
    }

    fn name(&mut self, path: &Path) -> Resolved {
        if path.end == Ended::IoWorker {
            return io_worker();
        }
        let named = match path.image {
            Some((process, _)) if !self.is_given_up(process) => {
                self.attempt(process, |paths| paths.names(path))
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let failed = named.is_err() && path.image.is_some();
        let mut named = named.unwrap_or_default().into_iter();
        let mut frames = Vec::new();
        for located in &path.frames {
            frames.extend(located.frames(named.next().unwrap_or_default()));
        }
        own::disown_start_code(&mut frames);
        let truncated = frames.len() > FRAMES;
        frames.truncate(FRAMES);
        // What the stack holds beyond the first function of a thread is left over from earlier.
        if let Some(first) = frames.iter().position(root::is_first) {
            frames.truncate(first + 1);
        }
        let proven = !truncated && root::is_proven(&frames);
        let incomplete = match path.end {
            _ if failed => Some(Incomplete::ReaderFailed),
            Ended::Unwound(End::Root) if !truncated => None,
            Ended::Unwound(End::Unproven | End::Lost) | Ended::Walked if proven => None,
            Ended::Unwound(End::Root | End::StackTooDeep | End::TooMany) => {
                Some(Incomplete::StackTooDeep)
            }
            Ended::Unwound(End::Unproven) => Some(Incomplete::Unproven),
            Ended::Unwound(End::Lost) => Some(Incomplete::NoUnwindInformation),
            Ended::Walked => Some(Incomplete::FramePointers),
            Ended::IoWorker => Some(Incomplete::IoUringWorker),
            Ended::ProcessGone => Some(Incomplete::ProcessGone),
            Ended::ReaderFailed => Some(Incomplete::ReaderFailed),
        };
        Resolved { frames, incomplete }
    }

    /// The names of each frame of a path.
    fn names(&mut self, path: &Path) -> io::Result<Vec<NamedPlace>> {
        let Some(key @ (process, _)) = path.image else {
            return Ok(Vec::new());
        };
        for located in &path.frames {
            self.give_file_for_names(located, process)?;
        }
        if path.frames.iter().any(Located::is_in_memory) {
            self.give_perf_map(key)?;
        }
        let places = path.frames.iter().map(|located| match located.place {
            // A file that was closed has no number any more.
            Some(Place::File(number, _)) if !self.given.files.contains_key(&number) => {
                Place::Memory(0, 0)
            }
            Some(place) => place,
            None => Place::Memory(0, 0),
        });
        match self.ask(&Request::Name(places.collect()), None)? {
            Answer::Named(named) if named.len() == path.frames.len() => Ok(named),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Gives the reader the names that a process itself writes for the code that it compiles.
    fn give_perf_map(&mut self, key: ImageKey) -> io::Result<()> {
        let Some(known) = self.images.get(&key) else {
            return Ok(());
        };
        let space = known.space;
        if !known.image.is_current() {
            return Ok(());
        }
        if let Ok(file) = debug_files::perf_map(key.0) {
            self.ask(&Request::PerfMap(space), Some(file.as_fd()))?;
        }
        Ok(())
    }
}

impl KnownImage {
    fn mappings(&self) -> Vec<CodeMapping> {
        let source = |start: u64, path: &std::path::Path| match self.files.get(&start) {
            Some((number, _)) => Source::File(*number),
            None if path.as_os_str() == VDSO => Source::Vdso,
            None => Source::Memory,
        };
        let mappings = self.image.mappings.iter();
        mappings
            .map(|mapping| CodeMapping {
                start: mapping.start,
                end: mapping.end,
                offset: mapping.offset,
                source: source(mapping.start, &mapping.path),
            })
            .collect()
    }

    fn locate(&self, frame: RawFrame, modules: &mut HashMap<u64, Arc<str>>) -> Located {
        // A return address lies behind its call, maybe in the next line or function.
        let address = frame.instruction();
        let Some(mapping) = self.image.mappings.find(address) else {
            return Located {
                raw: frame,
                place: None,
                file: None,
                module: None,
                main: false,
            };
        };
        let offset = address - mapping.start + mapping.offset;
        let module = modules
            .entry(mapping.start)
            .or_insert_with(|| clip(&mapping.path.to_string_lossy()).into());
        let file = self.files.get(&mapping.start);
        let place = match file {
            Some((number, _)) => Some(Place::File(*number, offset)),
            None if mapping.path.as_os_str() == VDSO => Some(Place::Vdso(address - mapping.start)),
            None if mapping.inode == 0 => Some(Place::Memory(self.space, address)),
            None => None,
        };
        Located {
            raw: frame,
            place,
            file: file.map(|(_, identity)| *identity),
            module: Some(Arc::clone(module)).filter(|path| !path.is_empty()),
            main: mapping.path == self.image.executable,
        }
    }
}

impl Located {
    fn is_in_memory(&self) -> bool {
        matches!(self.place, Some(Place::Memory(..)))
    }

    /// The frames of this place: the functions inlined there, then the one that holds it.
    fn frames(&self, place: NamedPlace) -> Vec<Frame> {
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

fn walked(addresses: Vec<u64>) -> Vec<RawFrame> {
    let frames = addresses.into_iter().enumerate();
    frames
        .map(|(index, address)| RawFrame {
            address,
            is_return: index != 0,
        })
        .collect()
}

/// What a worker of io_uring did was asked for elsewhere, by code that is not on its stack.
fn io_worker() -> Resolved {
    Resolved {
        frames: vec![Frame {
            function: Some("worker thread of io_uring".to_owned()),
            runtime: IO_URING.to_owned(),
            ..unknown_frame(None)
        }],
        incomplete: Some(Incomplete::IoUringWorker),
    }
}
