//! Bytes of a file that several owners share without copying them.

use std::{fmt, ops::Deref, ops::Range, sync::Arc};

use memmap2::Mmap;

/// Bytes that stay as long as anybody refers to them. A clone refers to the same bytes.
#[derive(Clone)]
pub struct FileBytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapped(Mmap),
    Memory(Vec<u8>),
    Static(&'static [u8]),
}

impl Owner {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

impl FileBytes {
    fn new(owner: Owner) -> Self {
        let range = 0..owner.bytes().len();
        Self {
            owner: Arc::new(owner),
            range,
        }
    }

    /// Whether these are bytes of the same file or memory.
    #[cfg(test)]
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// A part of these bytes; none when they do not hold it whole.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        Some(Self {
            owner: self.owner.clone(),
            range: start.checked_add(range.start)?..start.checked_add(range.end)?,
        })
    }

    /// A part of these bytes, by where it begins and how long it is.
    pub fn part(&self, offset: u64, size: u64) -> Option<Self> {
        let end = offset.checked_add(size)?;
        self.slice(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.owner
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FileBytes({:?})", self.range)
    }
}

impl Default for FileBytes {
    fn default() -> Self {
        Self::new(Owner::Static(&[]))
    }
}

impl From<Mmap> for FileBytes {
    fn from(map: Mmap) -> Self {
        Self::new(Owner::Mapped(map))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Owner::Memory(bytes))
    }
}

impl From<&'static [u8]> for FileBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(Owner::Static(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_lies_where_it_lay_in_the_whole() {
        let whole = FileBytes::from((0..100).collect::<Vec<u8>>());
        let part = whole.slice(10..50).unwrap().part(5, 3).unwrap();
        assert!(part.shares_with(&whole));
        drop(whole);
        assert_eq!(*part, [15, 16, 17]);
    }

    #[test]
    fn a_part_that_is_not_there_whole_is_none() {
        let bytes = FileBytes::from(&b"0123456789"[..]).slice(2..8).unwrap();
        assert!(bytes.slice(0..6).is_some());
        assert!(bytes.slice(0..7).is_none());
        #[expect(clippy::reversed_empty_ranges)]
        let backwards = 4..3;
        assert!(bytes.slice(backwards).is_none());
        assert!(bytes.part(u64::MAX, 2).is_none());
    }
}
