//! `tcpleak doctor`: what works on this kernel, and the proof: a leak of its own that is found.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::thread::CapabilitySet;

use crate::{
    cli::Doctor,
    judge::Rules,
    observer::Observer,
    plain::plain,
    probe::{Options, Probe, ProbeError},
    report::Group,
    select::Select,
};

/// How long the leak may take to be found.
const PATIENCE: Duration = Duration::from_secs(10);

/// The doctor is in no hurry to save: it looks for one leak and ends.
const BUDGET: f64 = 1.0;
const CAPTURES: u32 = 200;

/// Time between two looks for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Examines the host and prints what it finds. Ends with status 0 when the leak was found.
pub async fn run(options: Doctor) -> anyhow::Result<ExitCode> {
    let mut page = host();
    let loaded = Probe::load(Options {
        trace: true,
        accept_stacks: false,
        captures: CAPTURES,
        verbose: options.verbose,
    });
    let found = match loaded {
        Ok(probe) => {
            page.push_str(&hooks(&probe));
            let proof = prove(probe).await;
            page.push_str(&proof_section(&proof));
            proof.is_ok()
        }
        Err(error) => {
            page.push_str(&not_loaded(&error));
            false
        }
    };
    anstream::stdout().write_all(page.as_bytes())?;
    Ok(if found {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The leak itself, in a process of its own: a connection whose peer is gone, held until standard
/// input ends.
pub fn leak() -> anyhow::Result<ExitCode> {
    let held =
        open_and_forget().context("a connection on the loopback interface could not be made")?;
    println!("{}", held.peer_addr()?.port());
    io::stdout().flush()?;
    io::stdin().lock().take(1).read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

/// The function that the proof must name. Connects to a listener that hangs up at once.
#[inline(never)]
fn open_and_forget() -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let held = TcpStream::connect(listener.local_addr()?)?;
    drop(listener.accept()?);
    // The work after the call keeps this function on the stack while the call runs.
    held.set_nodelay(true)?;
    Ok(held)
}

fn host() -> String {
    let name = rustix::system::uname();
    let kernel = format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    );
    let user = match rustix::process::geteuid().is_root() {
        true => "root",
        false => "not root",
    };
    let mut page = format!(
        "tcpleak {} on {kernel} ({})\n\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    line(&mut page, "rights", &format!("{user}, {}", capabilities()));
    let types = "/sys/kernel/btf/vmlinux";
    line(
        &mut page,
        "types",
        &match std::fs::metadata(types) {
            Ok(file) => format!("{types}, {} KiB", file.len() / 1024),
            Err(error) => {
                format!("{types}: {error}; tracing takes a kernel with CONFIG_DEBUG_INFO_BTF=y")
            }
        },
    );
    page
}

/// The capabilities that tcpleak uses, and what each is for when it is missing.
fn capabilities() -> String {
    let needed = [
        (CapabilitySet::BPF, "BPF (load programs)"),
        (CapabilitySet::PERFMON, "PERFMON (trace)"),
        (
            CapabilitySet::SYS_PTRACE,
            "SYS_PTRACE (read other processes)",
        ),
        (
            CapabilitySet::SYS_ADMIN,
            "SYS_ADMIN (enter network namespaces)",
        ),
    ];
    let effective = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return format!("capabilities unknown: {error}"),
    };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, words)| *words)
        .collect();
    match missing.is_empty() {
        true => "every capability it needs".into(),
        false => format!("without {}", missing.join(", ")),
    }
}

