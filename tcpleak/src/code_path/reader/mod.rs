//! The process that reads the files of other programs.
//!
//! Executables, libraries and debug information belong to whoever made them, and the code that reads
//! them is large. So it runs in a process of its own, without rights, that is given bytes and open
//! files and gives back addresses and names. When a file is cut short while it is mapped, or a
//! damaged one leads a parser astray, that process ends, and costs one lookup.

mod file_bytes;
mod memory;
pub(super) mod runtimes;
pub(super) mod symbols;
pub(super) mod unwind;

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use file_bytes::FileBytes;
use memory::{Memory, ReadAt};
use runtimes::{Chain, Chained, Followed, Plan, Process, Runtimes};
use symbols::{Named, Symbols, Wanted, perf_map::PerfMap};
pub use unwind::Registers;
use unwind::{AddressSpace, Image};

use super::protocol::{Answer, CodeMapping, NamedPlace, Place, Request, Source};
use crate::{
    confine::{self, Limits},
    message,
};

/// What the reader may use. Mapped files do not count as memory; its descriptors are standard input and
/// outputs, and the file that was just received.
const LIMITS: Limits = Limits {
    memory_bytes: 2 << 30,
    descriptors: 16,
};

/// Becomes the reader: answers on standard input until that closes.
pub fn run() -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    confine::give_up_rights(LIMITS)?;
    serve(&stream)
}

