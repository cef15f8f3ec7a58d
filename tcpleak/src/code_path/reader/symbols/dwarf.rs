//! Debug information: functions with the ones inlined into them, files and lines.

use std::convert::Infallible;

use addr2line::{Context, Location};
use gimli::{Dwarf, EndianReader, RunTimeEndian, SectionId};
use object::Object;

use super::{
    INLINE_DEPTH, Named,
    unpack::{Allowance, section},
};
use crate::code_path::{
    name::{clip, demangle},
    reader::file_bytes::FileBytes,
};

// SAFETY: the bytes lie on the heap, in a mapping or in the program, behind a counted pointer:
// moving the value moves the pointer alone, and nothing changes owner or range afterwards.
unsafe impl gimli::StableDeref for FileBytes {}

// SAFETY: a clone counts the same pointer and copies the range, so that it leads to the same bytes.
unsafe impl gimli::CloneStableDeref for FileBytes {}

type Reader = EndianReader<RunTimeEndian, FileBytes>;

/// The debug information of a file, indexed as far as it was asked for.
pub struct DebugInformation(Context<Reader>);

impl DebugInformation {
    /// Reads a file's debug information. `alternate` is the file that it shares with others.
    pub fn read(
        (file, allowance): (&FileBytes, &Allowance),
        alternate: Option<(&FileBytes, &Allowance)>,
    ) -> Option<Self> {
        let mut sections = sections(file, allowance)?;
        if let Some((file, allowance)) = alternate
            && let Some(shared) = self::sections(file, allowance)
        {
            sections.set_sup(shared);
        }
        Context::from_dwarf(sections).ok().map(Self)
    }

    /// The functions at an address, innermost first, and none if it is not covered. `symbol` is
    /// the linker's name for the function that holds the address.
    pub fn frames(&self, address: u64, symbol: Option<String>) -> Vec<Named> {
        let frames = self.inlined(address, symbol.as_deref());
        frames.unwrap_or_else(|_| {
            // What tells the functions is damaged or elsewhere: the line may still be known.
            let location = self.0.find_location(address).ok().flatten();
            let function = symbol.as_deref().map(demangle);
            let named = |location| named(function, Some(location));
            location.map(named).into_iter().collect()
        })
    }

    fn inlined(&self, address: u64, symbol: Option<&str>) -> Result<Vec<Named>, gimli::Error> {
        let mut frames = Vec::new();
        let mut linkage = None;
        // Debug information that lies in yet another file is not looked for.
        let mut found = self.0.find_frames(address).skip_all_loads()?;
        while let Some(frame) = found.next()? {
            let function = match &frame.function {
                Some(function) => Some(function.raw_name()?),
                None => None,
            };
            if frames.len() == INLINE_DEPTH {
                frames.pop();
            }
            frames.push(Named {
                inlined: true,
                ..named(function.as_deref().map(demangle), frame.location)
            });
            linkage = function.map(|function| clip(&function));
        }
        if let Some(outermost) = frames.last_mut() {
            outermost.inlined = false;
            // Debug information may name a function without its module or class: `connect` where
            // the symbol says `crawler::http::connect`.
            if let Some(symbol) = symbol.filter(|symbol| !is_part_of(symbol, linkage.as_deref())) {
                outermost.function = Some(demangle(symbol));
            }
        }
        if frames == [Named::default()] {
            frames.clear();
        }
        Ok(frames)
    }
}

/// Whether the compiler made the symbol from the function's name, for a part or a variant of it:
/// `parse.cold`, `parse.constprop.0`.
fn is_part_of(symbol: &str, function: Option<&str>) -> bool {
    function
        .and_then(|function| symbol.strip_prefix(function))
        .is_some_and(|rest| rest.starts_with('.'))
}

fn named(function: Option<String>, location: Option<Location<'_>>) -> Named {
    let file = location.as_ref().and_then(|location| location.file);
    let line = location.as_ref().and_then(|location| location.line);
    Named {
        function: function.filter(|name| !name.is_empty()),
        file: file.filter(|file| !file.is_empty()).map(clip),
        line: line.filter(|line| *line != 0),
        inlined: false,
    }
}

/// The sections that tell functions and lines; none without the one that all others hang on.
fn sections(file: &FileBytes, allowance: &Allowance) -> Option<Dwarf<Reader>> {
    let elf = object::File::parse(&**file).ok()?;
    let endian = if elf.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let load = |id: SectionId| {
        let bytes = is_needed(id).then(|| section(file, id.name(), allowance));
        let bytes = bytes.flatten().unwrap_or_else(FileBytes::default);
        Ok::<_, Infallible>(EndianReader::new(bytes, endian))
    };
    let Ok(sections) = Dwarf::load(load);
    (!gimli::Section::reader(&sections.debug_info)
        .bytes()
        .is_empty())
    .then_some(sections)
}

/// Variables, types and macros are of no use here, and they can be large.
fn is_needed(id: SectionId) -> bool {
    matches!(
        id,
        SectionId::DebugAbbrev
            | SectionId::DebugAddr
            | SectionId::DebugAranges
            | SectionId::DebugInfo
            | SectionId::DebugLine
            | SectionId::DebugLineStr
            | SectionId::DebugRanges
            | SectionId::DebugRngLists
            | SectionId::DebugStr
            | SectionId::DebugStrOffsets
    )
}
