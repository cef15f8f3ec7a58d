//! Measures what a survey costs, by iterators and by sock_diag with `/proc`, on a host with some
//! hundred processes and some thousand sockets. Run by `cargo xtask bench surveys`, as root; its
//! argument is the path of tcpleak.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// Processes that hold sockets.
const PROCESSES: usize = 200;

/// Connections that each of them holds, both ends.
const CONNECTIONS: usize = 10;

/// Other files that each of them holds.
const FILES: usize = 20;

/// Surveys that are not counted, because they come with the start, and those that are.
const SURVEYS: (usize, usize) = (3, 30);

/// The ways to survey: a name, and what asks for it.
const WAYS: [(&str, &str); 3] = [
    ("iterators", ""),
    ("sock_diag, /proc, programs", "survey=sock_diag"),
    ("sock_diag, /proc", "lifecycle=none"),
];

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    let argument = argument.context("usage: survey-cost PATH-OF-TCPLEAK")?;
    if argument == "hold" {
        return hold();
    }
    let mut holders = Vec::new();
    for _ in 0..PROCESSES {
        holders.push(Holder::start()?);
    }
    println!(
        "{PROCESSES} processes with {} sockets and {FILES} other files each; CPU time of a survey",
        2 * CONNECTIONS
    );
    let mut first = None;
    for (name, force) in WAYS {
        let time = survey_time(&argument, force)?;
        let first = *first.get_or_insert(time);
        println!(
            "{name:<26} {:>7} us   {:>5.1}",
            time.as_micros(),
            time.as_secs_f64() / first.as_secs_f64()
        );
    }
    Ok(())
}

/// Holds connections and files until standard input ends.
fn hold() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = TcpStream::connect(listener.local_addr()?)?;
        connections.push((client, listener.accept()?));
    }
    let files: Vec<File> = (0..FILES)
        .map(|_| File::open("/dev/null"))
        .collect::<Result<_, _>>()?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    drop((connections, files));
    Ok(())
}

/// A process that holds sockets. It ends when its standard input does.
struct Holder(Child);

impl Holder {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "a process could not hold its sockets");
        Ok(Self(child))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It was told to end; how it ended tells nothing.
        let _ = self.0.wait();
    }
}

/// CPU time of one survey, on average.
fn survey_time(tcpleak: &str, force: &str) -> Result<Duration> {
    let mut child = Command::new(tcpleak)
        .args(["--format", "ndjson", "--duration", "60s"])
        .args(["--interval", "100ms", "--budget", "100%"])
        .env("TCPLEAK_FORCE_BACKEND", force)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no standard output")?;
    let mut reports = BufReader::new(output).lines();
    let mut take = |count: usize| -> Result<Duration> {
        for _ in 0..count {
            reports.next().context("tcpleak ended; is this root?")??;
        }
        cpu_time(child.id())
    };
    let before = take(SURVEYS.0);
    let after = before.and_then(|before| Ok(take(SURVEYS.1)?.saturating_sub(before)));
    child.kill()?;
    child.wait()?;
    Ok(after? / u32::try_from(SURVEYS.1)?)
}

/// CPU time of the first thread of a process: the one that surveys.
fn cpu_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds = text.split_whitespace().next().context("no time")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
