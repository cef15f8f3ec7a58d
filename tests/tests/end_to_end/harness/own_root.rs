//! Programs in a mount namespace and a root directory of their own, as in a container.

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
    thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            enter_new_root(parts).expect("root may make mount namespaces");
            Fixture::start_program(Command::new(program).args(arguments))
        });
        visitor
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Takes this thread, and what it starts, into a new root.
fn enter_new_root(parts: &[Part<'_>]) -> io::Result<()> {
    // SAFETY: the thread does not share its file system state with other threads from here on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    let everything = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", everything)?;
    // Nobody else sees what is mounted in this namespace.
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
