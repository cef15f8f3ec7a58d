//! Which backends of tcpleak the running kernel takes.

use std::{collections::HashMap, sync::OnceLock};

use super::{Tracer, command, finish};

const VARIABLE: &str = "TCPLEAK_FORCE_BACKEND";

/// The jobs as tcpleak calls them where it is told what to use, and in its table; and the backends
/// of each, best first.
const JOBS: [(&str, &str, &[&str]); 4] = [
    ("lifecycle", "opened, peer gone", &["tp_btf", "tracepoint"]),
    (
        "accept",
        "accept()",
        &["fexit", "kprobe", "kretprobe", "syscalls", "first-use"],
    ),
    (
        "use",
        "read and write",
        &["tp_btf", "tracepoint", "fexit", "kprobe", "none"],
    ),
    (
        "registers",
        "call stacks",
        &["helper", "task-stack", "frame-pointers"],
    ),
];

/// A backend of a job, for tcpleak to use.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What tcpleak calls it.
    pub word: &'static str,
    forced: String,
}

impl Backend {
    /// Watches with this backend.
    #[track_caller]
    pub fn watch(&self, options: &[&str]) -> Tracer {
        eprintln!("with {}", self.forced);
        Tracer::watch_with(&[(VARIABLE, &self.forced)], options)
    }
}

/// The backends of a job that the running kernel takes. Which these are, the doctor is asked once.
pub fn backends_of(job: &str) -> Vec<Backend> {
    static TAKEN: OnceLock<HashMap<&str, Vec<Backend>>> = OnceLock::new();
    let taken = TAKEN.get_or_init(|| {
        let asked = JOBS.map(|(job, row, words)| (job, taken(job, row, words)));
        HashMap::from(asked)
    });
    let backends = taken.get(job).cloned().unwrap_or_default();
    assert!(
        !backends.is_empty(),
        "no backend of {job} is taken: {taken:?}"
    );
    backends
}

fn taken(job: &str, row: &str, words: &[&'static str]) -> Vec<Backend> {
    let backends = words.iter().map(|word| Backend {
        word,
        forced: format!("{job}={word}"),
    });
    let is_taken = |backend: &Backend| {
        let mut doctor = command(&["doctor"]);
        let doctor = doctor.env(VARIABLE, &backend.forced);
        let page = finish(doctor.spawn().expect("tcpleak can be started")).stdout;
        done_by(&page, row).is_some_and(|name| name != "none")
    };
    backends.filter(is_taken).collect()
}

/// What the doctor's table says of a job; nothing when there is no table, because the job is one
/// that tcpleak cannot do without.
fn done_by(page: &str, row: &str) -> Option<String> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("  ")?.strip_prefix(row))?;
    let cell = line.trim_start().split("  ").next()?;
    (!cell.is_empty()).then(|| cell.to_owned())
}
