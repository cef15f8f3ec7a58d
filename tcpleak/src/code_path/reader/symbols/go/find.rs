//! Finds Go's line table in a file, and what it refers to outside of itself.

use object::{Object, ObjectSection};

use super::{
    LineTable,
    image::{Image, Segment},
    layout::{Header, word},
};
use crate::code_path::reader::file_bytes::FileBytes;

/// The sections that hold nothing but the table.
const TABLE_SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Sections that every Go program has: linkers may put its table into a section with other things.
const GO_SECTIONS: [&str; 2] = [".go.buildinfo", ".note.go.buildid"];
/// Most bytes that are searched.
const SEARCHED_BYTES: usize = 256 << 20;
/// The words of a module's description where its code begins and ends.
const TEXT_WORDS: [u64; 2] = [22, 23];
/// The words of a module's description that may tell where the table ends.
const TABLE_END_WORDS: std::ops::Range<u64> = 39..56;

/// A part of the file that has a section of its own, or begins where the table was found.
struct Found {
    address: u64,
    bytes: FileBytes,
    /// Whether the end of the bytes is the end of the table.
    exact: bool,
}

/// Finds the table.
pub fn find(file: &FileBytes) -> Option<LineTable> {
    let elf = object::File::parse(&**file).ok()?;
    if !elf.is_64() || !elf.is_little_endian() {
        return None;
    }
    let table = TABLE_SECTIONS.iter().find_map(|name| section(file, name));
    let may_be_go = || {
        elf.sections().next().is_none()
            || GO_SECTIONS
                .iter()
                .any(|name| elf.section_by_name(name).is_some())
    };
    if table.is_none() && !may_be_go() {
        return None;
    }
    let image = Image::read(file)?;
    let table = table.or_else(|| search(&image))?;
    let header = Header::read(&table.bytes)?;
    let module = module(&image, table.address, &header);
    let text = if header.is_relative() {
        let text = module.and_then(|module| text(&image, module));
        text.or_else(|| stated_text(&image, &table, &header))?
    } else {
        0
    };
    Some(LineTable {
        function_data: function_data(&image, &table, module, &header),
        bytes: table.bytes,
        header,
        text,
    })
}

fn section(file: &FileBytes, name: &str) -> Option<Found> {
    let elf = object::File::parse(&**file).ok()?;
    let section = elf.section_by_name(name)?;
    let (offset, size) = section.file_range()?;
    Some(Found {
        address: section.address(),
        bytes: file.part(offset, size)?,
        exact: true,
    })
}

/// Looks for the table's header in everything that is loaded and is not code.
fn search(image: &Image) -> Option<Found> {
    let mut left = SEARCHED_BYTES;
    for segment in image.segments.iter().filter(|segment| !segment.executable) {
        let searched = segment.bytes.len().min(left);
        left -= searched;
        if let Some(found) = search_in(segment, searched) {
            return Some(found);
        }
    }
    None
}

fn search_in(segment: &Segment, size: usize) -> Option<Found> {
    let headers = segment.bytes.get(..size)?.chunks_exact(8).enumerate();
    // What all magic numbers end in, and the two zeros behind them.
    let looks_right = headers.filter(|(_, head)| head[1..6] == [0xff, 0xff, 0xff, 0, 0]);
    for (index, _) in looks_right {
        let offset = u64::try_from(index).ok()?.checked_mul(8)?;
        let rest = (segment.bytes.len() as u64).checked_sub(offset)?;
        let bytes = segment.bytes.part(offset, rest)?;
        if Header::read(&bytes).is_some_and(|header| header.functions > 0) {
            return Some(Found {
                address: segment.address.checked_add(offset)?,
                bytes,
                exact: false,
            });
        }
    }
    None
}

/// The address of the module's description: it begins with the address of the table.
fn module(image: &Image, table: u64, header: &Header) -> Option<u64> {
    let mut left = SEARCHED_BYTES;
    let fits = |address: &u64| !header.is_relative() || text(image, *address).is_some();
    let mut filled_in: Vec<u64> = image.places_of(table).collect();
    filled_in.sort_unstable();
    if let Some(found) = filled_in.into_iter().find(fits) {
        return Some(found);
    }
    for segment in image.segments.iter().filter(|segment| segment.writable) {
        let searched = segment.bytes.len().min(left);
        left -= searched;
        let words = segment.bytes.get(..searched)?.chunks_exact(8).enumerate();
        let same = words.filter(|(_, bytes)| word(bytes, 0) == Some(table));
        let addresses = same.filter_map(|(index, _)| {
            let offset = u64::try_from(index).ok()?.checked_mul(8)?;
            segment.address.checked_add(offset)
        });
        if let Some(found) = { addresses }.find(fits) {
            return Some(found);
        }
    }
    None
}

/// Where the module's code begins, if that is what its description tells.
fn text(image: &Image, module: u64) -> Option<u64> {
    let [start, end] = TEXT_WORDS.map(|index| module_word(image, module, index));
    let start = start.filter(|start| Some(*start) < end)?;
    is_code(image, start).then_some(start)
}

fn module_word(image: &Image, module: u64, index: u64) -> Option<u64> {
    image.word(module.checked_add(index.checked_mul(8)?)?)
}

/// Where the code begins, by the table's header or by the sections.
fn stated_text(image: &Image, table: &Found, header: &Header) -> Option<u64> {
    let filled_in = image.word(table.address.checked_add(24)?);
    let stated = [filled_in, Some(header.text)].into_iter().flatten();
    let stated = { stated }.find(|address| *address != 0 && is_code(image, *address));
    stated.or_else(|| {
        let elf = object::File::parse(&**image.file()).ok()?;
        Some(elf.section_by_name(".text")?.address())
    })
}

fn is_code(image: &Image, address: u64) -> bool {
    let found = image.segment(address);
    found.is_some_and(|(segment, _)| segment.executable)
}

/// What functions' data is counted from.
fn function_data(
    image: &Image,
    table: &Found,
    module: Option<u64>,
    header: &Header,
) -> Option<FileBytes> {
    let (module, usual) = (module?, header.function_data_word()?);
    // Newer modules tell where the table ends just behind it. That finds it where words were added
    // before it.
    let end = table.address.checked_add(table.bytes.len() as u64);
    let is_end = |index: &u64| table.exact && module_word(image, module, *index) == end;
    let index = { TABLE_END_WORDS }
        .find(is_end)
        .map_or(usual, |end| end - 1);
    image.bytes(module_word(image, module, index)?)
}
