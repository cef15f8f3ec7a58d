//! Which file the code at an address is from.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::image::Image;

/// The executable mappings of a process.
#[derive(Default)]
pub struct Code {
    /// By first address; they do not overlap.
    mappings: BTreeMap<u64, Mapping>,
    highest: u64,
}

/// A range of code.
struct Mapping {
    end: u64,
    image: Option<Mapped>,
}

/// A file as it is mapped.
#[derive(Clone)]
pub struct Mapped {
    /// The file.
    pub image: Arc<Image>,
    /// What is taken from an address to get the one that the file itself uses.
    bias: u64,
}

impl Mapped {
    /// A mapping of this part of a file at an address; none when the file has no code there.
    pub fn new(addresses: &Range<u64>, file_offset: u64, image: &Arc<Image>) -> Option<Self> {
        let size = addresses.end.saturating_sub(addresses.start);
        let own = image.address_of_mapping(file_offset, size)?;
        Some(Self {
            image: image.clone(),
            bias: addresses.start.wrapping_sub(own),
        })
    }

    /// What is taken from an address to get the one that the file itself uses.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// An address as the file itself counts.
    pub fn own_address(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }
}

impl Code {
    /// Adds a range of code, in place of what was there before.
    pub fn add(&mut self, addresses: Range<u64>, image: Option<Mapped>) {
        let Range { start, end } = addresses;
        if start >= end {
            return;
        }
        while let Some((&before, _)) =
            (self.mappings.range(..end).next_back()).filter(|(_, mapping)| mapping.end > start)
        {
            self.mappings.remove(&before);
        }
        self.mappings.insert(start, Mapping { end, image });
        self.highest = self.highest.max(end);
    }

    /// Whether there is code at an address.
    pub fn contains(&self, address: u64) -> bool {
        self.find(address).is_some()
    }

    /// The file whose code is at an address; none for code that is in no file.
    pub fn mapped(&self, address: u64) -> Option<&Mapped> {
        self.find(address)?.image.as_ref()
    }

    /// The files that have code, by ascending address; one for each mapping.
    pub fn all_mapped(&self) -> impl Iterator<Item = &Mapped> {
        self.mappings
            .values()
            .filter_map(|mapping| mapping.image.as_ref())
    }

    /// The end of all code.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    fn find(&self, address: u64) -> Option<&Mapping> {
        let (_, mapping) = self.mappings.range(..=address).next_back()?;
        (address < mapping.end).then_some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_code_takes_the_place_of_those_it_overlaps() {
        let mut code = Code::default();
        code.add(0x1000..0x2000, None);
        code.add(0x2000..0x3000, None);
        code.add(0x4000..0x5000, None);
        code.add(0x2800..0x4800, None);
        let known = |address| code.contains(address);
        assert!(known(0x1000) && known(0x1fff));
        assert!(!known(0xfff) && !known(0x2000), "the second one is gone");
        assert!(known(0x2800) && known(0x47ff) && !known(0x4800));
    }

    #[test]
    fn a_range_of_nothing_changes_nothing() {
        let mut code = Code::default();
        code.add(0x1000..0x2000, None);
        code.add(0x1800..0x1800, None);
        assert!(code.contains(0x1800));
    }
}
