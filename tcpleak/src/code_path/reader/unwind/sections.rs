//! Where an ELF file has its unwind information.

use std::io::Read;

use flate2::bufread::ZlibDecoder;
use object::{
    LittleEndian, elf,
    read::elf::{CompressionHeader, ProgramHeader, SectionHeader, SectionTable},
};

use super::{
    super::file_bytes::FileBytes,
    table::{Addresses, Table, UNINDEXED_BYTES},
};

/// The byte order of both processors.
pub const LITTLE: LittleEndian = LittleEndian;
/// The beginning of an ELF file.
pub type Header = elf::FileHeader64<LittleEndian>;
/// What an ELF file says about a part that is loaded.
pub type Program = elf::ProgramHeader64<LittleEndian>;
type Section = elf::SectionHeader64<LittleEndian>;

/// Most sections that are looked at.
const SECTIONS: usize = 1 << 16;
/// How `.zdebug_frame` begins: these letters, then its full size, most significant byte first.
const OLD_PACKED: &[u8] = b"ZLIB";

/// The sections that matter.
#[derive(Default)]
struct Found<'a> {
    text: Option<&'a Section>,
    got: Option<&'a Section>,
    eh_frame: Option<&'a Section>,
    eh_frame_hdr: Option<&'a Section>,
    debug_frame: Option<&'a Section>,
    old_debug_frame: Option<&'a Section>,
}

impl<'a> Found<'a> {
    fn among(sections: &SectionTable<'a, Header>) -> Self {
        let mut found = Self::default();
        for section in sections.iter().take(SECTIONS) {
            let place = match sections.section_name(LITTLE, section) {
                Ok(b".text") => &mut found.text,
                Ok(b".got") => &mut found.got,
                Ok(b".eh_frame") => &mut found.eh_frame,
                Ok(b".eh_frame_hdr") => &mut found.eh_frame_hdr,
                Ok(b".debug_frame") => &mut found.debug_frame,
                Ok(b".zdebug_frame") => &mut found.old_debug_frame,
                _ => continue,
            };
            place.get_or_insert(section);
        }
        found
    }

    fn addresses(&self) -> Addresses {
        let address =
            |section: Option<&Section>| section.map_or(0, |section| section.sh_addr(LITTLE));
        Addresses {
            text: address(self.text),
            got: address(self.got),
            eh_frame: address(self.eh_frame),
            eh_frame_hdr: address(self.eh_frame_hdr),
        }
    }
}

/// The unwind information that the table of sections leads to, the best first.
pub fn tables(bytes: &FileBytes, sections: &SectionTable<'_, Header>) -> Vec<Table> {
    let found = Found::among(sections);
    let addresses = found.addresses();
    let plain = |section: &Section| {
        let (offset, size) = section.file_range(LITTLE)?;
        bytes.part(offset, size)
    };
    let eh_frame = found.eh_frame.and_then(plain).and_then(|eh_frame| {
        let header = found.eh_frame_hdr.and_then(plain);
        Table::eh_frame(eh_frame, header, &addresses)
    });
    let debug_frame = (found.debug_frame)
        .and_then(|section| match packed(bytes, section) {
            Some(packed) => unpack(&packed.bytes, packed.size),
            None => plain(section),
        })
        .or_else(|| unpack_old(&found.old_debug_frame.and_then(plain)?))
        .and_then(|debug_frame| Table::debug_frame(debug_frame, &addresses));
    eh_frame.into_iter().chain(debug_frame).collect()
}

/// The unwind information that the program headers lead to, for files without section headers.
pub fn table_of_program(bytes: &FileBytes, programs: &[Program]) -> Option<Table> {
    let is_index = |program: &&Program| program.p_type(LITTLE) == elf::PT_GNU_EH_FRAME;
    let index = programs.iter().find(is_index)?;
    let (offset, size) = index.file_range(LITTLE);
    let header = bytes.part(offset, size)?;
    let eh_frame_hdr = index.p_vaddr(LITTLE);
    let distance = i32::from_le_bytes(*header.get(4..)?.first_chunk()?);
    let eh_frame = eh_frame_hdr
        .checked_add(4)?
        .checked_add_signed(distance.into())?;
    let addresses = Addresses {
        eh_frame,
        eh_frame_hdr,
        ..Addresses::default()
    };
    Table::eh_frame(
        from_address(bytes, programs, eh_frame)?,
        Some(header),
        &addresses,
    )
}

/// What is loaded from an address on, to the end of the part that it lies in.
fn from_address(bytes: &FileBytes, programs: &[Program], address: u64) -> Option<FileBytes> {
    let loaded = programs
        .iter()
        .filter(|program| program.p_type(LITTLE) == elf::PT_LOAD);
    let ahead = |program: &Program| address.checked_sub(program.p_vaddr(LITTLE));
    let mut parts = loaded.filter_map(|program| {
        let (offset, size) = program.file_range(LITTLE);
        let ahead = ahead(program)?;
        bytes.part(offset.checked_add(ahead)?, size.checked_sub(ahead)?)
    });
    parts.find(|part| !part.is_empty())
}

/// A section's bytes as they are packed, and how many they unpack to.
struct Packed {
    bytes: FileBytes,
    size: u64,
}

fn packed(bytes: &FileBytes, section: &Section) -> Option<Packed> {
    let (header, offset, size) = section.compression(LITTLE, &**bytes).ok()??;
    (header.ch_type(LITTLE) == elf::ELFCOMPRESS_ZLIB).then_some(())?;
    Some(Packed {
        bytes: bytes.part(offset, size)?,
        size: header.ch_size(LITTLE),
    })
}

fn unpack_old(section: &[u8]) -> Option<FileBytes> {
    let (size, packed) = section.strip_prefix(OLD_PACKED)?.split_first_chunk()?;
    unpack(packed, u64::from_be_bytes(*size))
}

fn unpack(packed: &[u8], size: u64) -> Option<FileBytes> {
    if size > UNINDEXED_BYTES as u64 {
        return None;
    }
    let mut unpacked = Vec::new();
    // What was unpacked before the stream turned out to be damaged is still of use.
    let _ = (ZlibDecoder::new(packed).take(size)).read_to_end(&mut unpacked);
    unpacked.shrink_to_fit();
    Some(unpacked.into())
}
