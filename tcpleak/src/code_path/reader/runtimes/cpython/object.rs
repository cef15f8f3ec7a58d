//! Python objects: text and bytes.

use super::{Memory, layout::Layout};

/// Most characters of a text that are read.
const CHARACTERS: u64 = 4096;
/// Offsets in every object that has a size.
const LENGTH: u64 = 16;
const STATE: u64 = 32;
const BYTES: u64 = 32;

/// Reads a text, its first characters when it is a long one. None when there is no text at the address.
pub fn text(layout: &Layout, address: u64, memory: &Memory<'_>) -> Option<String> {
    let length = memory.word(address.checked_add(LENGTH)?)?.min(CHARACTERS);
    let (kind, ascii) = shape(memory.half(address.checked_add(STATE)?)?)?;
    let [ascii_size, other_size] = layout.text;
    let start = address.checked_add(if ascii { ascii_size } else { other_size })?;
    let size = usize::try_from(length.checked_mul(kind)?).ok()?;
    let bytes = memory.bytes(start, size, size)?;
    let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some(match kind {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => (bytes.as_chunks().0.iter())
            .map(|unit| character(u16::from_le_bytes(*unit).into()))
            .collect(),
        _ => (bytes.as_chunks().0.iter())
            .map(|unit| character(u32::from_le_bytes(*unit)))
            .collect(),
    })
}

/// Bytes of a character, and whether all of them are ASCII. None for a text whose characters are
/// elsewhere, and for what is no text.
fn shape(state: u32) -> Option<(u64, bool)> {
    // What comes before them has two bits, or sixteen in later builds.
    [2, 16].into_iter().find_map(|before| {
        let bits = state >> before;
        let (kind, compact, ascii) = (bits & 7, bits >> 3 & 1, bits >> 4 & 1);
        let makes_sense = matches!(kind, 1 | 2 | 4) && compact == 1 && (ascii == 0 || kind == 1);
        makes_sense.then_some((kind.into(), ascii == 1))
    })
}

/// Reads a bytes object; none when it is larger than `most`.
pub fn bytes(address: u64, most: usize, memory: &Memory<'_>) -> Option<Vec<u8>> {
    let length = usize::try_from(memory.word(address.checked_add(LENGTH)?)?).ok()?;
    memory.bytes(address.checked_add(BYTES)?, length, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code_path::reader::memory::ReadAt;

    /// An object at 0x1000.
    struct Image(Vec<u8>);

    impl ReadAt for Image {
        fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
            let Some(start) = address.checked_sub(0x1000) else {
                return false;
            };
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = self
                    .0
                    .get(start as usize + index)
                    .copied()
                    .unwrap_or_default();
            }
            true
        }
    }

    fn read(minor: u64, state: u32, length: u64, data_at: usize, data: &[u8]) -> Option<String> {
        let mut image = vec![0; data_at];
        image[16..24].copy_from_slice(&length.to_le_bytes());
        image[32..36].copy_from_slice(&state.to_le_bytes());
        image.extend_from_slice(data);
        text(
            &Layout::of_version(minor),
            0x1000,
            &Memory::new(&Image(image)),
        )
    }

    #[test]
    fn text_is_read_in_each_of_its_shapes() {
        assert_eq!(read(11, 0b110_0101, 3, 48, b"abc").as_deref(), Some("abc"));
        assert_eq!(read(12, 0b110_0101, 3, 40, b"abc").as_deref(), Some("abc"));
        assert_eq!(
            read(8, 0b010_0100, 2, 72, &[0xe9, b'x']).as_deref(),
            Some("éx")
        );
        let euro = [0xac, 0x20, b'1', 0];
        assert_eq!(read(12, 0b010_1000, 2, 56, &euro).as_deref(), Some("€1"));
        let smile = 0x1f600_u32.to_le_bytes();
        assert_eq!(
            read(12, 0b011_0000 | 1, 1, 56, &smile).as_deref(),
            Some("😀")
        );
        let later = (0b11_001 << 16) | 1;
        assert_eq!(read(12, later, 3, 40, b"abc").as_deref(), Some("abc"));
    }

    #[test]
    fn what_is_no_text_is_not_read() {
        assert_eq!(read(12, 0, 3, 40, b"abc"), None);
        assert_eq!(
            read(12, 0b000_0100, 3, 40, b"abc"),
            None,
            "its characters are elsewhere"
        );
        let long = read(12, 0b110_0100, u64::MAX, 40, &[b'x'; 10_000]);
        assert_eq!(long.map(|text| text.len()), Some(CHARACTERS as usize));
    }
}
