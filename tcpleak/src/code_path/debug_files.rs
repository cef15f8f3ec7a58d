//! Where names are kept outside of the file that holds the code: the system's debug information, and
//! the maps that compilers at run time write for perf.

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{files::CodeFile, reader::symbols::Wanted};
use crate::survey::ProcessId;

/// Where a system keeps debug information.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug";
/// Longest build id that is looked for.
const BUILD_ID_BYTES: usize = 64;
/// Largest map that is read.
const PERF_MAP_BYTES: u64 = 64 << 20;
/// Most bytes of `/proc/PID/status` that are looked at.
const STATUS_BYTES: usize = 64 << 10;

/// A file that may hold the debug information of another one.
#[derive(Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The host's.
    Host(PathBuf),
    /// As the process sees it.
    Process(PathBuf),
}

impl Candidate {
    /// Opens it.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        let found = match self {
            Self::Host(path) => CodeFile::of_host(path),
            Self::Process(path) => CodeFile::below_root(pid, path),
        };
        found.map(|found| found.file)
    }
}

/// Where the debug information of the file at `path` may be, most likely first.
pub fn candidates(wanted: &Wanted, path: &str) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    candidates.extend(by_build_id(wanted.build_id.as_deref()));
    let directory = Path::new(path).parent().filter(|path| path.is_absolute());
    if let (Some((name, _)), Some(directory)) = (&wanted.debug_link, directory) {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        // A link is a name beside the file, not a way to anywhere else.
        if name.file_name() == Some(name.as_os_str()) {
            let below = directory.strip_prefix("/").unwrap_or(directory);
            let kept = Path::new(DEBUG_DIRECTORY).join(below).join(name);
            candidates.push(Candidate::Process(directory.join(name)));
            candidates.push(Candidate::Process(directory.join(".debug").join(name)));
            candidates.push(Candidate::Process(kept.clone()));
            candidates.push(Candidate::Host(kept));
        }
    }
    candidates
}

/// Where the file with a build id may be.
pub fn by_build_id(build_id: Option<&[u8]>) -> impl Iterator<Item = Candidate> {
    let path = build_id.and_then(build_id_path);
    let both = |path: PathBuf| [Candidate::Host(path.clone()), Candidate::Process(path)];
    path.into_iter().flat_map(both)
}

fn build_id_path(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    if rest.is_empty() || rest.len() > BUILD_ID_BYTES {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{DEBUG_DIRECTORY}/.build-id/{first:02x}/{rest}.debug").into())
}

/// Opens the map that a process writes of the code that it compiles: `/tmp/perf-PID.map`, by the pid
/// that it has in its own eyes. Anybody may write to that directory, so the file must belong to the
/// user of the process, or to root.
pub fn perf_map(process: ProcessId) -> io::Result<File> {
    let user = fs::metadata(format!("/proc/{}", process.pid))?.uid();
    let status = fs::read(format!("/proc/{}/status", process.pid))?;
    let pid = inner_pid(&status[..status.len().min(STATUS_BYTES)]).unwrap_or(process.pid);
    let path = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    let owned = |metadata: &fs::Metadata| metadata.uid() == user || metadata.uid() == 0;
    CodeFile::of_owner(process.pid, &path, PERF_MAP_BYTES, owned).map(|found| found.file)
}

/// The pid in the innermost namespace: the last one of the line `NSpid:`.
fn inner_pid(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(debug_link: &[u8]) -> Wanted {
        Wanted {
            build_id: Some(vec![0xab, 0xcd, 0xef]),
            debug_link: Some((debug_link.to_vec(), 0)),
            ..Wanted::default()
        }
    }

    #[test]
    fn debug_information_is_looked_for_where_systems_keep_it() {
        let host = |path: &str| Candidate::Host(path.into());
        let process = |path: &str| Candidate::Process(path.into());
        assert_eq!(
            candidates(&wanted(b"app.debug"), "/srv/bin/app"),
            [
                host("/usr/lib/debug/.build-id/ab/cdef.debug"),
                process("/usr/lib/debug/.build-id/ab/cdef.debug"),
                process("/srv/bin/app.debug"),
                process("/srv/bin/.debug/app.debug"),
                process("/usr/lib/debug/srv/bin/app.debug"),
                host("/usr/lib/debug/srv/bin/app.debug"),
            ]
        );
    }

    #[test]
    fn a_debug_link_leads_nowhere_else() {
        for link in [&b"../shadow"[..], b"/etc/shadow", b"a/b", b"..", b""] {
            let found = candidates(&wanted(link), "/srv/bin/app");
            assert_eq!(found.len(), 2, "{link:?} gave {found:?}");
        }
        assert_eq!(candidates(&wanted(b"app.debug"), "[vdso]").len(), 2);
    }

    #[test]
    fn a_process_in_a_container_has_a_pid_of_its_own() {
        assert_eq!(
            inner_pid(b"Name:\ta\nNSpid:\t4242\t17\t1\nTgid:\t9\n"),
            Some(1)
        );
        assert_eq!(inner_pid(b"Name:\ta\nNSpid:\t4242\n"), Some(4242));
        assert_eq!(inner_pid(b"Name:\ta\n"), None);
    }
}