/// Answers one request after the other until nobody asks any more.
fn serve(stream: &UnixStream) -> io::Result<()> {
    let mut reader = Reader::default();
    while let Some((request, descriptor)) = message::receive(stream)? {
        let answer = reader.answer(request, descriptor);
        message::send(stream, &answer, None::<BorrowedFd<'_>>)?;
    }
    Ok(())
}

/// What was given so far.
#[derive(Default)]
struct Reader {
    files: HashMap<u32, CodeFile>,
    spaces: HashMap<u32, Space>,
    perf_maps: HashMap<u32, PerfMap>,
    vdso: Option<Option<Arc<Image>>>,
}

/// The code of a process, and the language runtimes in it.
struct Space {
    code: AddressSpace,
    /// The files that the code is from.
    files: Vec<u32>,
    /// Looked for once there is a stack to follow.
    runtimes: Option<Runtimes>,
}

struct CodeFile {
    bytes: FileBytes,
    /// None for what is no ELF file.
    image: Option<Arc<Image>>,
    debug: Option<FileBytes>,
    alternate: Option<FileBytes>,
    /// Read once there is something to name.
    symbols: Option<Symbols>,
}

impl Reader {
    fn answer(&mut self, request: Request, descriptor: Option<OwnedFd>) -> Answer {
        match request {
            Request::File(number) => {
                let wanted = descriptor.and_then(|file| self.take_file(number, file));
                Answer::File(wanted.unwrap_or_default())
            }
            Request::DebugFile(number) => {
                Answer::DebugFile(descriptor.and_then(|file| self.take_debug_file(number, file)))
            }
            Request::AlternateFile(number) => {
                let bytes = descriptor.and_then(map);
                if let (Some(file), Some(bytes)) = (self.files.get_mut(&number), bytes) {
                    file.alternate = Some(bytes);
                    file.symbols = None;
                }
                Answer::Done
            }
            Request::PerfMap(space) => {
                if let Some(bytes) = descriptor.and_then(map) {
                    self.perf_maps.insert(space, PerfMap::parse(&bytes));
                }
                Answer::Done
            }
            Request::ForgetFile(number) => {
                self.files.remove(&number);
                Answer::Done
            }
            Request::Space(number, mappings) => {
                self.take_space(number, &mappings);
                Answer::Done
            }
            Request::ForgetSpace(number) => {
                self.spaces.remove(&number);
                self.perf_maps.remove(&number);
                Answer::Done
            }
            Request::Unwind(space, registers, stack, chain) => match self.spaces.get_mut(&space) {
                Some(space) => {
                    Answer::Followed(space.follow(registers, &stack, &chain, descriptor))
                }
                None => Answer::Done,
            },
            Request::Chain(space, chain) => match self.spaces.get_mut(&space) {
                Some(space) => Answer::Chained(space.name_chain(&chain, descriptor)),
                None => Answer::Done,
            },
            Request::Plan(space) => {
                let space = self.spaces.get_mut(&space);
                Answer::Plan(space.and_then(|space| space.plan(descriptor)))
            }
            Request::Name(places) => {
                Answer::Named(places.into_iter().map(|place| self.name(place)).collect())
            }
        }
    }

    fn take_file(&mut self, number: u32, file: OwnedFd) -> Option<Wanted> {
        let bytes = map(file)?;
        let wanted = symbols::wanted(&bytes);
        let file = CodeFile {
            image: Image::parse(bytes.clone()),
            bytes,
            debug: None,
            alternate: None,
            symbols: None,
        };
        self.files.insert(number, file);
        Some(wanted)
    }

    fn take_debug_file(&mut self, number: u32, file: OwnedFd) -> Option<Wanted> {
        let known = self.files.get_mut(&number)?;
        let debug = map(file)?;
        if !symbols::belongs(&known.bytes, &debug) {
            return None;
        }
        let wanted = symbols::wanted(&debug);
        known.debug = Some(debug);
        known.symbols = None;
        Some(wanted)
    }

    /// A runtime stays known when code is added that is in no new file: it compiles as it goes.
    fn take_space(&mut self, number: u32, mappings: &[CodeMapping]) {
        let code = self.code(mappings);
        let mut files: Vec<u32> = mappings
            .iter()
            .filter_map(|mapping| match mapping.source {
                Source::File(file) => Some(file),
                Source::Vdso | Source::Memory => None,
            })
            .collect();
        files.sort_unstable();
        files.dedup();
        let known = self.spaces.remove(&number);
        let runtimes = known
            .filter(|known| known.files == files)
            .and_then(|known| known.runtimes);
        let space = Space {
            code,
            files,
            runtimes,
        };
        self.spaces.insert(number, space);
    }

    fn code(&mut self, mappings: &[CodeMapping]) -> AddressSpace {
        let mut space = AddressSpace::new();
        for mapping in mappings {
            let addresses = mapping.start..mapping.end;
            let image = match mapping.source {
                Source::File(number) => self
                    .files
                    .get(&number)
                    .and_then(|file| file.image.as_ref().map(Arc::clone)),
                Source::Vdso => self.vdso(),
                Source::Memory => None,
            };
            match image {
                Some(image) => space.map(addresses, mapping.offset, &image),
                None => space.map_anonymous(addresses),
            }
        }
        space
    }

    /// The kernel lends the same one to every process.
    fn vdso(&mut self) -> Option<Arc<Image>> {
        self.vdso.get_or_insert_with(Image::vdso).clone()
    }

    fn name(&mut self, place: Place) -> NamedPlace {
        match place {
            Place::File(number, offset) => self.name_in_file(number, offset),
            Place::Vdso(offset) => self.name_in_vdso(offset),
            Place::Memory(space, address) => self.name_in_memory(space, address),
        }
        .unwrap_or_default()
    }

    fn name_in_file(&mut self, number: u32, offset: u64) -> Option<NamedPlace> {
        let file = self.files.get_mut(&number)?;
        let address = file.image.as_ref()?.address(offset)?;
        let symbols = file.symbols.get_or_insert_with(|| {
            let (debug, alternate) = (file.debug.clone(), file.alternate.clone());
            Symbols::new(file.bytes.clone(), debug, alternate)
        });
        Some(NamedPlace {
            address: Some(address),
            functions: symbols.name(address),
        })
    }

    fn name_in_vdso(&mut self, offset: u64) -> Option<NamedPlace> {
        let vdso = self.vdso()?;
        let address = vdso.address(offset)?;
        Some(NamedPlace {
            address: Some(address),
            functions: Symbols::new(vdso.bytes().clone(), None, None).name(address),
        })
    }

    fn name_in_memory(&self, space: u32, address: u64) -> Option<NamedPlace> {
        let function = self.perf_maps.get(&space)?.name(address)?;
        Some(NamedPlace {
            address: None,
            functions: vec![Named {
                function: Some(function.to_owned()),
                ..Named::default()
            }],
        })
    }
}

impl Space {
    fn follow(
        &mut self,
        registers: Registers,
        stack: &[u8],
        chain: &Chain,
        memory: Option<OwnedFd>,
    ) -> Followed {
        self.with_runtimes(memory, |runtimes, code, memory| {
            runtimes.follow(code, registers, stack, chain, memory)
        })
    }

    fn name_chain(&mut self, chain: &Chain, memory: Option<OwnedFd>) -> Chained {
        self.with_runtimes(memory, |runtimes, _, memory| {
            runtimes.name_chain(chain, memory)
        })
    }

    fn plan(&mut self, memory: Option<OwnedFd>) -> Option<Plan> {
        self.with_runtimes(memory, |runtimes, _, _| runtimes.plan())
    }

    /// Does something with the runtimes of the process, which are looked for the first time.
    fn with_runtimes<T>(
        &mut self,
        memory: Option<OwnedFd>,
        work: impl FnOnce(&mut Runtimes, &mut AddressSpace, &Memory<'_>) -> T,
    ) -> T {
        let file = memory.map(File::from);
        let source: &dyn ReadAt = match &file {
            Some(file) => file,
            None => &(),
        };
        let memory = Memory::new(source);
        let runtimes = self
            .runtimes
            .get_or_insert_with(|| Runtimes::detect(&Process::new(&memory, &self.code)));
        work(runtimes, &mut self.code, &memory)
    }
}

/// Maps a file, which may be cut short at any time: that ends this process.
fn map(file: OwnedFd) -> Option<FileBytes> {
    let file = File::from(file);
    // SAFETY: the mapping is read only. Whoever owns the file may change it under us: the bytes are
    // distrusted, and never referred to as text or as anything but bytes.
    let mapped = unsafe { memmap2::Mmap::map(&file) }.ok()?;
    Some(FileBytes::from(mapped))
}

#[cfg(test)]
mod tests;
