//! Unpacking, never more than was promised and never more than is allowed.
//!
//! A small file can claim to hold a large one. What is unpacked is counted against one
//! [`Allowance`] for each file, before the first byte is unpacked.

use std::{cell::Cell, io::Read};

use flate2::bufread::ZlibDecoder;
use lzma_rust2::XzReader;
use object::{CompressionFormat, Object, ObjectSection};
use ruzstd::decoding::StreamingDecoder;

use crate::code_path::reader::file_bytes::FileBytes;

/// Most bytes that the packed parts of a file may unpack to.
const UNPACKED_BYTES: u64 = 512 << 20;
/// Most bytes that the symbols packed into a file may unpack to: they do not say how many they are.
const MINI_BYTES: u64 = 64 << 20;
/// Most memory that an xz dictionary may take, in KiB.
const XZ_DICTIONARY: u32 = 64 << 10;
/// Most memory that a zstd window may take.
const ZSTD_WINDOW: u64 = 128 << 20;

/// How many bytes of a file may still be unpacked.
pub struct Allowance(Cell<u64>);

impl Default for Allowance {
    fn default() -> Self {
        Self(Cell::new(UNPACKED_BYTES))
    }
}

impl Allowance {
    fn take(&self, bytes: u64) -> Option<()> {
        self.0.set(self.0.get().checked_sub(bytes)?);
        Some(())
    }
}

/// The contents of a section, unpacked if need be. None when there is no such section, when it is
/// damaged, or when it is larger than allowed.
pub fn section(file: &FileBytes, name: &str, allowance: &Allowance) -> Option<FileBytes> {
    let elf = object::File::parse(&**file).ok()?;
    let range = find(&elf, name)?.compressed_file_range().ok()?;
    let contents = file.part(range.offset, range.compressed_size)?;
    let size = range.uncompressed_size;
    match range.format {
        CompressionFormat::None => Some(contents),
        CompressionFormat::Zlib => {
            allowance.take(size)?;
            exactly(ZlibDecoder::new(&*contents), size)
        }
        CompressionFormat::Zstandard => {
            allowance.take(size)?;
            exactly(Frames::new(&contents), size)
        }
        _ => None,
    }
}

/// The section of that name, or of the name that it had when packed sections had other names.
pub fn find<'data, 'file>(
    elf: &'file object::File<'data>,
    name: &str,
) -> Option<object::Section<'data, 'file>> {
    elf.section_by_name(name).or_else(|| {
        let rest = name.strip_prefix(".debug_")?;
        elf.section_by_name(&format!(".zdebug_{rest}"))
    })
}

/// The ELF file with a few more symbols that some distributions pack into their stripped files.
pub fn mini_debug_info(file: &FileBytes, allowance: &Allowance) -> Option<FileBytes> {
    let packed = section(file, ".gnu_debugdata", allowance)?;
    let limit = MINI_BYTES.min(allowance.0.get());
    let mut unpacked = Vec::new();
    XzReader::new_mem_limit(&*packed, false, XZ_DICTIONARY)
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .ok()?;
    let size = unpacked.len() as u64;
    (size <= limit).then_some(())?;
    allowance.take(size)?;
    Some(unpacked.into())
}

/// The first `size` bytes of a stream that must have as many.
fn exactly(stream: impl Read, size: u64) -> Option<FileBytes> {
    let mut unpacked = Vec::new();
    stream.take(size).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() as u64 == size).then(|| unpacked.into())
}

/// What zstd frames hold, one frame behind the other.
struct Frames<'a> {
    rest: &'a [u8],
    current: Option<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>,
}

impl<'a> Frames<'a> {
    fn new(packed: &'a [u8]) -> Self {
        Self {
            rest: packed,
            current: None,
        }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.current {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(frame) = self.current.take() {
                self.rest = frame.into_inner();
            }
            if self.rest.is_empty() {
                return Ok(0);
            }
            // A frame begins with a header: each turn leaves fewer bytes.
            let frame = StreamingDecoder::new_with_max_window_size(self.rest, ZSTD_WINDOW);
            self.current = Some(frame.map_err(std::io::Error::other)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_unpacked_from_a_file_counts() {
        let allowance = Allowance::default();
        assert_eq!(allowance.take(UNPACKED_BYTES - 1), Some(()));
        assert_eq!(allowance.take(2), None);
        assert_eq!(allowance.take(1), Some(()));
        assert_eq!(allowance.take(u64::MAX), None);
    }

    #[test]
    fn zstd_frames_are_read_one_behind_the_other() {
        // Frames that hold their contents as they are: magic, one byte of content size, a block.
        let frame = |text: &[u8; 4]| {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0];
            frame.extend(text);
            frame
        };
        let packed = [frame(b"leak"), frame(b"path")].concat();
        let unpacked = |size| exactly(Frames::new(&packed), size).map(|bytes| bytes.to_vec());
        assert_eq!(unpacked(8).as_deref(), Some(&b"leakpath"[..]));
        assert_eq!(unpacked(6).as_deref(), Some(&b"leakpa"[..]));
        assert_eq!(unpacked(9), None);
    }
}
