//! How many descriptors processes have, and may have.

use std::{fs::File, io, mem::MaybeUninit, os::fd::AsFd, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::RawDir;

use super::{is_alive, read};
use crate::{report::FileHandles, survey::ProcessId};

/// Most entries of directories that are read in one go, over all processes.
const ENTRIES: u64 = 65_536;

/// The descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many are open; none when there are too many to count, or they may not be counted.
    pub open: Option<u64>,
    /// How many may be.
    pub limit: Limit,
}

/// A limit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many.
    Most(u64),
    /// As many as it likes.
    Unlimited,
    /// It could not be read.
    Unknown,
}

/// Counts descriptors.
#[derive(Debug)]
pub struct Counter {
    entries: u64,
}

impl Default for Counter {
    fn default() -> Self {
        Self { entries: ENTRIES }
    }
}

impl Counter {
    /// Counts the descriptors of a process that has some; none when it has ended.
    pub fn usage(&mut self, process: ProcessId) -> Option<Usage> {
        let directory = format!("/proc/{}", process.pid);
        let directory = Path::new(&directory);
        let usage = Usage {
            open: self.open(&directory.join("fd")),
            limit: read(&directory.join("limits")).map_or(Limit::Unknown, |text| limit(&text)),
        };
        // Its pid may have been reused while it was looked at.
        is_alive(process.pid, process.start_ns).then_some(usage)
    }

    /// Since Linux 6.2 the size of the directory is the number of its entries; before it is zero, as it
    /// is where the first thread has ended and the others have the descriptors.
    fn open(&mut self, directory: &Path) -> Option<u64> {
        let told = std::fs::metadata(directory).ok()?.size();
        let open = match told {
            0 => self.entries(directory).ok()??,
            told => told,
        };
        (open > 0).then_some(open)
    }

    /// How many entries a directory has; none when they are too many.
    fn entries(&mut self, directory: &Path) -> io::Result<Option<u64>> {
        let directory = File::open(directory)?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            if entry?.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            if self.entries == 0 {
                return Ok(None);
            }
            self.entries -= 1;
            count += 1;
        }
        Ok(Some(count))
    }
}

/// The soft limit of open files, from `/proc/PID/limits`.
fn limit(text: &[u8]) -> Limit {
    let text = String::from_utf8_lossy(text);
    let soft = text.lines().find_map(|line| {
        line.strip_prefix("Max open files")?
            .split_whitespace()
            .next()
    });
    match soft {
        Some("unlimited") => Limit::Unlimited,
        Some(number) => number.parse().map_or(Limit::Unknown, Limit::Most),
        None => Limit::Unknown,
    }
}

/// Open files of the whole host; none when the kernel does not tell.
pub fn file_handles() -> Option<FileHandles> {
    handles(&read(Path::new("/proc/sys/fs/file-nr")).ok()?)
}

/// `/proc/sys/fs/file-nr`: allocated, of these unused, and at most.
fn handles(text: &[u8]) -> Option<FileHandles> {
    let mut numbers = str::from_utf8(text).ok()?.split_whitespace();
    let mut next = || numbers.next()?.parse::<u64>().ok();
    let (allocated, unused, limit) = (next()?, next()?, next()?);
    Some(FileHandles {
        open: allocated.saturating_sub(unused),
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::image;

    fn this() -> ProcessId {
        image(std::process::id()).unwrap().0
    }

    #[test]
    fn the_descriptors_of_this_process_are_counted() {
        let files: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        let usage = Counter::default().usage(this()).unwrap();
        // Other tests open files at the same time.
        assert!((303..2_000).contains(&usage.open.unwrap()), "{usage:?}");
        let current = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        assert_eq!(usage.limit, current.map_or(Limit::Unlimited, Limit::Most));
        drop(files);
    }

    #[test]
    fn entries_are_counted_one_by_one_where_the_size_does_not_tell() {
        let directory = tempfile::tempdir().unwrap();
        for name in 0..700 {
            File::create(directory.path().join(name.to_string())).unwrap();
        }
        let count = |entries| Counter { entries }.entries(directory.path()).unwrap();
        assert_eq!(count(ENTRIES), Some(700));
        assert_eq!(count(700), Some(700));
        assert_eq!(count(699), None);
        let mut counter = Counter { entries: 1_000 };
        assert_eq!(counter.entries(directory.path()).unwrap(), Some(700));
        assert_eq!(counter.entries(directory.path()).unwrap(), None);
    }

    #[test]
    fn a_process_that_has_ended_has_none() {
        let mut other = this();
        other.start_ns += 1_000_000_000;
        assert_eq!(Counter::default().usage(other), None);
    }

    #[test]
    fn the_soft_limit_is_read() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max processes             63432                63432                processes \n\
                 Max open files            {soft}                 524288               files     \n"
            )
        };
        assert_eq!(limit(limits("1024").as_bytes()), Limit::Most(1024));
        assert_eq!(limit(limits("unlimited").as_bytes()), Limit::Unlimited);
        for text in ["", "Max open files", "Max open files -1 files", "\u{fffd}"] {
            assert_eq!(limit(text.as_bytes()), Limit::Unknown, "{text:?}");
        }
    }

    #[test]
    fn the_file_handles_of_the_host_are_read() {
        let read = handles(b"434\t4\t9223372036854775807\n").unwrap();
        assert_eq!((read.open, read.limit), (430, i64::MAX as u64));
        assert_eq!(handles(b"434 0"), None);
        assert_eq!(handles(b"\xff"), None);
        assert!(file_handles().unwrap().open > 0);
    }
}
