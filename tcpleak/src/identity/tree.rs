//! A tree of files that others have written: whatever lies in it, no path leads out of it, and what is
//! read is bounded.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, open, openat2};

use crate::code_path::files::CodeFile;

/// Most bytes of a file.
const FILE_BYTES: u64 = 4 << 20;
/// Most entries of a directory that are looked at.
const ENTRIES: usize = 8192;

/// The root of the tree.
pub struct Tree(OwnedFd);

impl Tree {
    /// Opens it.
    pub fn at(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(root, flags, Mode::empty())?))
    }

    /// What is in a file. A link in its place is left alone, as is what is not a file, and what is too
    /// large.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let found = CodeFile::below(&self.0, Path::new(path), FILE_BYTES)?;
        let mut bytes = Vec::new();
        found.file.take(FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The first thing that is made of the name of an entry of a directory.
    pub fn find<T>(&self, path: &str, mut made: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let directory = openat2(&self.0, path, flags, Mode::empty(), resolve).ok()?;
        let entries = Dir::new(directory)
            .ok()?
            .take(ENTRIES)
            .map_while(Result::ok);
        entries
            .filter(|entry| !entry.file_name().to_bytes().starts_with(b"."))
            .find_map(|entry| made(entry.file_name().to_str().ok()?))
    }
}
