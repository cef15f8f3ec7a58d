//! From an instruction sequence and an instruction in it to a name, a file and a line.

use super::{
    super::ManagedFrame,
    LANGUAGE,
    layout::{
        BODY_FIRST_LINE, BODY_INSTRUCTIONS, BODY_LABEL, BODY_PATH, BODY_WORDS, CODE_BODY, Layout,
    },
};
use crate::code_path::reader::memory::Memory;

/// Most bytes of a name or path.
const TEXT: usize = 1024;
/// Most words of instructions of a method: more is no method.
const WORDS: u32 = 1 << 24;
/// What kind of object it is, in its first word.
const KIND: u64 = 0x1f;
const STRING: u64 = 0x05;
const ARRAY: u64 = 0x07;
/// A string whose text lies elsewhere; an array whose elements lie in itself.
const SECOND_FLAG: u64 = 1 << 13;
/// Where strings before 3.2 that hold their text have its length.
const SHORT_LENGTH: u32 = 14;

/// The frame of a method or block that is at an instruction; none when there is no such thing.
pub fn frame(layout: &Layout, code: u64, pc: u64, memory: &Memory<'_>) -> Option<ManagedFrame> {
    let body = memory.word(code.checked_add(CODE_BODY)?)?;
    let at = |offset: u64| body.checked_add(offset);
    let first = memory.word(at(BODY_INSTRUCTIONS)?)?;
    let words = memory
        .half(at(BODY_WORDS)?)
        .filter(|words| *words <= WORDS)?;
    let place = pc.checked_sub(first).filter(|bytes| bytes % 8 == 0)? / 8;
    if place > u64::from(words) {
        return None;
    }
    let file = path(layout, memory.word(at(BODY_PATH)?)?, memory)?;
    let function = text(layout, memory.word(at(BODY_LABEL)?)?, memory);
    // The one that runs is the one before the next, but at the start there is none before.
    let line = line(layout, body, place.saturating_sub(1), memory)
        .or_else(|| first_line(layout, memory.word(at(BODY_FIRST_LINE)?)?));
    // The frame at the bottom of a stack has code that is on no line.
    line?;
    Some(ManagedFrame {
        language: LANGUAGE.to_owned(),
        function,
        own: is_own(&file),
        file: Some(file),
        line,
        inlined: false,
    })
}

/// Whether a file is the program's own: not of Ruby itself, its libraries, or a gem.
fn is_own(file: &str) -> bool {
    let foreign = ["/lib/ruby/", "/gems/", "<internal:"];
    !foreign.iter().any(|part| file.contains(part))
}

/// The file of a method: a string, or a pair of the path as it was given and the real one.
fn path(layout: &Layout, object: u64, memory: &Memory<'_>) -> Option<String> {
    let flags = memory.word(object)?;
    match flags & KIND {
        ARRAY if flags & SECOND_FLAG != 0 => {
            let element = |number: u64| memory.word(object.checked_add(16 + 8 * number)?);
            let real = element(1).and_then(|path| text(layout, path, memory));
            real.or_else(|| text(layout, element(0)?, memory))
        }
        ARRAY => {
            let elements = memory.word(object.checked_add(32)?)?;
            text(layout, memory.word(elements)?, memory)
        }
        _ => text(layout, object, memory),
    }
}

/// The text of a string.
fn text(layout: &Layout, object: u64, memory: &Memory<'_>) -> Option<String> {
    let flags = memory.word(object)?;
    if flags & KIND != STRING {
        return None;
    }
    let elsewhere = flags & SECOND_FLAG != 0;
    let word = |offset: u64| memory.word(object.checked_add(offset)?);
    let (start, length) = match (layout.strings_have_length, elsewhere) {
        (true | false, true) => (word(24)?, word(16)?),
        (true, false) => (object.checked_add(24)?, word(16)?),
        (false, false) => (object.checked_add(16)?, flags >> SHORT_LENGTH & 0x1f),
    };
    let bytes = memory.bytes(start, usize::try_from(length).ok()?, TEXT)?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}

fn first_line(layout: &Layout, word: u64) -> Option<u32> {
    let number = match layout.first_line_is_tagged {
        true => word >> 1,
        false => word & u64::from(u32::MAX),
    };
    u32::try_from(number).ok().filter(|line| *line > 0)
}

/// The line of the instruction at this place, counted in words.
fn line(layout: &Layout, body: u64, place: u64, memory: &Memory<'_>) -> Option<u32> {
    let lines = body.checked_add(layout.body_lines)?;
    let entries = memory.word(lines)?;
    let number = memory.half(lines.checked_add(16)?)?;
    let entry = match number {
        0 => return None,
        1 => 0,
        _ => {
            let index = memory.word(lines.checked_add(24)?)?;
            rank(index, place, memory)?.checked_sub(1)?
        }
    };
    if entry >= u64::from(number) {
        return None;
    }
    let line = memory.half(entries.checked_add(entry * layout.line_bytes)?)?;
    Some(line).filter(|line| *line > 0 && *line < 1 << 31)
}

/// How many entries begin at or before a place, from an index that has one bit for each place.
///
/// It begins with six words of nine 7-bit counts each. What lies behind is in blocks of 512 places: a
/// count of all before the block, a word with the counts of seven of its eight parts, and the bits.
fn rank(index: u64, place: u64, memory: &Memory<'_>) -> Option<u64> {
    const COUNTED: u64 = 54;
    const BLOCK_BYTES: u64 = 8 + 8 + 64;
    if place < COUNTED {
        let word = memory.word(index.checked_add(place / 9 * 8)?)?;
        return Some(word >> (place % 9 * 7) & 0x7f);
    }
    let behind = place - COUNTED;
    let block = index.checked_add(COUNTED / 9 * 8 + behind / 512 * BLOCK_BYTES)?;
    let before = u64::from(memory.half(block)?);
    let part = behind % 512 / 64;
    let in_parts = match part {
        0 => 0,
        part => memory.word(block.checked_add(8)?)? >> ((part - 1) * 9) & 0x1ff,
    };
    let bits = memory.word(block.checked_add(16 + part * 8)?)?;
    let in_bits = (bits << (63 - behind % 64)).count_ones();
    Some(before + in_parts + u64::from(in_bits))
}
