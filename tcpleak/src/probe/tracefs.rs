//! Classic tracepoints need tracefs, which is not mounted everywhere.

use std::{io, path::Path, thread};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs a job that needs tracefs. Where it is not mounted, the job runs on a thread with a mount
/// namespace of its own, in which it is: the host never sees the mount.
pub fn with<T: Send>(job: impl FnOnce() -> T + Send) -> io::Result<T> {
    if mounted() {
        return Ok(job());
    }
    let away = || -> io::Result<T> {
        // SAFETY: only this thread's view of the mounts changes, and no descriptor is shared
        // differently afterwards.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )?;
        mount(
            "tracefs",
            TRACEFS,
            "tracefs",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            None,
        )?;
        Ok(job())
    };
    thread::scope(|scope| scope.spawn(away).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts tracefs failed")))
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("tracefs is not mounted at {TRACEFS}, and mounting it failed: {error}"),
            )
        })
}

fn mounted() -> bool {
    Path::new(TRACEFS).join("events").is_dir()
        || Path::new("/sys/kernel/debug/tracing/events").is_dir()
}
