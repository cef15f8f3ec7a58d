//! The files that hold a process's code, and what of them may be handed to the symbolizer.
//!
//! An executable can ask its reader to open other files beside it and to unpack sections of any
//! size. A process may have been started by anybody, so it does not get to choose: debug
//! information is taken from the file itself when it is of reasonable size, or from the system's
//! own debug directory by build id.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use flate2::bufread::ZlibDecoder;
use object::{CompressionFormat, Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use rustix::fs::{Mode, OFlags, major, minor};

use super::{mapped_file::MappedFile, maps::Mapping};

/// Where the system keeps debug information, by build id.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug/.build-id";
/// Largest file that is looked into.
const FILE_BYTES: u64 = 4 << 30;
/// Most bytes that the packed sections of a file may unpack to.
const UNPACKED_BYTES: u64 = 512 << 20;
/// Most sections, segments and symbols of a file that are looked at.
const ENTRIES: usize = 1 << 20;

/// A file that holds code. It is only referred to, not opened for reading: opening a device or a
/// pipe would have effects.
pub struct CodeFile {
    file: File,
    identity: Identity,
}

/// What makes a file the same one as before, with the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl CodeFile {
    /// Finds the file behind a mapping, in whatever mount namespace it lies and even when it was
    /// deleted. Without the right to do so (`CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`), the file
    /// of that name as the process sees it, if it is still the same file.
    pub fn find(pid: u32, mapping: &Mapping) -> io::Result<Self> {
        let Mapping { start, end, .. } = mapping;
        let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        Self::refer(Path::new(&link)).or_else(|error| {
            let path = mapping.path.strip_prefix("/").map_err(|_| error)?;
            Self::refer_same(&Path::new(&format!("/proc/{pid}/root")).join(path), mapping)
        })
    }

    fn refer(path: &Path) -> io::Result<Self> {
        let file: File =
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.into();
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            file,
            identity: Identity::of(&metadata),
        })
    }

    fn refer_same(path: &Path, mapping: &Mapping) -> io::Result<Self> {
        let found = Self::refer(path)?;
        let Identity { device, inode, .. } = found.identity;
        if ((major(device), minor(device)), inode) != (mapping.device, mapping.inode) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }

    /// What makes it this file.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A path that leads to this very file as long as the value lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Maps the contents.
    pub fn map(&self) -> io::Result<MappedFile> {
        MappedFile::map(&File::open(self.path())?)
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// How much of a file may be handed to the symbolizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readable {
    /// Nothing: what it packs is more than it says, or too much.
    #[default]
    Nothing,
    /// The symbols.
    Symbols,
    /// The symbols and the debug information.
    DebugInformation,
}

/// What is known about an executable or a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The parts that are loaded: place in the file, size, address.
    segments: Vec<(u64, u64, u64)>,
    /// How much of the file itself may be handed to the symbolizer.
    pub readable: Readable,
    /// The system's debug information for this file.
    pub debug_file: Option<PathBuf>,
    /// How many bytes the packed sections unpack to, those of the debug file included.
    pub unpacked: u64,
}

impl Layout {
    /// Looks into a file. What is no ELF file has no segments.
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(elf) = object::File::parse(bytes) else {
            return Self::default();
        };
        let segments = elf.segments().take(ENTRIES).map(|segment| {
            let (offset, size) = segment.file_range();
            (offset, size, segment.address())
        });
        let unpacked = unpacked(&elf).filter(|_| unpacks_as_promised(&elf, bytes));
        let readable = match unpacked {
            None => Readable::Nothing,
            Some(_) if refers_to_others(&elf) => Readable::Symbols,
            Some(_) => Readable::DebugInformation,
        };
        let (debug_file, beside) = elf.build_id().ok().flatten().and_then(debug_file).unzip();
        Self {
            segments: segments.collect(),
            readable,
            debug_file,
            unpacked: unpacked.unwrap_or(0) + beside.unwrap_or(0),
        }
    }

    /// The address, as the file itself counts, of a place in the file.
    pub fn address(&self, place: u64) -> Option<u64> {
        let holds = |(offset, size, _): &&(u64, u64, u64)| {
            place
                .checked_sub(*offset)
                .is_some_and(|inside| inside < *size)
        };
        let (offset, _, address) = self.segments.iter().find(holds)?;
        address.checked_add(place - offset)
    }
}

/// The function that a library offers to others at an address, for files whose full symbols cannot
/// be read.
pub fn exported_function(bytes: &[u8], address: u64) -> Option<String> {
    let elf = object::File::parse(bytes).ok()?;
    let holds = |symbol: &object::Symbol<'_, '_>| {
        let inside = address.checked_sub(symbol.address());
        symbol.kind() == SymbolKind::Text && inside.is_some_and(|inside| inside < symbol.size())
    };
    let symbol = elf.dynamic_symbols().take(ENTRIES).find(holds)?;
    Some(String::from_utf8_lossy(symbol.name_bytes().ok()?).into_owned())
}

/// How many bytes the packed sections unpack to; none when that is too much.
fn unpacked(elf: &object::File<'_>) -> Option<u64> {
    let mut total = 0_u64;
    for section in elf.sections().take(ENTRIES) {
        let packed = section.compressed_file_range().ok()?;
        if packed.format != CompressionFormat::None {
            total = total.checked_add(packed.uncompressed_size)?;
        }
    }
    (total <= UNPACKED_BYTES).then_some(total)
}

/// Whether no packed section holds more than its header says: the symbolizer unpacks them whole.
fn unpacks_as_promised(elf: &object::File<'_>, bytes: &[u8]) -> bool {
    elf.sections().take(ENTRIES).all(|section| {
        let Ok(packed) = section.compressed_file_range() else {
            return false;
        };
        if packed.format != CompressionFormat::Zlib {
            return true;
        }
        let Ok(data) = packed.data(bytes) else {
            return false;
        };
        let mut stream = ZlibDecoder::new(data.data).take(packed.uncompressed_size + 1);
        // Damage is for the symbolizer to find: it stops there as well.
        let unpacked = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
        unpacked <= packed.uncompressed_size
    })
}

/// Whether the file names another one that holds its debug information.
fn refers_to_others(elf: &object::File<'_>) -> bool {
    let others = [&b".gnu_debuglink"[..], b".gnu_debugaltlink", b".debug_sup"];
    elf.sections()
        .take(ENTRIES)
        .any(|section| match section.name_bytes() {
            Ok(name) => others.contains(&name),
            Err(_) => true,
        })
}

/// The system's debug information for a build id, and how many bytes it unpacks to.
fn debug_file(build_id: &[u8]) -> Option<(PathBuf, u64)> {
    let (first, rest) = build_id.split_first()?;
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = PathBuf::from(format!("{DEBUG_DIRECTORY}/{first:02x}/{rest}.debug"));
    let bytes = CodeFile::refer(&path).ok()?.map().ok()?;
    let unpacked = unpacked(&object::File::parse(&*bytes).ok()?)?;
    Some((path, unpacked))
}

#[cfg(test)]
mod tests;
