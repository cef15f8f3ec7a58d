//! Opening the files of other processes: whatever their owner put in the place of one.
//!
//! A path below another process's root is resolved inside that root, so that a link cannot lead out
//! of it. A file is first only referred to: opening a device or a pipe would have effects. What is
//! not a regular file of bearable size is left alone.

use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, major, minor, open, openat2};

use super::maps::Mapping;

/// Largest file of code that is looked into.
const FILE_BYTES: u64 = 4 << 30;

/// A file that holds code, open for reading.
#[derive(Debug)]
pub struct CodeFile {
    /// The file.
    pub file: File,
    /// What makes it this file.
    pub identity: Identity,
}

/// What makes a file the same one as before, with the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl CodeFile {
    /// Opens the file behind a mapping, in whatever mount namespace it lies and even when it was
    /// deleted. Without the right to do so (`CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`), the file
    /// of that name as the process sees it, if it is still the same file.
    pub fn of_mapping(pid: u32, mapping: &Mapping) -> io::Result<Self> {
        let Mapping { start, end, .. } = mapping;
        let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        let referred = open(&*link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        match referred {
            Ok(referred) => read_regular(referred.into(), FILE_BYTES),
            Err(error) => {
                let found = Self::below_root(pid, &mapping.path).map_err(|_| error)?;
                let Identity { device, inode, .. } = found.identity;
                if ((major(device), minor(device)), inode) != (mapping.device, mapping.inode) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                Ok(found)
            }
        }
    }

    /// Whether a mapping of a process is there as it was, and of this file. It is not where that cannot be
    /// told.
    pub fn is_mapped(pid: u32, mapping: &Mapping, identity: &Identity) -> bool {
        let Mapping { start, end, .. } = mapping;
        let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        let there = std::fs::metadata(link).map(|metadata| Identity::of(&metadata));
        there.is_ok_and(|there| (there.device, there.inode) == (identity.device, identity.inode))
    }

    /// Opens a file by its path as a process sees it. Links lead to where they lead that process.
    pub fn below_root(pid: u32, path: &Path) -> io::Result<Self> {
        read_regular(
            refer_below(root_of(pid)?, path, OFlags::empty())?,
            FILE_BYTES,
        )
    }

    /// Opens a file of at most so many bytes by its path as a process sees it, if its metadata are
    /// as wanted and it is no link.
    pub fn of_owner(
        pid: u32,
        path: &Path,
        most_bytes: u64,
        wanted: impl Fn(&Metadata) -> bool,
    ) -> io::Result<Self> {
        let referred = refer_below(root_of(pid)?, path, OFlags::NOFOLLOW)?;
        if !wanted(&referred.metadata()?) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        read_regular(referred, most_bytes)
    }

    /// Opens a file of at most so many bytes by its path below a directory, if it is no link. Links to
    /// the directories on the way lead to where they lead whoever has that directory as root.
    pub fn below(root: impl AsFd, path: &Path, most_bytes: u64) -> io::Result<Self> {
        read_regular(refer_below(root, path, OFlags::NOFOLLOW)?, most_bytes)
    }

    /// Opens a file of the host.
    pub fn of_host(path: &Path) -> io::Result<Self> {
        let referred = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        read_regular(referred.into(), FILE_BYTES)
    }
}

/// The root of a process.
fn root_of(pid: u32) -> io::Result<OwnedFd> {
    let root = format!("/proc/{pid}/root");
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(&*root, directory, Mode::empty())?)
}

/// Refers to a file by its path as those see it who have this directory as root.
fn refer_below(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?.into())
}

/// Opens what is referred to for reading, if it is a regular file.
fn read_regular(referred: File, most_bytes: u64) -> io::Result<CodeFile> {
    let metadata = referred.metadata()?;
    if !metadata.is_file() || metadata.len() > most_bytes {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let link = format!("/proc/self/fd/{}", referred.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(&*link, flags, Mode::empty())?.into();
    Ok(CodeFile {
        file,
        identity: Identity::of(&metadata),
    })
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
