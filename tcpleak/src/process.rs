//! What `/proc` says about processes.
//!
//! Everything a process says about itself is its own choice: names and command lines are bounded
//! here, and may hold control characters that an output has to escape.

pub mod descriptors;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use lru::LruCache;
use rustix::thread::CapabilitySet;

use crate::{
    identity::{self, Identity, Names},
    report::Container,
    survey::{ProcessId, Task},
};

/// Most processes that are remembered, the dead ones included.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Most bytes of a command line that are kept.
const CMDLINE_BYTES: u64 = 4096;
/// Most arguments of a command line that are kept.
const CMDLINE_ARGUMENTS: usize = 64;
/// Stands for the arguments that were left out.
const LEFT_OUT: &str = "…";
/// Most bytes that are read of the other files, all of which are short.
const FILE_BYTES: u64 = 64 * 1024;
/// Length of the clock tick that `/proc` counts in; the kernel shows 100 in a second to user space
/// whatever it uses itself.
pub const NS_PER_TICK: u64 = 10_000_000;

/// What is known about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Name of the process.
    pub comm: String,
    /// Path of the executable, with ` (deleted)` at its end when the file is gone; none when it
    /// could not be read, and for kernel threads.
    pub exe: Option<String>,
    /// Command line, at most 64 arguments and 4 KiB, `…` in place of what was left out; none when
    /// it could not be read, and for processes that have none (kernel threads, zombies).
    pub cmdline: Option<Vec<String>>,
    /// Control group: the path in the unified hierarchy, or the longest one of the older kind.
    pub cgroup: Option<String>,
    /// Systemd unit; none when it is in none.
    pub unit: Option<String>,
    /// Container; none when it is in none.
    pub container: Option<Container>,
}

/// A memory of processes, so that a report can still describe those that have ended.
#[derive(Debug)]
pub struct Processes {
    known: LruCache<(u32, u64), ProcessInfo>,
    containers: Names,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            known: LruCache::new(REMEMBERED),
            containers: Names::default(),
        }
    }
}

impl Processes {
    /// A memory that is empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Describes a process that the kernel named by its pid, its start (nanoseconds since boot,
    /// time asleep included) and its name.
    ///
    /// A process that has ended is described as it was last seen here; one that was never seen
    /// alive has its name only. A newer process with the same pid is never mistaken for it.
    pub fn describe(&mut self, pid: u32, start_ns: u64, comm: &str) -> ProcessInfo {
        let key = (pid, start_ns);
        let known = self.known.get(&key);
        match look(pid, start_ns, known) {
            Some(mut info) => {
                if let Some(container) = &mut info.container {
                    self.containers.complete(container, Instant::now());
                }
                self.known.put(key, info.clone());
                info
            }
            None => known.cloned().unwrap_or_else(|| ProcessInfo {
                comm: comm.to_owned(),
                ..ProcessInfo::default()
            }),
        }
    }
}

/// Describes a running process; none when it has ended. What is known already is read again only
/// when the process has another program by now: exec keeps pid and start.
fn look(pid: u32, start_ns: u64, known: Option<&ProcessInfo>) -> Option<ProcessInfo> {
    let directory = format!("/proc/{pid}");
    let directory = Path::new(&directory);
    let comm = Stat::read(directory)
        .ok()
        .filter(|stat| stat.is_start(start_ns))?
        .comm;
    let exe = fs::read_link(directory.join("exe"))
        .ok()
        .map(|exe| lossy(exe.as_os_str()));
    if let Some(known) = known {
        let ending = exe.is_none(); // A zombie has lost its executable.
        let same = (&known.comm, &known.exe) == (&comm, &exe);
        // In the midst of an exec there is no command line yet.
        if ending || same && known.cmdline.is_some() {
            return Some(known.clone());
        }
    }
    let cgroup = read(&directory.join("cgroup"))
        .ok()
        .and_then(|text| cgroup(&text));
    let Identity { unit, container } = cgroup
        .as_deref()
        .map(identity::of_cgroup)
        .unwrap_or_default();
    let info = ProcessInfo {
        comm,
        exe,
        cmdline: cmdline(directory),
        unit,
        container,
        cgroup,
    };
    // It may have ended, and its pid been reused, while it was looked at.
    is_alive(pid, start_ns).then_some(info)
}

/// A network namespace, and a process in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkNamespace {
    /// Inode number, as `readlink /proc/PID/ns/net` shows it.
    pub inode: u32,
    /// The process with the lowest pid in it.
    pub pid: u32,
}

/// The network namespaces of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkNamespaces {
    /// Those that processes live in, ascending by pid.
    pub known: Vec<NetworkNamespace>,
    /// Whether tcpleak has no right to look into the processes of others: nobody knows where they live. A
    /// single process that even who has it may not look into, as security modules have them, does not count.
    pub hidden: bool,
}

/// The network namespaces of the host.
///
/// A namespace that no process has as its own is not found: one that is only mounted somewhere or
/// only used by a thread beside its process.
pub fn network_namespaces() -> NetworkNamespaces {
    let mut pids = pids();
    pids.sort_unstable();
    let may_look = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE));
    let mut found = NetworkNamespaces::default();
    for pid in pids {
        match fs::metadata(format!("/proc/{pid}/ns/net")) {
            Ok(namespace) => {
                let Ok(inode) = u32::try_from(namespace.ino()) else {
                    continue;
                };
                if found.known.iter().all(|known| known.inode != inode) {
                    found.known.push(NetworkNamespace { inode, pid });
                }
            }
            // Another error says that it has ended.
            Err(error) => {
                found.hidden |= !may_look && error.kind() == io::ErrorKind::PermissionDenied;
            }
        }
    }
    found
}

