//! The text of the address that a connection leads to.

use std::ops::Range;

use crate::code_path::reader::memory::Memory;

/// Bytes of such a text.
const BYTES: Range<u64> = 3..300;
/// Most words of a dialler that are looked at: what it has been told differs from version to version, and so
/// does where its text lies.
const DIALLER_WORDS: u64 = 40;

/// A text by its place. Two that are alike are still two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    pub start: u64,
    pub length: u64,
}

impl Text {
    /// The one whose place is kept at `offset` behind `base`.
    pub fn at(base: u64, offset: u64, memory: &Memory<'_>) -> Option<Self> {
        let at = base.checked_add(offset)?;
        Some(Self {
            start: memory.word(at)?,
            length: memory.word(at.checked_add(8)?)?,
        })
    }

    /// The address of a dialler: it comes behind the name of the network.
    pub fn of_dialler(dialler: u64, memory: &Memory<'_>) -> Option<Self> {
        (0..DIALLER_WORDS).find_map(|index| {
            let network = Self::at(dialler, index * 8, memory)?;
            let name = network.bytes(3..5, memory)?;
            let is_network = matches!(&name[..], b"tcp" | b"tcp4" | b"tcp6");
            let address = is_network.then(|| Self::at(dialler, index * 8 + 16, memory));
            address.flatten()
        })
    }

    /// Whether it is an address and a port.
    pub fn is_address(self, memory: &Memory<'_>) -> bool {
        let digits = |port: &[u8]| !port.is_empty() && port.iter().all(u8::is_ascii_digit);
        self.bytes(BYTES, memory).is_some_and(|bytes| {
            let port = bytes.rsplit(|byte| *byte == b':').next();
            bytes.contains(&b':') && port.is_some_and(digits)
        })
    }

    /// Its bytes, if there are so many.
    fn bytes(self, many: Range<u64>, memory: &Memory<'_>) -> Option<Vec<u8>> {
        let length = usize::try_from(self.length).ok()?;
        many.contains(&self.length)
            .then(|| memory.bytes(self.start, length, length))?
    }
}
