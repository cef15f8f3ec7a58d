//! Objects on V8's heap. They move and are freed while they are looked at, so each is taken for what
//! it should be only when its map says so.

use super::layout::Layout;
use crate::code_path::reader::memory::Memory;

/// What is added to the address of an object in a pointer to it.
const TAG: u64 = 1;
/// The bits that tell such a pointer.
const TAG_MASK: u64 = 3;
/// Most parts of a text that is put together from others.
const PARTS: usize = 64;

/// An object: its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object(u64);

/// The heap.
pub struct Heap<'a> {
    pub layout: &'a Layout,
    pub memory: &'a Memory<'a>,
}

/// A part of a text.
struct Part {
    text: Object,
    from: usize,
    length: usize,
}

impl Object {
    /// The object that a word points to; none for a number or anything else.
    pub fn of(word: u64) -> Option<Self> {
        (word & TAG_MASK == TAG).then_some(Self(word & !TAG_MASK))
    }

    /// Where a member lies.
    pub fn at(self, offset: u64) -> Option<u64> {
        self.0.checked_add(offset)
    }
}

impl Heap<'_> {
    /// A member of an object, as it is.
    pub fn word(&self, object: Object, offset: u64) -> Option<u64> {
        self.memory.word(object.at(offset)?)
    }

    /// A member that is an object.
    pub fn member(&self, object: Object, offset: u64) -> Option<Object> {
        Object::of(self.word(object, offset)?)
    }

    /// The number in a word; none when it holds none.
    pub fn number_in(&self, word: u64) -> Option<i64> {
        (word & TAG == 0)
            .then_some((word as i64) >> self.layout.smi_shift.saturating_add(1).min(63))
    }

    /// A member that is a number.
    pub fn number(&self, object: Object, offset: u64) -> Option<i64> {
        self.number_in(self.word(object, offset)?)
    }

    /// What kind of object it is; none when it is no object.
    pub fn kind(&self, object: Object) -> Option<u16> {
        let map = self.member(object, 0)?;
        let map_of_map = self.member(map, 0)?;
        let kind = |map: Object| self.memory.quarter(map.at(self.layout.map_instance_type)?);
        (kind(map_of_map)? == self.layout.type_map).then(|| kind(map))?
    }

    /// The object if it is of this kind.
    pub fn is(&self, object: Object, kind: u16) -> Option<Object> {
        (self.kind(object)? == kind).then_some(object)
    }

    /// Whether an object is a text.
    pub fn is_text(&self, object: Object) -> bool {
        self.kind(object)
            .is_some_and(|kind| kind < self.layout.type_first_nonstring)
    }

    /// A text, as far as it is not longer than `most` letters.
    pub fn text(&self, object: Object, most: usize) -> Option<String> {
        let length = self.length(object)?;
        (length <= most).then(|| self.beginning(object, length))?
    }

    /// How many letters a text has.
    pub fn length(&self, text: Object) -> Option<usize> {
        if !self.is_text(text) {
            return None;
        }
        let length = self.memory.half(text.at(self.layout.string_length)?)?;
        usize::try_from(length).ok()
    }

    /// The first letters of a text.
    pub fn beginning(&self, text: Object, length: usize) -> Option<String> {
        let mut letters = String::new();
        let mut parts = vec![Part {
            text,
            from: 0,
            length,
        }];
        for _ in 0..PARTS {
            let Some(part) = parts.pop() else {
                return Some(letters);
            };
            self.take_apart(&part, &mut parts, &mut letters)?;
        }
        None
    }

    /// Adds the letters of a part, or the parts that it is put together from, the last one first.
    fn take_apart(&self, part: &Part, parts: &mut Vec<Part>, letters: &mut String) -> Option<()> {
        let layout = self.layout;
        let kind = self.kind(part.text)?;
        let whole = self.length(part.text)?;
        if part.from.checked_add(part.length)? > whole {
            return None;
        }
        let representation = kind & layout.string_representation_mask;
        if representation == 0 {
            letters.push_str(&self.letters(part, kind & layout.string_encoding_mask != 0)?);
        } else if representation == layout.thin_tag {
            let text = self.member(part.text, layout.thin_actual)?;
            parts.push(Part { text, ..*part });
        } else if representation == layout.sliced_tag {
            let text = self.member(part.text, layout.sliced_parent)?;
            let from = usize::try_from(self.number(part.text, layout.sliced_offset)?).ok()?;
            let from = from.checked_add(part.from)?;
            parts.push(Part {
                text,
                from,
                length: part.length,
            });
        } else if representation == layout.cons_tag {
            let first = self.member(part.text, layout.cons_first)?;
            let second = self.member(part.text, layout.cons_second)?;
            let before = self.length(first)?;
            let of_first = part.length.min(before.saturating_sub(part.from));
            let of_second = part.length - of_first;
            if of_second > 0 {
                parts.push(Part {
                    text: second,
                    from: part.from.saturating_sub(before),
                    length: of_second,
                });
            }
            if of_first > 0 {
                parts.push(Part {
                    text: first,
                    from: part.from,
                    length: of_first,
                });
            }
        } else {
            // The letters of an external text are elsewhere: those are V8's and Node's own sources.
            return None;
        }
        Some(())
    }

    fn letters(&self, part: &Part, one_byte: bool) -> Option<String> {
        let (first, size) = match one_byte {
            true => (self.layout.one_byte_characters, 1),
            false => (self.layout.two_byte_characters, 2),
        };
        let start = part
            .text
            .at(first)?
            .checked_add((part.from * size) as u64)?;
        let bytes = self
            .memory
            .bytes(start, part.length * size, super::TEXT_BYTES)?;
        Some(match one_byte {
            true => bytes.iter().map(|byte| char::from(*byte)).collect(),
            false => {
                let units = bytes.as_chunks().0.iter();
                let units: Vec<u16> = units.map(|unit| u16::from_le_bytes(*unit)).collect();
                String::from_utf16_lossy(&units)
            }
        })
    }
}