/// Whether a process still runs: one with this pid that started at this time (nanoseconds since
/// boot, time asleep included).
pub fn is_alive(pid: u32, start_ns: u64) -> bool {
    Stat::read(Path::new(&format!("/proc/{pid}"))).is_ok_and(|stat| stat.is_start(start_ns))
}

/// Whether a process still runs the program whose first stack began there: exec makes another one.
pub fn is_image(pid: u32, start_ns: u64, start_stack: u64) -> bool {
    Stat::read(Path::new(&format!("/proc/{pid}")))
        .is_ok_and(|stat| stat.is_start(start_ns) && stat.start_stack == start_stack)
}

/// A process, and where its first stack begins; none when it has ended.
pub fn image(pid: u32) -> Option<(ProcessId, u64)> {
    let stat = Stat::read(Path::new(&format!("/proc/{pid}"))).ok()?;
    let start_ns = stat.start_ticks.checked_mul(NS_PER_TICK)?;
    Some((ProcessId { pid, start_ns }, stat.start_stack))
}

/// CPU time that the first thread of a process has used; none when the kernel does not tell.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let text = read(Path::new(&format!("/proc/{pid}/schedstat"))).ok()?;
    let nanoseconds = str::from_utf8(&text).ok()?.split_whitespace().next()?;
    Some(Duration::from_nanos(nanoseconds.parse().ok()?))
}

/// Resident memory of a process in bytes, without pages of files, which the kernel takes back when it needs
/// them; none when it has ended.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/status"))).ok()?;
    let lines = String::from_utf8_lossy(&text);
    let kilobytes = |name: &str| -> Option<u64> {
        let field = lines.lines().find_map(|line| line.strip_prefix(name))?;
        field.trim().strip_suffix(" kB")?.parse().ok()
    };
    let all = kilobytes("RssAnon:")?.checked_add(kilobytes("RssShmem:")?)?;
    all.checked_mul(1024)
}

/// A process by its first thread, from its directory in `/proc`; none when it has ended.
pub fn task(pid: u32, directory: &Path) -> Option<Task> {
    let stat = Stat::read(directory).ok()?;
    let start_ns = stat.start_ticks.checked_mul(NS_PER_TICK)?;
    Some(Task {
        process: ProcessId { pid, start_ns },
        tid: pid,
        comm: stat.comm,
    })
}

/// Whether a process has this pid.
pub fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The name of a process that runs; none for a zombie, and for one that has ended.
pub fn running(pid: u32) -> Option<String> {
    let directory = format!("/proc/{pid}");
    let directory = Path::new(&directory);
    // A zombie has lost its executable.
    fs::read_link(directory.join("exe")).ok()?;
    Stat::read(directory).ok().map(|stat| stat.comm)
}

/// Whether process ids here are those that the kernel itself uses.
pub fn sees_all_pids() -> bool {
    /// The inode number of the first namespace, the same on every host.
    const FIRST: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST)
}

/// The numbered directories of `/proc`.
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The fields of `/proc/PID/stat` that matter here.
struct Stat {
    comm: String,
    start_ticks: u64,
    start_stack: u64,
}

impl Stat {
    fn read(directory: &Path) -> io::Result<Self> {
        Self::parse(&read(&directory.join("stat"))?)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The name stands in parentheses and may hold parentheses, blanks and newlines itself.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = str::from_utf8(&text[close + 1..]).ok()?;
        // The first one after the name is field 3.
        let mut fields = rest.split_ascii_whitespace().skip(22 - 3);
        let start_ticks = fields.next()?.parse().ok()?;
        let start_stack = fields.nth(28 - 23)?.parse().ok()?;
        Some(Self {
            comm,
            start_ticks,
            start_stack,
        })
    }

    /// Whether this is the process that started then, as exactly as ticks can tell.
    fn is_start(&self, start_ns: u64) -> bool {
        self.start_ticks.abs_diff(start_ns / NS_PER_TICK) <= 1
    }
}

fn cmdline(directory: &Path) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    let file = File::open(directory.join("cmdline")).ok()?;
    file.take(CMDLINE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    arguments(bytes)
}

/// Splits a command line at its NULs and bounds it.
fn arguments(mut bytes: Vec<u8>) -> Option<Vec<String>> {
    let cut = bytes.len() as u64 > CMDLINE_BYTES;
    if cut {
        bytes.truncate(CMDLINE_BYTES as usize);
    } else {
        // A program that writes its own title leaves the rest of the space empty.
        let end = bytes.iter().rposition(|byte| *byte != 0)?;
        bytes.truncate(end + 1);
    }
    let mut arguments: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .take(CMDLINE_ARGUMENTS + 1)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    if cut || arguments.len() > CMDLINE_ARGUMENTS {
        arguments.truncate(CMDLINE_ARGUMENTS - 1);
        arguments.push(LEFT_OUT.to_owned());
    }
    Some(arguments)
}

/// Picks the control group from `/proc/PID/cgroup`: lines `hierarchy:controllers:path`.
fn cgroup(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let mut unified = None;
    let mut longest: Option<&str> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, _, path) = (fields.next()?, fields.next()?, fields.next()?);
        if hierarchy == "0" {
            unified = Some(path);
        } else if longest.is_none_or(|longest| path.len() > longest.len()) {
            longest = Some(path);
        }
    }
    // Beside the older kind, a unified hierarchy that is not in use has everybody at its root.
    match (unified, longest) {
        (Some("/"), Some(longest)) => Some(longest.to_owned()),
        (unified, longest) => unified.or(longest).map(str::to_owned),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn lossy(text: &OsStr) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests;
