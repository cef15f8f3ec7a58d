//! Where the code of a process lies: the executable part of `/proc/PID/maps`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

/// Most bytes of `/proc/PID/maps` that are read; a process has at most 65,530 mappings by default.
const MAPS_BYTES: u64 = 16 * 1024 * 1024;

/// A part of a process's memory that holds code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Device of the file: major and minor number.
    pub device: (u32, u32),
    /// Inode number of the file; zero when there is none.
    pub inode: u64,
    /// Path of the file as the kernel tells it, or a name like `[vdso]`; empty for memory that
    /// belongs to no file.
    pub path: PathBuf,
    /// How much between the code before and this one belongs to files: no data is made there while
    /// the process runs.
    pub files_before: u64,
}

/// The code of a process, ascending by address.
#[derive(Debug, PartialEq, Eq)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Reads the mappings of a process. Fails when it is gone or may not be inspected.
    pub fn read(pid: u32) -> io::Result<Self> {
        Self::parse(BufReader::new(
            File::open(format!("/proc/{pid}/maps"))?.take(MAPS_BYTES),
        ))
    }

    fn parse(lines: impl BufRead) -> io::Result<Self> {
        let mut mappings = Vec::new();
        let mut files_before = 0_u64;
        for line in lines.split(b'\n') {
            match Mapping::parse(&line?) {
                Some((mapping, true)) => mappings.push(Mapping {
                    files_before: std::mem::take(&mut files_before),
                    ..mapping
                }),
                Some((mapping, false)) if mapping.inode != 0 => {
                    let bytes = mapping.end.saturating_sub(mapping.start);
                    files_before = files_before.saturating_add(bytes);
                }
                _ => {}
            }
        }
        Ok(Self(mappings))
    }

    /// Keeps only the first so many.
    pub fn truncate(&mut self, most: usize) {
        self.0.truncate(most);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }

    /// The mapping that an address lies in; none when it is no address of code.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let behind = self.0.partition_point(|mapping| mapping.start <= address);
        self.0[..behind]
            .last()
            .filter(|mapping| address < mapping.end)
    }
}

impl Mapping {
    /// Reads a line, `start-end rwxp offset major:minor inode   path`, and says whether it holds code.
    fn parse(line: &[u8]) -> Option<(Self, bool)> {
        // The path is the rest of the line and may hold blanks.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut field = || str::from_utf8(fields.next()?).ok();
        let (start, end) = field()?.split_once('-')?;
        let is_code = field()?.as_bytes().get(2) == Some(&b'x');
        let offset = field()?;
        let (major, minor) = field()?.split_once(':')?;
        let inode = field()?;
        let path = fields.next().unwrap_or_default().trim_ascii_start();
        let mapping = Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            offset: u64::from_str_radix(offset, 16).ok()?,
            device: (
                u32::from_str_radix(major, 16).ok()?,
                u32::from_str_radix(minor, 16).ok()?,
            ),
            inode: inode.parse().ok()?,
            path: OsString::from_vec(path.to_vec()).into(),
            files_before: 0,
        };
        Some((mapping, is_code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
55d0c0000000-55d0c0002000 r--p 00000000 fd:01 131                        /srv/my app/crawler
55d0c0002000-55d0c0005000 r-xp 00002000 fd:01 131                        /srv/my app/crawler (deleted)
55d0c0005000-55d0c0006000 rwxp 00000000 00:00 0
7f0000000000-7f0000002000 r-xp 00000000 00:00 0                          [vdso]
not a line
7f0000001000-7f00 r-xp
\xFF\xFE-7f00 r-xp 0 0:0 0
";

    #[test]
    fn addresses_are_found_in_the_code_they_lie_in() {
        let mappings = Mappings::parse(MAPS).unwrap();
        assert_eq!(mappings.0.len(), 3);
        let crawler = mappings.find(0x55d0_c000_2000).unwrap();
        assert_eq!(crawler.path.to_str(), Some("/srv/my app/crawler (deleted)"));
        assert_eq!(
            (crawler.offset, crawler.device, crawler.inode),
            (0x2000, (0xfd, 1), 131)
        );
        assert_eq!(mappings.find(0x55d0_c000_4fff), Some(crawler));
        assert_eq!(crawler.files_before, 0x2000, "its data");
        assert_eq!(
            mappings.find(0x55d0_c000_5000).unwrap().path.to_str(),
            Some("")
        );
        assert_eq!(
            mappings.find(0x7f00_0000_1fff).unwrap().path.to_str(),
            Some("[vdso]")
        );
    }

    #[test]
    fn data_and_gaps_are_no_code() {
        let mappings = Mappings::parse(MAPS).unwrap();
        for address in [
            0,
            0x55d0_c000_0000,
            0x55d0_c000_6000,
            0x7f00_0000_2000,
            u64::MAX,
        ] {
            assert_eq!(mappings.find(address), None, "{address:#x}");
        }
    }

    #[test]
    fn the_code_of_this_process_is_found() {
        let mappings = Mappings::read(std::process::id()).unwrap();
        let own = mappings.find(Mappings::read as *const () as u64).unwrap();
        assert_eq!(own.path, std::env::current_exe().unwrap());
    }
}
