//! Writes an archive that a kernel unpacks as its first file system (cpio, "newc" format).

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive being written. Everything in it belongs to root.
pub struct Archive<W> {
    output: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(output: W) -> Self {
        Self { output, entries: 0 }
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, inside: &str) -> Result<()> {
        Ok(self.entry(inside.as_bytes(), DIRECTORY | 0o755, &[])?)
    }

    /// Adds a file with this content.
    pub fn file(&mut self, inside: &str, mode: u32, content: &[u8]) -> Result<()> {
        Ok(self.entry(inside.as_bytes(), REGULAR | mode, content)?)
    }

    /// Adds a file, a link, or a directory with all that it holds; anything else is left out.
    pub fn tree(&mut self, path: &Path, inside: &str) -> Result<()> {
        self.add(path, inside.as_bytes())
            .with_context(|| format!("packing {}", path.display()))
    }

    fn add(&mut self, path: &Path, inside: &[u8]) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let mode = metadata.permissions().mode() & 0o7777;
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            self.entry(inside, LINK | 0o777, target.as_os_str().as_bytes())
        } else if kind.is_file() {
            self.entry(inside, REGULAR | mode, &fs::read(path)?)
        } else if kind.is_dir() {
            self.entry(inside, DIRECTORY | mode, &[])?;
            let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = [inside, b"/", entry.file_name().as_bytes()].concat();
                self.add(&entry.path(), &name)?;
            }
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.entry(b"TRAILER!!!", 0, &[])?;
        Ok(self.output.flush()?)
    }

    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other("a file of 4 GiB or more does not fit"))?;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // Inode, mode, owner, group, links, time, size, two device numbers of two parts, length of
        // the name with its end, and a checksum that this format leaves out.
        let length = name.len() as u32 + 1;
        let numbers = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            length,
            0,
        ];
        let mut header = String::from("070701");
        for number in numbers {
            header.push_str(&format!("{number:08X}"));
        }
        self.output.write_all(header.as_bytes())?;
        self.output.write_all(name)?;
        self.output.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.output.write_all(content)?;
        self.pad(content.len())
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.output
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.directory("tmp").unwrap();
        archive.file("tmp/hello", 0o644, b"world").unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        // Mode, size and length of the name of the second entry, which begins after 110 bytes of
        // header, the name with its end, and padding.
        let second = &bytes[116..];
        assert!(second.starts_with(b"070701"));
        assert_eq!(&second[14..22], b"000081A4");
        assert_eq!(&second[54..62], b"00000005");
        assert_eq!(&second[94..102], b"0000000A");
        assert_eq!(&second[110..120], b"tmp/hello\0");
        assert_eq!(&second[120..125], b"world");
    }

    #[test]
    fn a_tree_is_packed_with_its_links_and_modes() {
        let directory = std::env::temp_dir().join(format!("tcpleak-cpio-{}", std::process::id()));
        fs::create_dir_all(directory.join("below")).unwrap();
        fs::write(directory.join("below/file"), "content").unwrap();
        std::os::unix::fs::symlink("below/file", directory.join("link")).unwrap();
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.tree(&directory, "system").unwrap();
        archive.finish().unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for part in [
            "system/below/file\0",
            "content",
            "system/link\0",
            "TRAILER!!!\0",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
