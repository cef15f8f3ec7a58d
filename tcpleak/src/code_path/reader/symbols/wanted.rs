//! What else would help to name the code of a file, and whether what was found belongs to it.

use flate2::Crc;
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

use super::unpack::find;

/// Longest build id that is believed.
const BUILD_ID_BYTES: usize = 64;
/// Longest file name that is believed.
const FILE_NAME_BYTES: usize = 255;

/// What else would help to name the code of a file: for the process that may open files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What tells this build from any other.
    pub build_id: Option<Vec<u8>>,
    /// Name (it has no slash) and checksum of the file that holds the debug information.
    pub debug_link: Option<(Vec<u8>, u32)>,
    /// Build id of the file that holds what several debug files have in common.
    pub alternate_build_id: Option<Vec<u8>>,
    /// Whether the file itself has debug information.
    pub has_debug_information: bool,
    /// Whether the file itself has a full symbol table.
    pub has_symbols: bool,
}

/// Looks into a file. Of what is no ELF file, nothing is known.
pub fn wanted(file: &[u8]) -> Wanted {
    let Ok(elf) = object::File::parse(file) else {
        return Wanted::default();
    };
    let has = |name| find(&elf, name).is_some_and(holds_bytes);
    let alternate = elf.gnu_debugaltlink().ok().flatten();
    Wanted {
        build_id: elf.build_id().ok().flatten().and_then(build_id),
        debug_link: elf.gnu_debuglink().ok().flatten().and_then(debug_link),
        alternate_build_id: alternate.and_then(|(_, id)| build_id(id)),
        has_debug_information: has(".debug_info"),
        has_symbols: has(".symtab"),
    }
}

/// Whether these bytes are the debug file of that file: the build ids are equal, or where one is
/// missing, the checksum is the one that the file expects.
pub fn belongs(file: &[u8], debug: &[u8]) -> bool {
    let (file, found) = (wanted(file), wanted(debug));
    if let (Some(expected), Some(found)) = (&file.build_id, &found.build_id) {
        return expected == found;
    }
    file.debug_link
        .is_some_and(|(_, checksum)| checksum == crc(debug))
}

/// Whether these bytes are what that file, or the debug file beside it, refers to as shared with
/// other debug files.
pub fn is_alternate(file: &[u8], alternate: &[u8]) -> bool {
    let expected = wanted(file).alternate_build_id;
    expected.is_some() && expected == wanted(alternate).build_id
}

/// Only the contents count: a file without its debug information may still name the section.
fn holds_bytes(section: object::Section<'_, '_>) -> bool {
    section.file_range().is_some_and(|(_, size)| size > 0)
}

fn build_id(id: &[u8]) -> Option<Vec<u8>> {
    (1..=BUILD_ID_BYTES)
        .contains(&id.len())
        .then(|| id.to_vec())
}

fn debug_link((name, checksum): (&[u8], u32)) -> Option<(Vec<u8>, u32)> {
    let plain = (1..=FILE_NAME_BYTES).contains(&name.len())
        && ![&b"."[..], b".."].contains(&name)
        && !name.iter().any(|byte| [b'/', 0].contains(byte));
    plain.then(|| (name.to_vec(), checksum))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    for part in bytes.chunks(1 << 20) {
        crc.update(part);
    }
    crc.sum()
}
