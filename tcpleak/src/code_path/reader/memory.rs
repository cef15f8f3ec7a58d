//! The memory of a process that is looked at: read in bounds, and never trusted.
//!
//! It goes on running meanwhile, so two reads may not fit together. Within one request what was read
//! once stays as it was.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
};

/// Bytes that are read at once.
const PAGE: usize = 4096;
/// Most pages that are read for one request.
const PAGES: usize = 4096;
/// Most reads from pages for one request: whoever is looked at may have made a ring of pointers.
const READS: u32 = 1 << 20;

/// Where memory is read from.
pub trait ReadAt {
    /// Fills the buffer with what is at an address. False when that is not all there.
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool;
}

/// `/proc/PID/mem`. It belongs to one image of one process: once that is gone, nothing is read.
impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        self.read_exact_at(buffer, address).is_ok()
    }
}

/// A process without memory, or one that may not be looked at.
impl ReadAt for () {
    fn read_at(&self, _buffer: &mut [u8], _address: u64) -> bool {
        false
    }
}

/// The memory of a process, for one request.
pub struct Memory<'a> {
    source: &'a dyn ReadAt,
    /// None for a page that is not there.
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
    reads_left: Cell<u32>,
}

impl<'a> Memory<'a> {
    /// Memory that is read from there.
    pub fn new(source: &'a dyn ReadAt) -> Self {
        Self {
            source,
            pages: RefCell::default(),
            reads_left: Cell::new(READS),
        }
    }

    /// The same memory as it is now. The pages that were read count for each by itself.
    pub fn afresh(&self) -> Self {
        Self::new(self.source)
    }

    /// Fills a buffer; none when it is not all there, or when too much has been read.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let mut at = address;
        let mut rest = buffer;
        while !rest.is_empty() {
            let left = self.reads_left.get().checked_sub(1)?;
            self.reads_left.set(left);
            let inside = (at % PAGE as u64) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE - inside));
            self.with_page(at - inside as u64, |page| {
                now.copy_from_slice(page.get(inside..inside + now.len())?);
                Some(())
            })?;
            at = at.checked_add(now.len() as u64)?;
            rest = later;
        }
        Some(())
    }

    fn with_page<T>(&self, start: u64, use_it: impl FnOnce(&[u8; PAGE]) -> Option<T>) -> Option<T> {
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= PAGES && !pages.contains_key(&start) {
            return None;
        }
        let page = pages.entry(start).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            self.source.read_at(&mut page[..], start).then_some(page)
        });
        use_it(page.as_deref()?)
    }

    /// The 8-byte number at an address.
    pub fn word(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_le_bytes)
    }

    /// The 4-byte number at an address.
    pub fn half(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_le_bytes)
    }

    /// The 2-byte number at an address.
    pub fn quarter(&self, address: u64) -> Option<u16> {
        self.array(address).map(u16::from_le_bytes)
    }

    /// The byte at an address.
    pub fn byte(&self, address: u64) -> Option<u8> {
        self.array(address).map(|[byte]| byte)
    }

    /// So many bytes; none for more than `most`.
    pub fn bytes(&self, address: u64, length: usize, most: usize) -> Option<Vec<u8>> {
        if length > most {
            return None;
        }
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// The bytes up to the first zero; none when there is none among the first `most`.
    pub fn bytes_to_zero(&self, address: u64, most: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < most {
            match self.byte(address.checked_add(bytes.len() as u64)?)? {
                0 => return Some(bytes),
                byte => bytes.push(byte),
            }
        }
        None
    }

    fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages of numbers at 0x1000, and nothing else.
    struct TwoPages;

    impl ReadAt for TwoPages {
        fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
            for (index, byte) in buffer.iter_mut().enumerate() {
                match address + index as u64 {
                    at @ 0x1000..0x3000 => *byte = (at % 251) as u8,
                    _ => return false,
                }
            }
            true
        }
    }

    #[test]
    fn what_lies_across_two_pages_is_read() {
        let memory = Memory::new(&TwoPages);
        let expected: Vec<u8> = (0x1ffe..0x2006_u64).map(|at| (at % 251) as u8).collect();
        assert_eq!(memory.bytes(0x1ffe, 8, 8), Some(expected.clone()));
        let word = u64::from_le_bytes(expected.try_into().unwrap());
        assert_eq!(memory.word(0x1ffe), Some(word));
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let memory = Memory::new(&TwoPages);
        for address in [0, 0xfff, 0x2ffc, u64::MAX, u64::MAX - 7] {
            assert_eq!(memory.word(address), None, "{address:x}");
        }
        assert_eq!(memory.bytes(0x1000, 9, 8), None, "more than is wanted");
        assert_eq!(Memory::new(&()).byte(0x1000), None);
    }

    #[test]
    fn text_ends_at_its_zero() {
        let memory = Memory::new(&TwoPages);
        let start = 0x1000_u64.next_multiple_of(251) - 3;
        assert_eq!(memory.bytes_to_zero(start, 8), Some(vec![248, 249, 250]));
        assert_eq!(memory.bytes_to_zero(start, 3), None, "it is too long");
    }

    #[test]
    fn reading_has_an_end() {
        let memory = Memory::new(&TwoPages);
        let read = (0..=READS).take_while(|_| memory.byte(0x1000).is_some());
        assert_eq!(read.count(), READS as usize);
    }
}
