//! A process whose code is known: which file is mapped where.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use super::super::{
    files::{CodeFile, Identity},
    image::Image,
    name::clip,
    path::Located,
    protocol::{CodeMapping, Place, Source},
    reader::unwind::RawFrame,
};

/// The mapping that the kernel lends to every process.
const VDSO: &str = "[vdso]";

/// A process whose code is known.
pub struct KnownImage {
    /// Its code.
    pub image: Image,
    /// Its number for the reader.
    pub(super) space: u32,
    /// The file of each mapping, by its first address.
    pub(super) files: HashMap<u64, (u32, Identity)>,
}

impl KnownImage {
    /// Where its code lies, as the reader is told.
    pub(super) fn mappings(&self) -> Vec<CodeMapping> {
        let source = |start: u64, path: &Path| match self.files.get(&start) {
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

    /// Whether the files that frames lie in are still mapped as they were. That of the program itself stays
    /// as long as the program.
    pub(super) fn are_there(&self, frames: &[RawFrame]) -> bool {
        let pid = self.image.process.pid;
        let mut seen = HashSet::new();
        let mut mappings = (frames.iter())
            .filter_map(|frame| self.image.mappings.find(frame.instruction()))
            .filter(|mapping| mapping.path != self.image.executable && seen.insert(mapping.start));
        mappings.all(|mapping| {
            let file = self.files.get(&mapping.start);
            file.is_none_or(|(_, identity)| CodeFile::is_mapped(pid, mapping, identity))
        })
    }

    /// Finds out in which file a frame lies.
    pub fn locate(&self, frame: RawFrame, modules: &mut HashMap<u64, Arc<str>>) -> Located {
        // A return address lies behind its call, maybe in the next line or function.
        let address = frame.instruction();
        let Some(mapping) = self.image.mappings.find(address) else {
            return Located {
                raw: frame,
                place: None,
                file: None,
                module: None,
                main: false,
                managed: None,
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
            managed: None,
        }
    }
}
