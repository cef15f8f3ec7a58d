//! What the reader is supplied with: the code of processes, and the files that it comes from.
//!
//! The files of a process are opened when its first path comes, so that a process that has ended
//! since can still be named. What was given to the reader is remembered, and given again to the next
//! one when it fails.

mod known_image;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd},
};

use known_image::KnownImage;
use lru::LruCache;

use super::{
    child::{Reader, Start},
    debug_files,
    files::{CodeFile, Identity},
    image::{Image, ImageKey},
    path::Located,
    protocol::{Answer, Request},
    reader::{
        Registers,
        runtimes::{Chain, Chained, Followed, Plan},
        symbols::Wanted,
        unwind::RawFrame,
    },
};
use crate::survey::ProcessId;

/// Most processes whose code is known at one time.
pub const IMAGES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Most files that are kept open.
const FILES: usize = 512;

/// What the reader is supplied with.
pub struct Supply {
    start: Start,
    reader: Option<Reader>,
    images: LruCache<ImageKey, KnownImage>,
    files: HashMap<Identity, KnownFile>,
    given: Given,
    next_number: u32,
}

struct KnownFile {
    number: u32,
    file: File,
    /// Looked for once it is needed.
    beside: Option<Beside>,
    last_used: u64,
}

/// Files that have the debug information of another one.
#[derive(Default)]
struct Beside {
    debug: Option<File>,
    /// What several debug files share.
    alternate: Option<File>,
}

impl Beside {
    fn try_clone(&self) -> io::Result<Self> {
        let clone = |file: &Option<File>| file.as_ref().map(File::try_clone).transpose();
        Ok(Self {
            debug: clone(&self.debug)?,
            alternate: clone(&self.alternate)?,
        })
    }
}

/// What the reader at hand was given.
#[derive(Default)]
struct Given {
    files: HashMap<u32, Wanted>,
    debug_files: HashSet<u32>,
    spaces: HashSet<u32>,
}

impl Supply {
    /// Nothing yet. The reader is started when there is something to read.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            reader: None,
            images: LruCache::new(IMAGES),
            files: HashMap::new(),
            given: Given::default(),
            next_number: 0,
        }
    }

    /// Process id of the reader, while there is one.
    pub fn reader_pid(&self) -> Option<u32> {
        self.reader.as_ref()?.pid()
    }

    /// A process whose code is known.
    pub fn image(&mut self, key: ImageKey) -> Option<&mut KnownImage> {
        self.images.get_mut(&key)
    }

    /// Whether the reader has the file with this number.
    pub fn has_given(&self, number: u32) -> bool {
        self.given.files.contains_key(&number)
    }

    /// Makes sure that the code of a process is known as it is now, or as it was last seen.
    pub fn look(&mut self, key: ImageKey, code_pages: u64) -> io::Result<()> {
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
    pub fn look_again(&mut self, key: ImageKey) -> io::Result<()> {
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

    /// Looks at a process that is known if other code lies now where one of these frames is: a library may
    /// have taken the place of another that has as many pages. Says whether that is so.
    pub fn look_if_replaced(&mut self, key: ImageKey, frames: &[RawFrame]) -> bool {
        let Some(known) = self.images.get(&key) else {
            return false;
        };
        if known.are_there(frames) {
            return false;
        }
        let Ok(image) = Image::look(key.0, key.1, known.image.code_pages) else {
            return false;
        };
        // Where there is nothing any more, what was there before still says most.
        let replaced = frames.iter().any(|frame| {
            let [before, now] = [&known.image, &image].map(|image| image.code_at(*frame));
            now.is_some() && before != now
        });
        if replaced {
            self.know(key, image);
        }
        replaced
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
            beside: None,
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
    pub fn give_space(&mut self, key: ImageKey) -> io::Result<u32> {
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

    /// Has the reader follow a stack of a process.
    pub fn follow(
        &mut self,
        key: ImageKey,
        registers: Registers,
        stack: &[u8],
        chain: &Chain,
    ) -> io::Result<Followed> {
        let space = self.give_space(key)?;
        let request = Request::Unwind(space, registers, stack.to_vec(), chain.clone());
        match self.ask_with_memory(key, &request)? {
            Answer::Followed(followed) => Ok(followed),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has the reader name the frames that an interpreter keeps in the memory of a process.
    pub fn name_chain(&mut self, key: ImageKey, chain: &Chain) -> io::Result<Chained> {
        let space = self.give_space(key)?;
        match self.ask_with_memory(key, &Request::Chain(space, chain.clone()))? {
            Answer::Chained(chained) => Ok(chained),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has the reader say how to follow such frames.
    pub fn plan(&mut self, key: ImageKey) -> io::Result<Option<Plan>> {
        let space = self.give_space(key)?;
        match self.ask_with_memory(key, &Request::Plan(space))? {
            Answer::Plan(plan) => Ok(plan),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Asks for something that takes the memory of a process, if it can be had.
    fn ask_with_memory(&mut self, key: ImageKey, request: &Request) -> io::Result<Answer> {
        let memory = self
            .images
            .get(&key)
            .and_then(|known| known.image.memory.as_ref())
            .and_then(|memory| memory.try_clone().ok());
        self.ask(request, memory.as_ref().map(AsFd::as_fd))
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
    pub fn give_file_for_names(&mut self, located: &Located, process: ProcessId) -> io::Result<()> {
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
        let known_files = known.beside.as_ref().map(Beside::try_clone).transpose()?;
        let beside = match known_files {
            Some(beside) => {
                self.give_beside(number, &beside)?;
                beside
            }
            None => self.find_beside(number, &wanted, located, process)?,
        };
        if let Some(known) = self.files.get_mut(&identity) {
            known.beside = Some(beside);
        }
        Ok(())
    }

    /// Looks for what lies beside a file, and gives it: the reader says whether it belongs to it.
    fn find_beside(
        &mut self,
        number: u32,
        wanted: &Wanted,
        located: &Located,
        process: ProcessId,
    ) -> io::Result<Beside> {
        let path = located.module.as_deref().unwrap_or_default();
        let mut alternate = wanted.alternate_build_id.clone();
        let mut beside = Beside::default();
        for candidate in debug_files::candidates(wanted, path) {
            let Ok(file) = candidate.open(process.pid) else {
                continue;
            };
            let answer = self.ask(&Request::DebugFile(number), Some(file.as_fd()))?;
            if let Answer::DebugFile(Some(wanted)) = answer {
                alternate = wanted.alternate_build_id;
                beside.debug = Some(file);
                break;
            }
        }
        beside.alternate = debug_files::by_build_id(alternate.as_deref())
            .find_map(|candidate| candidate.open(process.pid).ok());
        self.give_alternate(number, &beside)?;
        Ok(beside)
    }

    /// Gives what was found for an earlier reader.
    fn give_beside(&mut self, number: u32, beside: &Beside) -> io::Result<()> {
        if let Some(file) = &beside.debug {
            self.ask(&Request::DebugFile(number), Some(file.as_fd()))?;
        }
        self.give_alternate(number, beside)
    }

    fn give_alternate(&mut self, number: u32, beside: &Beside) -> io::Result<()> {
        if let Some(file) = &beside.alternate {
            self.ask(&Request::AlternateFile(number), Some(file.as_fd()))?;
        }
        Ok(())
    }

    /// Asks the reader, a new one when there is none.
    pub fn ask(
        &mut self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<Answer> {
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

    /// Gives the reader the names that a process itself writes for the code that it compiles.
    pub fn give_perf_map(&mut self, key: ImageKey) -> io::Result<()> {
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
