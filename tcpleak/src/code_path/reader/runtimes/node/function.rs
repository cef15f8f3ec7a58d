//! What a function is called, and where in which file it is.

use super::{
    TEXT_BYTES,
    heap::{Heap, Object},
};

/// Most letters of a name, and of the path of a file.
const NAME: usize = 512;
const PATH: usize = 4096;
/// Size of a word.
const WORD: u64 = 8;
/// Most words behind the variables of a scope that are looked at.
const SCOPE_WORDS: u64 = 8;
/// Most variables of a scope.
const VARIABLES: u64 = 4096;
/// In an array of bytes: the first one.
const BYTES: u64 = 16;
/// Most steps through a table of positions.
const STEPS: usize = 1 << 16;

/// A function, as its shared description.
pub struct Function<'a> {
    heap: &'a Heap<'a>,
    shared: Object,
}

/// What a scope tells of its function.
#[derive(Default)]
struct Scope {
    name: Option<Object>,
    start: Option<usize>,
}

impl<'a> Function<'a> {
    /// The function that a word of a frame is; none when it is none.
    pub fn of(heap: &'a Heap<'a>, word: u64) -> Option<Self> {
        let closure = Object::of(word)?;
        // There are several kinds of functions. What they share is of one kind.
        let shared = heap.member(closure, heap.layout.function_shared)?;
        heap.kind(closure)?;
        let shared = heap.is(shared, heap.layout.type_shared)?;
        Some(Self { heap, shared })
    }

    /// What it is called.
    pub fn name(&self) -> Option<String> {
        let heap = self.heap;
        let holder = heap.member(self.shared, heap.layout.shared_name_or_scope);
        let by_holder = holder.and_then(|holder| match heap.is_text(holder) {
            true => Some(holder),
            false => self.scope().and_then(|scope| scope.name),
        });
        let name = by_holder.and_then(|name| heap.text(name, NAME));
        name.filter(|name| !name.is_empty())
    }

    /// The file that it is from; none for what is built in.
    pub fn file(&self) -> Option<String> {
        let name = self
            .heap
            .member(self.script()?, self.heap.layout.script_name)?;
        self.heap.text(name, PATH)
    }

    /// The line that it is at, in a frame with this array of bytecode and this place in it; else the one
    /// that it begins at.
    pub fn line(&self, bytecode: Option<(u64, u64)>) -> Option<u32> {
        let position = bytecode
            .and_then(|(array, place)| self.position(array, place))
            .or_else(|| self.scope()?.start)?;
        let source = self
            .heap
            .member(self.script()?, self.heap.layout.script_source)?;
        if position > TEXT_BYTES || position > self.heap.length(source)? {
            return None;
        }
        let before = self.heap.beginning(source, position)?;
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        u32::try_from(lines).ok()?.checked_add(1)
    }

    fn script(&self) -> Option<Object> {
        let script = self
            .heap
            .member(self.shared, self.heap.layout.shared_script)?;
        self.heap.is(script, self.heap.layout.type_script)
    }

    /// Behind the variables of a scope stand, each only if there is one: the function's name and a number,
    /// the name that was inferred for it, and where in the source it begins and ends, unless that stands
    /// before the variables.
    fn scope(&self) -> Option<Scope> {
        let (heap, layout) = (self.heap, self.heap.layout);
        let scope = heap.member(self.shared, layout.shared_name_or_scope)?;
        let scope = heap.is(scope, layout.type_scope)?;
        let word = |index: u64| heap.word(scope, index.checked_add(1)?.checked_mul(WORD)?);
        let locals = u64::try_from(heap.number_in(word(layout.scope_locals)?)?).ok()?;
        if locals > VARIABLES {
            return None;
        }
        let first = layout.scope_variables.checked_add(2 * locals)?;
        let mut found = Scope::default();
        let mut numbers: Vec<i64> = Vec::new();
        for index in first..first.checked_add(SCOPE_WORDS)? {
            let Some(word) = word(index) else {
                break;
            };
            if let Some(number) = heap.number_in(word) {
                numbers.push(number);
            } else if numbers.len() >= 2 {
                break;
            } else if let Some(text) = Object::of(word).filter(|text| heap.is_text(*text)) {
                let is_empty = heap.length(text) == Some(0);
                found.name = found.name.or(Some(text).filter(|_| !is_empty));
                numbers.clear();
            }
        }
        if let Some(start) = layout.scope_start() {
            let number = |index: u64| heap.number_in(word(index)?);
            numbers = vec![number(start)?, number(start + 1)?];
        }
        if let [.., start, end] = *numbers
            && 0 <= start
            && start < end
        {
            found.start = usize::try_from(start).ok();
        }
        Some(found)
    }

    /// The place in the source that a place in bytecode is from. V8 leaves the table out for functions
    /// that were compiled when first called, until an error needs it.
    fn position(&self, array: u64, place: u64) -> Option<usize> {
        let (heap, layout) = (self.heap, self.heap.layout);
        let array = heap.is(Object::of(array)?, layout.type_bytecode)?;
        let length = u64::try_from(heap.number(array, layout.array_length)?).ok()?;
        // The place counts from the tagged pointer.
        let place = u64::try_from(heap.number_in(place)?).ok()?;
        let place = place.checked_sub(layout.bytecode_data - 1)?;
        if place >= length {
            return None;
        }
        let table = heap.is(
            heap.member(array, layout.positions())?,
            layout.type_positions(),
        )?;
        let size = usize::try_from(heap.number(table, layout.array_length)?).ok()?;
        let bytes = heap.memory.bytes(table.at(BYTES)?, size, STEPS)?;
        position_at(&bytes, place)
    }
}

/// The position in the source for a place in the bytecode: the last one at or before it. The table has
/// differences, two for each entry, the first one negative and less by one where it is of no statement.
fn position_at(table: &[u8], place: u64) -> Option<usize> {
    let mut bytes = table.iter();
    let (mut at, mut position) = (0_i64, 0_i64);
    let mut found = None;
    while let Some(ahead) = signed(&mut bytes) {
        let ahead = match ahead {
            0.. => ahead,
            _ => -(ahead + 1),
        };
        at = at.checked_add(ahead)?;
        if u64::try_from(at).ok()? > place {
            break;
        }
        position = position.checked_add(signed(&mut bytes)?)?;
        found = offset_in(position);
    }
    found
}

/// The place in the source that a position stands for: behind a bit that says whether it is in another
/// language's source, and counted from one.
fn offset_in(position: i64) -> Option<usize> {
    let offset = (position >> 1) & 0x3fff_ffff;
    let is_external = position & 1 != 0;
    usize::try_from(offset.checked_sub(1)?)
        .ok()
        .filter(|_| !is_external)
}

/// Seven bits from each byte, the lowest first, until one has its highest bit clear; the lowest bit of
/// the whole is the sign.
fn signed<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let sign = -((number & 1) as i64);
            return Some((number >> 1) as i64 ^ sign);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_that_of_the_last_entry_before_a_place() {
        // Statement at 0: offset 10. Expression at 4: offset 25. Statement at 9: offset 3.
        let table = [0, 44, (2 * 4) + 1, 60, 10, 87];
        assert_eq!(position_at(&table, 0), Some(10));
        assert_eq!(position_at(&table, 3), Some(10));
        assert_eq!(position_at(&table, 4), Some(25));
        assert_eq!(position_at(&table, 100), Some(3));
        assert_eq!(position_at(&[], 0), None);
        assert_eq!(position_at(&[0xff; 32], 0), None, "a number without an end");
    }
}
