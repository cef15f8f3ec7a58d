//! Go's line table (`pclntab`): every Go program needs it to run, so that strip cannot take it.
//!
//! It has three layouts since Go 1.16, told apart by a magic number. What they have in common: a
//! table of functions sorted by address, and for each function small tables of values by address
//! (file, line, inlined call), packed as differences.

mod find;
mod image;
mod layout;

use std::ops::Range;

use super::{INLINE_DEPTH, Named};
use crate::code_path::{name::clip, reader::file_bytes::FileBytes};
use layout::{Header, number};

/// Most steps through a packed table.
const STEPS: usize = 1 << 20;
/// Longest name that is looked at.
const NAME_BYTES: usize = 16 * 1024;
/// Which of a function's tables tells what is inlined at an address.
const INLINE_INDEX: u32 = 2;
/// Which of a function's data tells what can be inlined into it.
const INLINE_TREE: u32 = 3;
/// The flag of a function that nothing called.
const OUTERMOST: u8 = 1;
/// The flag of a function that goes to another stack, and whose frame has no size therefore.
const CHANGES_STACK: u8 = 2;

/// The line table of a Go program.
pub struct LineTable {
    /// From the header to the end.
    bytes: FileBytes,
    header: Header,
    /// Where the code begins that the table tells about.
    text: u64,
    /// What the functions' data is counted from.
    function_data: Option<FileBytes>,
}

/// What the table says about the frame of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing called the function.
    Outermost,
    /// So many bytes lie between the stack pointer and where it was when the function began.
    Bytes(u64),
}

/// What the table says about one function.
struct Function {
    /// Its first address.
    entry: u64,
    /// Where its record is.
    at: usize,
}

impl LineTable {
    /// Finds the table of a file; none if this is no Go program.
    pub fn find(file: &FileBytes) -> Option<Self> {
        find::find(file)
    }

    /// The functions at an address, innermost first, and none if it is not covered.
    pub fn frames(&self, address: u64) -> Vec<Named> {
        let mut frames = Vec::new();
        if let Some(function) = self.function(address)
            && let Some(name) = self.name(self.field(&function, self.header.name))
        {
            self.unfold(&function, address, name, &mut frames);
        }
        frames
    }

    /// The addresses of functions by their names, found in one pass.
    pub fn functions<const N: usize>(&self, names: [&str; N]) -> [Option<Range<u64>>; N] {
        let mut found = [const { None }; N];
        for index in 0..self.header.functions {
            let Some(function) = self.numbered(index) else {
                continue;
            };
            let is_it = |name: &&str| self.is_called(&function, name) == Some(true);
            if let Some(place) = names.iter().position(is_it) {
                let end = index.checked_add(1).and_then(|next| self.entry(next));
                found[place] = end.map(|end| function.entry..end);
            }
        }
        found
    }

    fn is_called(&self, function: &Function, name: &str) -> Option<bool> {
        let offset = self.field(function, self.header.name)?;
        let start = self
            .header
            .names
            .checked_add(usize::try_from(offset).ok()?)?;
        let rest = self.bytes.get(start..)?.strip_prefix(name.as_bytes());
        Some(rest.is_some_and(|rest| rest.first() == Some(&0)))
    }

    /// The frame of the function at an address. None where that is not told, and for the code that leads
    /// from one stack to another.
    pub fn frame(&self, address: u64) -> Option<Frame> {
        let function = self.function(address)?;
        let flags = function.at.checked_add(self.header.flags?)?;
        let flags = *self.bytes.get(flags)?;
        if flags & OUTERMOST != 0 {
            return Some(Frame::Outermost);
        }
        let table = self.field(&function, self.header.frame)?;
        let bytes = self.value(&function, table, address)?;
        let bytes = u64::try_from(bytes).ok()?;
        (flags & CHANGES_STACK == 0).then_some(Frame::Bytes(bytes))
    }

    /// Adds what is inlined at an address, then the function itself.
    fn unfold(&self, function: &Function, address: u64, name: String, frames: &mut Vec<Named>) {
        let mut outermost = Named {
            function: Some(name),
            ..Named::default()
        };
        let mut at = address;
        while frames.len() + 1 < INLINE_DEPTH {
            let place = self.place(function, at);
            let Some(index) = self.inlined(function, at) else {
                (outermost.file, outermost.line) = place;
                break;
            };
            // The place is within a function whose name is not known: it says nothing about the
            // outermost one.
            let Some((name, parent)) = self.call(function, index) else {
                break;
            };
            let (file, line) = place;
            frames.push(Named {
                function: Some(name),
                file,
                line,
                inlined: true,
            });
            at = function.entry.saturating_add(parent.into());
        }
        frames.push(outermost);
    }

