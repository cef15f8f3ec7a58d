//! A file as it would lie in memory, at the addresses that it counts itself.

use std::collections::HashMap;

use object::{
    Object, ObjectSegment, RelocationTarget, SegmentFlags,
    elf::{PF_W, PF_X},
};

use super::layout::word;
use crate::code_path::reader::file_bytes::FileBytes;

/// Most parts of a file that are looked at.
const SEGMENTS: usize = 1024;
/// Most words that the dynamic linker fills in.
const RELOCATIONS: usize = 4_000_000;

/// A file as it would lie in memory.
pub struct Image {
    file: FileBytes,
    /// The parts that have bytes in the file.
    pub segments: Vec<Segment>,
    /// Words that the dynamic linker fills in: in the file there may be zeros.
    relocations: HashMap<u64, u64>,
}

/// A part of the file that is loaded.
pub struct Segment {
    /// Where it lies in memory.
    pub address: u64,
    /// Its bytes.
    pub bytes: FileBytes,
    /// Whether it holds code.
    pub executable: bool,
    /// Whether the program may change it.
    pub writable: bool,
}

impl Image {
    /// Reads a file.
    pub fn read(file: &FileBytes) -> Option<Self> {
        let elf = object::File::parse(&**file).ok()?;
        let segment = |segment: object::Segment<'_, '_>| {
            let (offset, size) = segment.file_range();
            let SegmentFlags::Elf { p_flags } = segment.flags() else {
                return None;
            };
            Some(Segment {
                address: segment.address(),
                bytes: file.part(offset, size)?,
                executable: p_flags & PF_X != 0,
                writable: p_flags & PF_W != 0,
            })
        };
        let relocations = elf.dynamic_relocations().into_iter().flatten();
        let absolute = relocations.take(RELOCATIONS).filter_map(|(place, to)| {
            let relative = to.target() == RelocationTarget::Absolute && to.addend() > 0;
            relative.then(|| (place, to.addend().unsigned_abs()))
        });
        Some(Self {
            file: file.clone(),
            segments: elf.segments().take(SEGMENTS).filter_map(segment).collect(),
            relocations: absolute.collect(),
        })
    }

    /// The whole file.
    pub fn file(&self) -> &FileBytes {
        &self.file
    }

    /// The part that holds an address, and where in it.
    pub fn segment(&self, address: u64) -> Option<(&Segment, u64)> {
        let inside = |segment: &Segment| {
            let offset = address.checked_sub(segment.address)?;
            (offset < segment.bytes.len() as u64).then_some(offset)
        };
        let mut found = self.segments.iter();
        found.find_map(|segment| Some((segment, inside(segment)?)))
    }

    /// The bytes from an address on.
    pub fn bytes(&self, address: u64) -> Option<FileBytes> {
        let (segment, offset) = self.segment(address)?;
        let rest = (segment.bytes.len() as u64).checked_sub(offset)?;
        segment.bytes.part(offset, rest)
    }

    /// The word at an address, as the dynamic linker leaves it.
    pub fn word(&self, address: u64) -> Option<u64> {
        if let Some(word) = self.relocations.get(&address) {
            return Some(*word);
        }
        let (segment, offset) = self.segment(address)?;
        word(&segment.bytes, usize::try_from(offset).ok()?)
    }

    /// Where the dynamic linker writes an address.
    pub fn places_of(&self, address: u64) -> impl Iterator<Item = u64> {
        let found = move |(place, word): (&u64, &u64)| (*word == address).then_some(*place);
        self.relocations.iter().filter_map(found)
    }
}
