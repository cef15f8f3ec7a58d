//! The names that the linker left: the symbol tables of a file, of its debug file, and of the
//! small file that some distributions pack into their stripped ones.

use object::{
    Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, SectionFlags, SymbolFlags, SymbolIndex,
    SymbolSection, elf,
};

use super::unpack::{Allowance, mini_debug_info};
use crate::code_path::{name::demangle, reader::file_bytes::FileBytes};

/// Most symbols that are kept, those of all tables together.
const SYMBOLS: usize = 4_000_000;
/// Most sections of a file that are looked at.
const SECTIONS: usize = 1 << 16;
/// Longest name that is looked at.
const NAME_BYTES: usize = 16 * 1024;
/// How many symbols before an address are looked at: functions can overlap and have other names.
const NEIGHBOURS: usize = 64;

/// The functions of a file by address.
#[derive(Default)]
pub struct ElfSymbols {
    tables: Vec<Table>,
    /// Those that say how large they are, sorted by address.
    sized: Vec<Entry>,
    /// Those that reach to the next one, sorted by address.
    open: Vec<Entry>,
}

struct Table {
    file: FileBytes,
    dynamic: bool,
}

/// A symbol. Its name stays in the file.
struct Entry {
    address: u64,
    /// Behind its last byte; of an open one, behind its section.
    end: u64,
    index: u32,
    table: u8,
    is_function: bool,
    is_local: bool,
}

/// Where the section with a symbol ends, and whether it holds code.
type Section = (u64, bool);

impl ElfSymbols {
    /// Reads all tables.
    pub fn read(own: &FileBytes, debug: Option<&FileBytes>, allowance: &Allowance) -> Self {
        let mut symbols = Self::default();
        for file in debug.into_iter().chain([own]) {
            symbols.add(file, false);
        }
        let stripped = symbols.tables.is_empty();
        symbols.add(own, true);
        if stripped && let Some(packed) = mini_debug_info(own, allowance) {
            symbols.add(&packed, false);
        }
        let key = |entry: &Entry| (entry.address, entry.table, entry.index);
        symbols.sized.sort_unstable_by_key(key);
        symbols.open.sort_unstable_by_key(key);
        symbols
    }

    /// The linker's name for the function that is said to hold an address.
    pub fn sized(&self, address: u64) -> Option<String> {
        let holds = |entry: &&Entry| address < entry.end;
        let mut holding = before(&self.sized, address).filter(holds);
        let innermost = holding.next()?;
        let others = holding.take_while(|entry| entry.address == innermost.address);
        let named = |entry| Some((self.name_of(entry)?, entry));
        let names = [innermost].into_iter().chain(others).filter_map(named);
        let best = names.min_by(|(one, a), (other, b)| rank(one, a).cmp(&rank(other, b)));
        best.map(|(name, _)| name)
    }

    /// The name of the function that holds an address, or that is the last one to begin before it.
    pub fn name(&self, address: u64) -> Option<String> {
        let symbol = self.sized(address).or_else(|| self.open(address))?;
        Some(demangle(&symbol)).filter(|name| !name.is_empty())
    }

    fn open(&self, address: u64) -> Option<String> {
        let ended = before(&self.sized, address).next().map(|last| last.address);
        let reaches = |entry: &&Entry| Some(entry.address) > ended && address < entry.end;
        let mut names = before(&self.open, address)
            .filter(reaches)
            .filter_map(|entry| Some((self.name_of(entry)?, entry)));
        let nearest = names.next()?;
        let at = nearest.1.address;
        let others = names.take_while(|(_, entry)| entry.address == at);
        let best = [nearest].into_iter().chain(others);
        best.min_by(|(one, a), (other, b)| rank(one, a).cmp(&rank(other, b)))
            .map(|(name, _)| name)
    }

