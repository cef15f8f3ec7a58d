//! A process as a runtime is looked for in it.

use std::ops::Range;

use object::{Object as _, ObjectSymbol, read::elf::ElfFile64};

use crate::code_path::reader::{
    memory::Memory,
    unwind::{AddressSpace, Mapped},
};

/// Most symbols of a file that are looked through.
const SYMBOLS: usize = 4_000_000;

/// A process as a runtime is looked for in it.
pub struct Process<'a> {
    /// Its memory.
    pub memory: &'a Memory<'a>,
    space: &'a AddressSpace,
}

/// A file of code as it lies in a process.
pub struct Object<'a>(&'a Mapped);

impl<'a> Process<'a> {
    /// A process with this memory and this code.
    pub fn new(memory: &'a Memory<'a>, space: &'a AddressSpace) -> Self {
        Self { memory, space }
    }

    /// Its files of code, each once.
    pub fn objects(&self) -> impl Iterator<Item = Object<'a>> {
        let mut last = None;
        self.space.mapped().filter_map(move |mapped| {
            let is_new = last.replace(mapped.bias()) != Some(mapped.bias());
            is_new.then_some(Object(mapped))
        })
    }

    /// Where the first of these symbols that some file exports lies, with that file.
    pub fn exported(&self, name: &str) -> Option<(Object<'a>, Range<u64>)> {
        self.objects().find_map(|object| {
            let range = object.exported(name)?;
            Some((object, range))
        })
    }
}

impl Object<'_> {
    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.0.image.bytes()
    }

    /// An address in the process from one that the file itself uses.
    pub fn address(&self, own: u64) -> u64 {
        own.wrapping_add(self.0.bias())
    }

    /// The addresses of its code in the process.
    pub fn code(&self) -> Range<u64> {
        self.moved(self.0.image.addresses())
    }

    /// Where an exported symbol lies in the process.
    pub fn exported(&self, name: &str) -> Option<Range<u64>> {
        let file = self.file()?;
        self.range(dynamic_symbol(&file, name)?)
    }

    /// Where a symbol lies in the process, exported or not.
    pub fn symbol(&self, name: &str) -> Option<Range<u64>> {
        let file = self.file()?;
        let of_file = || {
            let mut symbols = file.symbols().take(SYMBOLS);
            let found = symbols.find(|symbol| symbol.name_bytes() == Ok(name.as_bytes()))?;
            (!found.is_undefined()).then(|| (found.address(), found.size()))
        };
        self.range(dynamic_symbol(&file, name).or_else(of_file)?)
    }

    /// Where functions of a Go program lie in the process, by their names.
    pub fn go_functions<const N: usize>(&self, names: [&str; N]) -> [Option<Range<u64>>; N] {
        let found = self.0.image.go_functions(names);
        found.map(|own| own.map(|own| self.moved(own)))
    }

    /// The file itself, which a runtime may keep.
    pub fn mapped(&self) -> Mapped {
        self.0.clone()
    }

    /// Memory in the process of variables of the file that begin as zero.
    pub fn zeroed(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.image.zeroed().map(|own| self.moved(own))
    }

    fn moved(&self, own: Range<u64>) -> Range<u64> {
        self.address(own.start)..self.address(own.end)
    }

    fn file(&self) -> Option<ElfFile64<'_>> {
        ElfFile64::parse(self.bytes()).ok()
    }

    fn range(&self, (own, size): (u64, u64)) -> Option<Range<u64>> {
        let start = self.address(own);
        Some(start..start.checked_add(size)?)
    }
}

/// Address and size of an exported symbol as the file itself counts. The file's own table of hashes
/// leads to it; one that has none is read as a whole.
fn dynamic_symbol(file: &ElfFile64<'_>, name: &str) -> Option<(u64, u64)> {
    let mut symbols = file.dynamic_symbols().take(SYMBOLS);
    let found = symbols.find(|symbol| symbol.name_bytes() == Ok(name.as_bytes()))?;
    (!found.is_undefined()).then(|| (found.address(), found.size()))
}