    fn function(&self, address: u64) -> Option<Function> {
        let (mut low, mut high) = (0, self.header.functions);
        if address < self.entry(low)? || address >= self.entry(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry(middle)? <= address {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.numbered(low)
    }

    fn numbered(&self, index: usize) -> Option<Function> {
        let place = self.header.function_place(&self.bytes, index)?;
        Some(Function {
            entry: self.entry(index)?,
            at: self.header.function_table.checked_add(place)?,
        })
    }

    fn entry(&self, index: usize) -> Option<u64> {
        let entry = self.header.function_entry(&self.bytes, index)?;
        self.text.checked_add(entry)
    }

    fn field(&self, function: &Function, offset: usize) -> Option<u32> {
        number(&self.bytes, function.at.checked_add(offset)?)
    }

    fn name(&self, offset: Option<u32>) -> Option<String> {
        self.string(self.header.names, offset?)
    }

    fn string(&self, table: usize, offset: u32) -> Option<String> {
        let start = table.checked_add(usize::try_from(offset).ok()?)?;
        let bytes = self.bytes.get(start..)?;
        let bytes = bytes.get(..NAME_BYTES).unwrap_or(bytes);
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(bytes.get(..end)?);
        (!text.is_empty()).then(|| clip(&text))
    }

    /// File and line of an address.
    fn place(&self, function: &Function, address: u64) -> (Option<String>, Option<u32>) {
        let value = |offset| self.value(function, self.field(function, offset)?, address);
        let line = value(self.header.line).and_then(|line| u32::try_from(line).ok());
        let file = value(self.header.file).and_then(|index| self.file(function, index));
        (file, line.filter(|line| *line != 0))
    }

    /// The name of a file by its number within the function's compilation unit.
    fn file(&self, function: &Function, index: i32) -> Option<String> {
        let unit = self.field(function, self.header.unit)?;
        let index = unit.checked_add(u32::try_from(index).ok()?)?;
        let place = usize::try_from(index).ok()?.checked_mul(4)?;
        let offset = number(&self.bytes, self.header.units.checked_add(place)?)?;
        self.string(self.header.files, offset)
    }

    /// Which of the calls inlined into a function is running at an address.
    fn inlined(&self, function: &Function, address: u64) -> Option<u32> {
        if INLINE_INDEX >= self.field(function, self.header.tables)? {
            return None;
        }
        let place = self.header.size + 4 * INLINE_INDEX as usize;
        let table = self.field(function, place)?;
        let index = self.value(function, table, address)?;
        u32::try_from(index).ok()
    }

    /// The name of an inlined function, and where its call is, from the function's entry on.
    fn call(&self, function: &Function, index: u32) -> Option<(String, u32)> {
        let inlined = self.header.inlined?;
        let count = *self
            .bytes
            .get(function.at.checked_add(self.header.size)? - 1)?;
        if INLINE_TREE >= count.into() {
            return None;
        }
        let tables = self
            .field(function, self.header.tables)?
            .checked_add(INLINE_TREE)?;
        let place = usize::try_from(tables).ok()?.checked_mul(4)?;
        let tree = self.field(function, self.header.size.checked_add(place)?)?;
        let record = usize::try_from(index).ok()?.checked_mul(inlined.size)?;
        let record = record.checked_add(usize::try_from(tree).ok()?)?;
        let data = self.function_data.as_deref()?;
        let name = number(data, record.checked_add(inlined.name)?)?;
        let parent = number(data, record.checked_add(inlined.parent)?)?;
        // Names follow one another: what does not begin behind the end of one is no record.
        let before = usize::try_from(name).ok()?.checked_sub(1)?;
        let before = self.bytes.get(self.header.names.checked_add(before)?);
        (before == Some(&0)).then(|| Some((self.name(Some(name))?, parent)))?
    }

    /// The value that a packed table has for an address. No table is at the very beginning.
    fn value(&self, function: &Function, table: u32, address: u64) -> Option<i32> {
        let table = Some(table).filter(|table| *table != 0)?;
        let start = self
            .header
            .values
            .checked_add(usize::try_from(table).ok()?)?;
        let mut packed = self.bytes.get(start..)?.iter();
        let (mut value, mut end) = (-1_i32, function.entry);
        for step in 0..STEPS {
            let difference = packed_number(&mut packed)?;
            if difference == 0 && step > 0 {
                return None;
            }
            // Even numbers go up, odd ones down.
            let sign = -((difference & 1) as i32);
            value = value.wrapping_add((difference >> 1) as i32 ^ sign);
            let length = u64::from(packed_number(&mut packed)?) * self.header.quantum;
            end = end.checked_add(length)?;
            if address < end {
                return Some(value);
            }
        }
        None
    }
}

/// Seven bits from each byte, the lowest first, until one has its highest bit clear.
fn packed_number<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let byte = *bytes.next()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