    fn add(&mut self, file: &FileBytes, dynamic: bool) {
        let Ok(elf) = object::File::parse(&**file) else {
            return;
        };
        let Ok(table) = u8::try_from(self.tables.len()) else {
            return;
        };
        let sections = sections(&elf);
        let symbols = if dynamic {
            elf.dynamic_symbols()
        } else {
            elf.symbols()
        };
        let room = SYMBOLS.saturating_sub(self.sized.len() + self.open.len());
        let before = self.sized.len() + self.open.len();
        for symbol in symbols.take(room) {
            if let Some(entry) = entry(&symbol, table, &sections) {
                match symbol.size() {
                    0 => self.open.push(entry),
                    _ => self.sized.push(entry),
                }
            }
        }
        if self.sized.len() + self.open.len() > before {
            let file = file.clone();
            self.tables.push(Table { file, dynamic });
        }
    }

    fn name_of(&self, entry: &Entry) -> Option<String> {
        let table = self.tables.get(usize::from(entry.table))?;
        let elf = object::File::parse(&*table.file).ok()?;
        let symbols = if table.dynamic {
            elf.dynamic_symbol_table()?
        } else {
            elf.symbol_table()?
        };
        let index = SymbolIndex(usize::try_from(entry.index).ok()?);
        let symbol = symbols.symbol_by_index(index).ok()?;
        let name = symbol.name_bytes().ok()?;
        // The version that the linker added is none of the source.
        let name = name.split(|byte| *byte == b'@').next()?;
        let name = String::from_utf8_lossy(name.get(..NAME_BYTES).unwrap_or(name));
        // Assemblers mark where code and data begin, and compilers where a loop does.
        let is_mark = name.starts_with('$') || name.starts_with(".L");
        (!name.is_empty() && !is_mark).then(|| name.into_owned())
    }
}

/// The last few entries that begin at an address or before it, the last one first.
fn before(entries: &[Entry], address: u64) -> impl Iterator<Item = &Entry> {
    let end = entries.partition_point(|entry| entry.address <= address);
    entries.iter().take(end).rev().take(NEIGHBOURS)
}

/// What makes one name of a function better than another: the least is best.
fn rank<'a>(name: &'a str, entry: &Entry) -> (bool, bool, usize, usize, &'a str) {
    let underscores = name.bytes().take_while(|byte| *byte == b'_').count();
    let (function, local) = (entry.is_function, entry.is_local);
    (!function, local, underscores, name.len(), name)
}

fn entry(
    symbol: &object::Symbol<'_, '_>,
    table: u8,
    sections: &[Option<Section>],
) -> Option<Entry> {
    let SymbolFlags::Elf { st_info, .. } = symbol.flags() else {
        return None;
    };
    if matches!(
        symbol.section(),
        SymbolSection::Undefined | SymbolSection::Common
    ) {
        return None;
    }
    let section = symbol.section_index();
    let section = section.and_then(|index| sections.get(index.0).copied().flatten());
    let is_function = match st_info & 0xf {
        elf::STT_FUNC | elf::STT_GNU_IFUNC => true,
        elf::STT_NOTYPE if section.is_some_and(|(_, code)| code) => false,
        _ => return None,
    };
    let address = symbol.address();
    let end = match symbol.size() {
        0 => section?.0,
        size => address.checked_add(size)?,
    };
    Some(Entry {
        address,
        end,
        index: u32::try_from(symbol.index().0).ok()?,
        table,
        is_function,
        is_local: st_info >> 4 == elf::STB_LOCAL,
    })
}

/// By index. Numbers that no section has are left empty.
fn sections(elf: &object::File<'_>) -> Vec<Option<Section>> {
    let mut sections = Vec::new();
    for section in elf.sections().take(SECTIONS) {
        let index = section.index().0;
        if index < SECTIONS && sections.len() <= index {
            sections.resize(index + 1, None);
        }
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        let code = sh_flags & u64::from(elf::SHF_EXECINSTR) != 0;
        let end = section.address().checked_add(section.size());
        if let (Some(place), Some(end)) = (sections.get_mut(index), end) {
            *place = Some((end, code));
        }
    }
    sections
}
