//! Measures what tcpleak costs: time to the first report, what a workload takes with it and without,
//! and nanoseconds per run of each kernel program. Run by `cargo xtask bench`, as root; its argument is the path of tcpleak.
//!
//! The kernel's own accounting (`kernel.bpf_stats_enabled`) is switched on for as long as the
//! measurement lasts, which itself costs some 30 ns for each run.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use aya::programs::loaded_programs;
use rustix::time::{ClockId, clock_gettime};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Starts that are timed.
const STARTS: usize = 11;

/// Connections of the workload: each is opened, accepted, used once in each direction and closed.
const CONNECTIONS: usize = 20_000;

/// Times that the workload runs with tcpleak, and without, in turns.
const ROUNDS: usize = 7;

fn main() -> anyhow::Result<()> {
    let tcpleak = std::env::args()
        .nth(1)
        .context("usage: hook-cost PATH-OF-TCPLEAK")?;
    let starts = time_starts(&tcpleak)?;
    println!(
        "start to first report   median {} ms of {STARTS} (fastest {}, slowest {})",
        starts[STARTS / 2].as_millis(),
        starts[0].as_millis(),
        starts[STARTS - 1].as_millis()
    );
    let [without, with] = time_workload(&tcpleak)?;
    println!(
        "both ends of a connection   {} ns of their program's CPU time, {} without tcpleak (medians of {ROUNDS})",
        with.as_nanos(),
        without.as_nanos()
    );
    let _accounting = Accounting::start()?;
    let (mut child, _reports) = started(&tcpleak)?;
    let before = costs(child.id())?;
    work()?;
    let after = costs(child.id())?;
    interrupt(&mut child)?;
    print(&before, &after);
    Ok(())
}

/// Times from the start of the process to its first report, ascending.
fn time_starts(tcpleak: &str) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let (mut child, _reports) = started(tcpleak)?;
        times.push(start.elapsed());
        interrupt(&mut child)?;
    }
    times.sort();
    Ok(times)
}

/// CPU time of this process for a connection of the workload: without tcpleak, and with it.
fn time_workload(tcpleak: &str) -> anyhow::Result<[Duration; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let [without, with] = &mut times;
        without.push(work_time()?);
        let (mut child, _reports) = started(tcpleak)?;
        with.push(work_time()?);
        interrupt(&mut child)?;
    }
    Ok(times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    }))
}

fn work_time() -> anyhow::Result<Duration> {
    let now = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime));
    let start = now()?;
    work()?;
    Ok((now()? - start) / u32::try_from(CONNECTIONS)?)
}

/// A tcpleak that has made its first report.
fn started(tcpleak: &str) -> anyhow::Result<(Child, BufReader<ChildStdout>)> {
    let mut child = Command::new(tcpleak)
        .args(["--format", "ndjson", "--duration", "100s"])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{tcpleak} could not be started"))?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    ensure!(
        !first.is_empty(),
        "tcpleak ended without a report; is this root?"
    );
    Ok((child, lines))
}

fn interrupt(child: &mut Child) -> io::Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    child.wait().map(drop)
}

/// Opens, uses and closes connections over loopback, as a client and a server on two threads.
fn work() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<()> {
        for _ in 0..CONNECTIONS {
            let (mut connection, _) = listener.accept()?;
            connection.read_exact(&mut [0; 8])?;
            connection.write_all(b"an answer")?;
        }
        Ok(())
    });
    for _ in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"question")?;
        connection.read_to_end(&mut Vec::new())?;
    }
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server failed"))??;
    Ok(())
}

/// Runs of a program and the time they took.
#[derive(Clone, Copy, Default)]
struct Cost {
    runs: u64,
    nanoseconds: u64,
}

/// The cost of each program that a process has loaded, by name.
fn costs(pid: u32) -> anyhow::Result<BTreeMap<String, Cost>> {
    let names: BTreeMap<u32, String> = loaded_programs()
        .filter_map(Result::ok)
        .map(|program| {
            (
                program.id(),
                String::from_utf8_lossy(program.name()).into_owned(),
            )
        })
        .collect();
    let mut costs = BTreeMap::new();
    for entry in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name))?
                .trim()
                .parse()
                .ok()
        };
        let (Some(id), Some(nanoseconds), Some(runs)) =
            (field("prog_id:"), field("run_time_ns:"), field("run_cnt:"))
        else {
            continue;
        };
        if let Some(name) = u32::try_from(id).ok().and_then(|id| names.get(&id)) {
            costs.insert(name.clone(), Cost { runs, nanoseconds });
        }
    }
    Ok(costs)
}

fn print(before: &BTreeMap<String, Cost>, after: &BTreeMap<String, Cost>) {
    println!(
        "\n{:<18} {:>12} {:>9} {:>16}",
        "program", "runs", "ns/run", "ns/connection"
    );
    let mut total = 0;
    for (name, after) in after {
        let before = before.get(name).copied().unwrap_or_default();
        let (runs, spent) = (
            after.runs - before.runs,
            after.nanoseconds - before.nanoseconds,
        );
        if runs == 0 {
            continue;
        }
        let of_connections = !name.starts_with("survey");
        total += if of_connections { spent } else { 0 };
        let share = if of_connections {
            (spent / CONNECTIONS as u64).to_string()
        } else {
            "-".into()
        };
        println!("{name:<18} {runs:>12} {:>9} {share:>16}", spent / runs);
    }
    println!(
        "\n{} ns for both ends of one connection, all programs",
        total / CONNECTIONS as u64
    );
}

/// The kernel's accounting of programs; switched back when dropped.
struct Accounting {
    before: String,
}

impl Accounting {
    fn start() -> anyhow::Result<Self> {
        let before =
            fs::read_to_string(SWITCH).with_context(|| format!("{SWITCH} cannot be read"))?;
        fs::write(SWITCH, "1").with_context(|| format!("{SWITCH} cannot be set; run as root"))?;
        Ok(Self { before })
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.before.trim()) {
            eprintln!(
                "{SWITCH} could not be set back to {}: {error}",
                self.before.trim()
            );
        }
    }
}
