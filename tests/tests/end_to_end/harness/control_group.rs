//! Control groups.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::wait_until;

/// A control group below the root of the unified hierarchy. It goes when this value is dropped, which has
/// to be after the end of its processes.
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// Makes one of this name.
    pub fn new(name: &str) -> Self {
        let directory = unified().join(name);
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
        Self(directory)
    }

    /// Moves a process into it.
    pub fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process runs");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            wait_until("the processes of the group end", || {
                fs::remove_dir(&self.0).is_ok()
            });
        }
    }
}

/// Where the unified hierarchy is mounted.
fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let found = mounts.find_map(|mut fields| {
        let directory = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| Path::new(directory).to_owned())
    });
    found.expect("the unified hierarchy of control groups is mounted")
}
