//! Programs in a mount namespace of their own: with another root directory, as in a container, or without a
//! part of the host's.

use std::{
    env, fs, io, os,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    process::pivot_root,
    thread::{UnshareFlags, unshare_unsafe},
};

use super::Fixture;

/// What a root holds.
pub enum Part<'a> {
    /// A copy of this file, at a path inside.
    Copy(&'a Path, &'a str),
    /// A symbolic link to this place, at a path inside.
    Link(&'a str, &'a str),
}

/// Starts a program in a root of its own, which no path of the host leads into and which holds
/// nothing but these parts. The program is named by its path inside.
pub fn start_in_own_root(parts: &[Part<'_>], program: &str, arguments: &[&str]) -> Fixture {
    with_own_mounts(
        || enter_new_root(parts),
        || Fixture::start_program(Command::new(program).args(arguments)),
    )
}

/// Does something where this directory is empty for the thread and for what it starts.
pub fn with_empty<T: Send>(directory: &str, it: impl FnOnce() -> T + Send) -> T {
    let hide = || {
        mount(
            "tcpleak-test",
            directory,
            "tmpfs",
            MountFlags::empty(),
            None,
        )
    };
    with_own_mounts(|| Ok(hide()?), it)
}

/// Does something in a thread whose mounts nobody else sees.
fn with_own_mounts<T: Send>(
    prepare: impl FnOnce() -> io::Result<()> + Send,
    it: impl FnOnce() -> T + Send,
) -> T {
    thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            leave_mounts()
                .and_then(|()| prepare())
                .expect("root may make mount namespaces");
            it()
        });
        visitor
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn leave_mounts() -> io::Result<()> {
    // SAFETY: the thread does not share its file system state with other threads from here on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    let everything = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", everything)?)
}

/// Takes this thread, and what it starts, into a new root.
fn enter_new_root(parts: &[Part<'_>]) -> io::Result<()> {
    let root = Path::new("/mnt");
    mount("tcpleak-test", root, "tmpfs", MountFlags::empty(), None)?;
    for part in parts {
        put(part, root)?;
    }
    env::set_current_dir(root)?;
    // The old root comes to lie on top of the new one, and is taken away.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    env::set_current_dir("/")?;
    Ok(())
}

fn put(part: &Part<'_>, root: &Path) -> io::Result<()> {
    let place = |inside: &str| -> io::Result<PathBuf> {
        let place = root.join(inside.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap_or(root))?;
        Ok(place)
    };
    match part {
        Part::Copy(file, inside) => fs::copy(file, place(inside)?).map(drop),
        Part::Link(target, inside) => os::unix::fs::symlink(target, place(inside)?),
    }
}
