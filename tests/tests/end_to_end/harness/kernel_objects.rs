//! The BPF programs, maps and links that a process has in the kernel.

use std::{fs, io};

/// What can be looked for by id: the key in `/proc/PID/fdinfo`, and the command of bpf(2) that
/// finds the next id (`BPF_PROG_GET_NEXT_ID` and its like).
const KINDS: [(&str, libc::c_long); 3] = [("prog_id", 11), ("map_id", 12), ("link_id", 31)];

/// Ids of BPF objects, by index into [`KINDS`]. The kernel gives ids in turn, so that one which is
/// gone does not come back during a test.
#[derive(Debug)]
pub struct KernelObjects(Vec<(usize, u32)>);

impl KernelObjects {
    /// The objects to which a process has descriptors.
    pub fn of(pid: u32) -> Self {
        let directory = format!("/proc/{pid}/fdinfo");
        let mut objects = Vec::new();
        for entry in fs::read_dir(directory).expect("the process runs").flatten() {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            for (kind, (key, _)) in KINDS.iter().enumerate() {
                let value = text
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
                if let Some(id) = value.and_then(|id| id.trim().parse().ok()) {
                    objects.push((kind, id));
                }
            }
        }
        objects.sort_unstable();
        objects.dedup();
        Self(objects)
    }

    /// How many there are of a kind: `prog_id`, `map_id` or `link_id`.
    pub fn count(&self, key: &str) -> usize {
        self.0
            .iter()
            .filter(|(kind, _)| KINDS[*kind].0 == key)
            .count()
    }

    /// How many there are of all kinds.
    pub fn total(&self) -> usize {
        self.0.len()
    }

    /// Those that the kernel still has.
    pub fn alive(&self) -> Vec<(&'static str, u32)> {
        let alive = self
            .0
            .iter()
            .filter(|&&(kind, id)| exists(KINDS[kind].1, id));
        alive.map(|&(kind, id)| (KINDS[kind].0, id)).collect()
    }
}

/// Whether the id that follows `id - 1` is `id`.
fn exists(command: libc::c_long, id: u32) -> bool {
    /// The part of `union bpf_attr` for these commands.
    #[repr(C)]
    struct Attributes {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut attributes = Attributes {
        start_id: id - 1,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the kernel reads and writes `attributes`, within the size given, during the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut attributes,
            size_of::<Attributes>() as libc::c_long,
        )
    };
    if outcome == 0 {
        return attributes.next_id == id;
    }
    let error = io::Error::last_os_error();
    assert_eq!(
        error.raw_os_error(),
        Some(libc::ENOENT),
        "bpf(2) cannot tell: {error}"
    );
    false
}
