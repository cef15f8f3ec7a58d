//! The copied part of a thread's stack.

/// How far above the copy a stack is taken to reach: as far as a thread's stack may grow by default.
const REACH: u64 = 8 << 20;

/// Bytes copied from a stack, and whether more of them were asked for than were copied.
pub struct Stack<'a> {
    start: u64,
    bytes: &'a [u8],
    too_short: bool,
    depth: usize,
}

impl<'a> Stack<'a> {
    /// Bytes that begin at the stack pointer.
    pub fn new(start: u64, bytes: &'a [u8]) -> Self {
        Self {
            start,
            bytes,
            too_short: false,
            depth: 0,
        }
    }

    /// The word at an address.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        self.read(address, 8)
    }

    /// The number of `size` bytes at an address.
    pub fn read(&mut self, address: u64, size: u8) -> Option<u64> {
        let found = self.copied(address, size);
        if found.is_none() {
            self.too_short |= self.lies_above(address, size);
        }
        found
    }

    /// The word at an address, where it does not matter if it was copied.
    pub fn copied_word(&mut self, address: u64) -> Option<u64> {
        self.copied(address, 8)
    }

    /// Whether bytes were asked for that lie on the stack but were not copied.
    pub fn too_short(&self) -> bool {
        self.too_short
    }

    /// How many bytes, from the first on, hold all that was read.
    pub fn depth(&self) -> u32 {
        u32::try_from(self.depth).unwrap_or(u32::MAX)
    }

    fn copied(&mut self, address: u64, size: u8) -> Option<u64> {
        let from = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(size.into())?;
        let bytes = self.bytes.get(from..to)?;
        self.depth = self.depth.max(to);
        let mut word = [0; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    fn lies_above(&self, address: u64, size: u8) -> bool {
        let end = self.start.saturating_add(self.bytes.len() as u64);
        let last = address.saturating_add(size.into());
        address >= self.start && last > end && last - end <= REACH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copied_bytes_are_read() {
        let bytes: Vec<u8> = (1..=16).collect();
        let mut stack = Stack::new(0x1000, &bytes);
        assert_eq!(stack.word(0x1008), Some(0x100f_0e0d_0c0b_0a09));
        assert_eq!(stack.read(0x1000, 2), Some(0x0201));
        assert_eq!(stack.word(0xff8), None, "below the stack pointer");
        assert_eq!(stack.word(0x1000 + (1 << 40)), None, "far away");
        assert_eq!(stack.word(u64::MAX), None);
        assert!(!stack.too_short());
        assert_eq!(stack.depth(), 16);
        assert_eq!(stack.word(0x1009), None);
        assert!(stack.too_short());
    }
}
