//! Go's list of all goroutines.
//!
//! It is a slice, in a variable that only symbols would name. But it can be told from all others: it leads to
//! goroutines, and each of those has its own address in it.

use std::ops::Range;

use super::waiting::{ITSELF, STACK_END};
use crate::code_path::reader::memory::Memory;

/// Most bytes of variables that are searched.
const SEARCHED_BYTES: u64 = 8 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 4096;
/// Most goroutines that are believed.
const MOST: u64 = 1 << 28;

/// Where the list begins: the address of its first entry, then how many there are.
pub fn find(variables: &[Range<u64>], memory: &Memory<'_>) -> Option<u64> {
    let mut left = SEARCHED_BYTES;
    variables.iter().find_map(|range| {
        let start = range.start.checked_next_multiple_of(8)?;
        let end = range.end.min(start.saturating_add(left));
        left -= end.saturating_sub(start);
        let mut chunks = (start..end).step_by(CHUNK);
        chunks.find_map(|start| find_in(start, end, memory))
    })
}

fn find_in(start: u64, end: u64, memory: &Memory<'_>) -> Option<u64> {
    let length = usize::try_from(end - start).ok()?.min(CHUNK);
    let bytes = memory.bytes(start, length, length)?;
    let words = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word));
    let mut places = (start..).step_by(8).zip(words);
    places.find_map(|(at, entries)| is_list(at, entries, memory)?.then_some(at))
}

/// Whether a slice that begins at a place, and whose entries lie there, is the list.
fn is_list(at: u64, entries: u64, memory: &Memory<'_>) -> Option<bool> {
    if entries == 0 || !entries.is_multiple_of(8) {
        return Some(false);
    }
    let number = memory.word(at.checked_add(8)?)?;
    let room = memory.word(at.checked_add(16)?)?;
    if number == 0 || number > room || room > MOST {
        return Some(false);
    }
    let first = memory.word(entries)?;
    let stack = memory.word(first)?..memory.word(first.checked_add(STACK_END)?)?;
    let itself = memory.word(first.checked_add(ITSELF)?)?;
    Some(itself == first && !stack.is_empty())
}