fn hooks(probe: &Probe) -> String {
    let mut page = String::from("\nhooks\n");
    for hook in probe.hooks() {
        line(
            &mut page,
            hook.job.describe(),
            hook.backend.unwrap_or("none"),
        );
        for refusal in &hook.refusals {
            line(
                &mut page,
                "",
                &format!("refused: {}: {}", refusal.backend, plain(&refusal.reason)),
            );
        }
        if let Some(caveat) = hook.caveat() {
            line(&mut page, "", caveat);
        }
        if hook.backend.is_none() {
            line(&mut page, "", &format!("so {}", hook.job.lost()));
        }
    }
    match probe.no_copies() {
        _ if !probe.can_trace() => {}
        None => line(
            &mut page,
            "stacks",
            "copied, with the registers (bpf_task_pt_regs)",
        ),
        Some(reason) => {
            line(&mut page, "stacks", "followed by frame pointers only");
            line(
                &mut page,
                "",
                &format!("refused: bpf_task_pt_regs: {reason}"),
            );
            line(
                &mut page,
                "",
                "so code built without frame pointers, as most is, gives paths of a few frames",
            );
        }
    }
    page
}

fn not_loaded(error: &ProbeError) -> String {
    format!("\nhooks\n  none: {}\n", plain(&error.to_string()))
}

fn line(page: &mut String, name: &str, words: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "  {name:<22} {words}");
}

/// A leak that was found.
struct Proof {
    took: Duration,
    group: Group,
}

/// Leaks a connection in a child process and waits until the report has it.
async fn prove(probe: Probe) -> anyhow::Result<Proof> {
    let leak = Leak::start()?;
    let opened = Instant::now();
    let select = Select {
        pid: vec![leak.child.id()],
        comm: Vec::new(),
        port: vec![leak.port],
        remote: Vec::new(),
        min_age: Duration::ZERO,
        all: false,
    };
    let rules = Rules {
        min_age: select.min_age,
        watching: true,
        traceable: probe.can_trace(),
    };
    let mut observer = Observer::new(probe, select, rules, BUDGET)?;
    loop {
        if let Some(group) = observer.look().await?.groups.pop() {
            return Ok(Proof {
                took: opened.elapsed(),
                group,
            });
        }
        ensure!(
            opened.elapsed() < PATIENCE,
            "a connection that process {} leaks was in no report within {} seconds",
            leak.child.id(),
            PATIENCE.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn proof_section(proof: &anyhow::Result<Proof>) -> String {
    let mut page = String::from("\nproof\n");
    match proof {
        Err(error) => line(
            &mut page,
            "a leak of its own",
            &format!("NOT FOUND: {error:#}"),
        ),
        Ok(Proof { took, group }) => {
            line(
                &mut page,
                "a leak of its own",
                &format!("found after {} ms: {}", took.as_millis(), group.verdict),
            );
            let opener = group.opener.as_ref().map_or_else(
                || "not seen".into(),
                |opener| {
                    format!(
                        "process {}, thread {} ({})",
                        opener.pid,
                        opener.tid,
                        plain(&opener.comm)
                    )
                },
            );
            line(&mut page, "opened by", &opener);
            line(&mut page, "code path", &code_path(group));
        }
    }
    page
}

/// The leak's own functions on the path, of which there are many more.
fn code_path(group: &Group) -> String {
    let Some(origin) = &group.origin else {
        return "not captured".into();
    };
    let own: Vec<_> = origin
        .frames
        .iter()
        .filter(|frame| frame.own)
        .filter_map(|frame| frame.function.as_deref())
        .take(3)
        .map(plain)
        .collect();
    match own.is_empty() {
        true => format!(
            "{} frames, none of them with a name of its own code",
            origin.frames.len()
        ),
        false => format!(
            "{} frames, its own first: {}",
            origin.frames.len(),
            own.join(", ")
        ),
    }
}

/// The child process that leaks. It ends when its standard input does.
struct Leak {
    child: Child,
    port: u16,
}

impl Leak {
    fn start() -> anyhow::Result<Self> {
        let itself = std::env::current_exe().context("the path of tcpleak itself is not known")?;
        let mut child = Command::new(itself)
            .arg("leak-for-doctor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the process that leaks could not be started")?;
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output.take(16)).read_line(&mut said)?;
        }
        let port = said
            .trim()
            .parse()
            .context("the process that leaks did not say its port")?;
        Ok(Self { child, port })
    }
}

impl Drop for Leak {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It was told to end; how it ended tells nothing.
        let _ = self.child.wait();
    }
}
