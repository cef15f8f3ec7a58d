//! A tcpleak that runs, as /proc shows it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::kernel::Kernel;

/// Arguments with which nothing is left out to keep the cost down.
pub const EVERYTHING: [&str; 4] = ["--captures", "1000000", "--budget", "100%"];

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks at what a process has used.
const LOOK: Duration = Duration::from_millis(20);
/// Looks in a row without any use of the CPU after which a process counts as done.
const QUIET: usize = 4;
/// The thread that takes paths.
const PATHS_THREAD: &str = "tcpleak-paths";

/// A tcpleak that runs. It ends when this value is dropped.
pub struct Tracer {
    child: Child,
    /// Gives the last report once it has ended.
    reports: Option<JoinHandle<String>>,
}

/// CPU time of user space for code paths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Of the process that reads the files of other programs.
    pub reader: Duration,
    /// Of the thread that asks it.
    pub thread: Duration,
}

impl Used {
    /// What was used after.
    pub fn until(self, later: Self) -> Self {
        Self {
            reader: later.reader.saturating_sub(self.reader),
            thread: later.thread.saturating_sub(self.thread),
        }
    }
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All that is resident.
    pub resident: u64,
    /// Of this, its share: what others use too is divided among them.
    pub share: u64,
}

impl Tracer {
    /// Starts one and waits for its first report.
    pub fn start(tcpleak: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(tcpleak)
            .args(["--format", "ndjson"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{tcpleak} could not be started"))?;
        let output = child.stdout.take().context("no standard output")?;
        let (first, started) = mpsc::channel();
        // Reports that nobody reads would hold it up.
        let reports = thread::spawn(move || {
            let mut last = String::new();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                last = line;
                let _ = first.send(());
            }
            last
        });
        let tracer = Self {
            child,
            reports: Some(reports),
        };
        started
            .recv_timeout(PATIENCE)
            .context("tcpleak ended without a report; is this root?")?;
        Ok(tracer)
    }

    /// Ends it, and returns its last report.
    pub fn last_report(mut self) -> anyhow::Result<serde_json::Value> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let reports = self.reports.take().context("it was asked before")?;
        let last = reports.join();
        let last = last.map_err(|_| anyhow::anyhow!("its reports could not be read"))?;
        Ok(serde_json::from_str(&last)?)
    }

    /// Its maps. From now on no path of this very process, which only serves, is captured.
    pub fn kernel(&self) -> anyhow::Result<Kernel> {
        let mut kernel = Kernel::of(self.child.id())?;
        kernel.leave_out(std::process::id())?;
        Ok(kernel)
    }

    /// What code paths have used in user space.
    pub fn used(&self) -> anyhow::Result<Used> {
        let mut used = Used::default();
        for thread in threads(self.child.id())? {
            // One that has ended since is another.
            let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
            if name.trim() == PATHS_THREAD {
                used.thread += run_time(&thread)?;
            }
        }
        if let Some(reader) = self.reader()? {
            used.reader = run_time(&Path::new("/proc").join(reader.to_string()))?;
        }
        Ok(used)
    }

    /// Waits until the reader has nothing to do.
    pub fn settle(&self) -> anyhow::Result<Used> {
        let (mut last, mut quiet) = (self.used()?, 0);
        let started = Instant::now();
        while quiet < QUIET {
            ensure!(started.elapsed() < PATIENCE, "the reader is never done");
            thread::sleep(LOOK);
            let used = self.used()?;
            quiet = if used.reader == last.reader {
                quiet + 1
            } else {
                0
            };
            last = used;
        }
        Ok(last)
    }

    /// Waits until the reader has worked once more.
    pub fn settle_after_work(&self) -> anyhow::Result<Used> {
        let before = self.used()?;
        let started = Instant::now();
        while self.used()?.reader == before.reader {
            ensure!(started.elapsed() < PATIENCE, "the reader has no work");
            thread::sleep(LOOK);
        }
        self.settle()
    }

    /// Memory of tcpleak itself, and of its reader.
    pub fn memory(&self) -> anyhow::Result<[Memory; 2]> {
        let reader = self.reader()?.context("there is no reader")?;
        Ok([memory(self.child.id())?, memory(reader)?])
    }

    /// Keeps it from running until the value is dropped: only the kernel works then.
    pub fn pause(&self) -> anyhow::Result<Paused> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP)?;
        Ok(Paused(pid))
    }

    /// The process id of the reader, once there is one.
    fn reader(&self) -> anyhow::Result<Option<u32>> {
        for thread in threads(self.child.id())? {
            // One that has ended since has no children.
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next() {
                return Ok(Some(child.parse()?));
            }
        }
        Ok(None)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

/// A tcpleak that may not run.
pub struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn threads(pid: u32) -> anyhow::Result<Vec<PathBuf>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(threads
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect())
}

fn run_time(task: &Path) -> anyhow::Result<Duration> {
    let times = fs::read_to_string(task.join("schedstat"))?;
    let first = times.split_whitespace().next();
    let nanoseconds = first.context("the kernel counts no CPU time")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let line = lines.next().context("a field is missing")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Memory {
        resident: field("Rss:")?,
        share: field("Pss:")?,
    })
}
