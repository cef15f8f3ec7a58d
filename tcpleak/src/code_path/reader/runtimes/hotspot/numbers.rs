//! Numbers that are written in one to five bytes, and the tables of lines that are made of them.

use crate::code_path::reader::memory::Memory;

/// Most bytes of a table of lines that are read.
const TABLE: usize = 1 << 18;
/// Bytes from which on another byte follows.
const HIGH: u8 = 192;
/// Most bytes of a number.
const BYTES: u32 = 5;

/// Reads numbers one after the other.
pub struct Numbers<'a> {
    memory: &'a Memory<'a>,
    address: u64,
    /// How many values of a byte are left out.
    left_out: u8,
    left: usize,
}

impl<'a> Numbers<'a> {
    /// Those from an address on.
    pub fn new(memory: &'a Memory<'a>, address: u64, left_out: u8) -> Self {
        Self {
            memory,
            address,
            left_out,
            left: TABLE,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        let byte = self.memory.byte(self.address)?;
        self.address = self.address.checked_add(1)?;
        Some(byte)
    }

    /// The next number.
    pub fn next(&mut self) -> Option<u32> {
        let mut sum = 0_u32;
        for position in 0..BYTES {
            let byte = self.byte()?;
            let digit = u32::from(byte.checked_sub(self.left_out)?);
            sum = sum.wrapping_add(digit << (6 * position));
            if byte < HIGH {
                break;
            }
        }
        Some(sum)
    }

    /// The next number, with a sign.
    fn next_signed(&mut self) -> Option<u32> {
        let number = self.next()?;
        Some((number >> 1) ^ 0_u32.wrapping_sub(number & 1))
    }

    /// The next row of a table of lines, by what it adds to the last one; none at its end.
    fn row(&mut self) -> Option<(u32, u32)> {
        match self.byte()? {
            0 => None,
            0xff => Some((self.next_signed()?, self.next_signed()?)),
            both => Some((u32::from(both >> 3), u32::from(both & 7))),
        }
    }
}

/// The line that byte code at an index is from, by the table at an address.
pub fn line(memory: &Memory<'_>, table: u64, left_out: u8, index: u32) -> Option<u32> {
    let mut numbers = Numbers::new(memory, table, left_out);
    let (mut from, mut line) = (0_u32, 0_u32);
    let mut best: Option<(u32, u32)> = None;
    while let Some((more_code, more_lines)) = numbers.row() {
        from = from.wrapping_add(more_code);
        line = line.wrapping_add(more_lines);
        // Rows need not ascend.
        if from <= index && best.is_none_or(|(before, _)| before <= from) {
            best = Some((from, line));
        }
    }
    best.map(|(_, line)| line)
        .filter(|line| (1..=0xffff).contains(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code_path::reader::memory::ReadAt;

    /// Bytes at 0x1000, then zeros.
    struct Bytes(&'static [u8]);

    impl ReadAt for Bytes {
        fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
            let page = address == 0x1000;
            if page {
                buffer.fill(0);
                buffer[..self.0.len()].copy_from_slice(self.0);
            }
            page
        }
    }

    fn number(bytes: &'static [u8], left_out: u8) -> Option<u32> {
        let bytes = Bytes(bytes);
        let memory = Memory::new(&bytes);
        Numbers::new(&memory, 0x1000, left_out).next()
    }

    #[test]
    fn numbers_of_one_and_more_bytes_are_read() {
        assert_eq!(number(&[7], 0), Some(7));
        assert_eq!(number(&[191], 0), Some(191));
        assert_eq!(number(&[192, 0], 0), Some(192));
        assert_eq!(number(&[193, 2], 0), Some(193 + 2 * 64));
        assert_eq!(number(&[8], 1), Some(7));
        assert_eq!(number(&[191], 1), Some(190));
        assert_eq!(number(&[192, 2], 1), Some(191 + 64));
        assert_eq!(number(&[0], 1), None, "it is left out");
    }

    #[test]
    fn a_line_is_that_of_the_last_row_before() {
        // From 0 on line 10, which takes the long form, from 4 on line 11, from 9 on line 9.
        let bytes = Bytes(&[0xff, 0, 20, 4 << 3 | 1, 0xff, 10, 3, 0]);
        let memory = Memory::new(&bytes);
        let line = |index| line(&memory, 0x1000, 0, index);
        assert_eq!(line(0), Some(10));
        assert_eq!(line(3), Some(10));
        assert_eq!(line(4), Some(11));
        assert_eq!(line(8), Some(11));
        assert_eq!(line(900), Some(9));
    }

    #[test]
    fn a_table_without_end_has_no_line() {
        let memory = Memory::new(&());
        assert_eq!(line(&memory, 0x1000, 0, 0), None);
    }
}
