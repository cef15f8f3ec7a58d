//! Names for addresses of a file: from its bytes, and from those of its debug file.
//!
//! Whoever wrote the file may have meant harm. Every source of names is read within bounds, and
//! one that is damaged leaves the next one to say what it knows.

mod dwarf;
mod elf_symbols;
pub mod go;
pub mod perf_map;
mod unpack;
mod wanted;

use std::cell::OnceCell;

use serde::{Deserialize, Serialize};

use crate::code_path::reader::file_bytes::FileBytes;

use dwarf::DebugInformation;
use elf_symbols::ElfSymbols;
use go::LineTable;
use unpack::Allowance;
pub use wanted::{Wanted, belongs, is_alternate, wanted};

/// Most functions that are told to be inlined at one address, the outermost included.
const INLINE_DEPTH: usize = 64;

/// What is known about a function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name, as in the source.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line in that file: of the address, or of the call to the function that was inlined.
    pub line: Option<u32>,
    /// Whether its code was inlined into the function that follows.
    pub inlined: bool,
}

/// The names of one file. What is needed is read when an address is first asked for.
pub struct Symbols {
    own: Source,
    debug: Option<Source>,
    alternate: Option<Source>,
    elf: OnceCell<ElfSymbols>,
    go: OnceCell<Option<LineTable>>,
}

/// A file that has names.
struct Source {
    file: FileBytes,
    allowance: Allowance,
    debug_information: OnceCell<Option<DebugInformation>>,
}

impl Symbols {
    /// Of a file that holds code, with its debug file, and with the file that the debug file (or
    /// the file itself) shares with others. The caller makes sure that they belong together.
    pub fn new(file: FileBytes, debug: Option<FileBytes>, alternate: Option<FileBytes>) -> Self {
        Self {
            own: Source::new(file),
            debug: debug.map(Source::new),
            alternate: alternate.map(Source::new),
            elf: OnceCell::new(),
            go: OnceCell::new(),
        }
    }

    /// The functions at an address as the file itself counts, innermost first: those that were
    /// inlined there, then the one that holds it. Empty when nothing is known.
    pub fn name(&self, address: u64) -> Vec<Named> {
        let sources = self.debug.iter().chain([&self.own]);
        for source in sources {
            let Some(debug_information) = source.debug_information(self.alternate.as_ref()) else {
                continue;
            };
            let mut frames = debug_information.frames(address, self.elf().sized(address));
            if let Some(outermost) = frames.last_mut() {
                let symbol = || self.elf().name(address);
                outermost.function = outermost.function.take().or_else(symbol);
                return frames;
            }
        }
        // Go's own table has lines: it knows more than the symbols.
        let go = self.go.get_or_init(|| LineTable::find(&self.own.file));
        let frames = go.as_ref().map(|go| go.frames(address));
        frames
            .filter(|frames| !frames.is_empty())
            .unwrap_or_else(|| {
                let function = self.elf().name(address);
                let named = |_| Named {
                    function: function.clone(),
                    ..Named::default()
                };
                function.iter().map(named).collect()
            })
    }

    fn elf(&self) -> &ElfSymbols {
        self.elf.get_or_init(|| {
            let debug = self.debug.as_ref().map(|debug| &debug.file);
            ElfSymbols::read(&self.own.file, debug, &self.own.allowance)
        })
    }
}

impl Source {
    fn new(file: FileBytes) -> Self {
        Self {
            file,
            allowance: Allowance::default(),
            debug_information: OnceCell::new(),
        }
    }

    fn debug_information(&self, alternate: Option<&Self>) -> Option<&DebugInformation> {
        let read = || {
            let alternate = alternate.filter(|other| is_alternate(&self.file, &other.file));
            let alternate = alternate.map(|other| (&other.file, &other.allowance));
            DebugInformation::read((&self.file, &self.allowance), alternate)
        };
        self.debug_information.get_or_init(read).as_ref()
    }
}

#[cfg(test)]
mod tests;
