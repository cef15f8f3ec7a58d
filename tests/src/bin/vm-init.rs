//! The first process of a virtual machine for tests: mounts what a system has, loads the modules,
//! runs the suites of its plan, writes what they say to a serial port of their own, and switches the
//! machine off.
//!
//! `cargo xtask test --vm` packs it as `/init`, with the system in `/system`:
//!
//! - `/system/vm/modules/*.ko`: loaded first, in any order that they allow.
//! - `/system/vm/environment`: one `NAME=VALUE` on each line.
//! - `/system/vm/plan`: one suite on each line, a name, a program and arguments, between tabs.
//!
//! The port is named by `results=` on the kernel's command line. On it, lines that begin with `##`
//! are this program's: `##BEGIN NAME`, `##END NAME STATUS`, and in the end `##DONE`.

use std::{
    env, fs,
    fs::File,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount, mount_bind, mount_move},
    process::{Pid, WaitOptions, WaitStatus, chdir, chroot, wait},
    system::{RebootCommand, finit_module, reboot},
};

fn main() -> Result<()> {
    if let Err(error) = run() {
        eprintln!("vm-init: {error:#}");
    }
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff).context("switching the machine off")
}

fn run() -> Result<()> {
    enter_system()?;
    mount_all()?;
    load_modules()?;
    // Programs find the loopback device up, as everywhere.
    let mut ip = Command::new("/usr/sbin/ip");
    let up = ip.args(["link", "set", "lo", "up"]).status();
    let up = up.context("running ip")?;
    anyhow::ensure!(up.success(), "ip failed ({up})");
    let port = env::var("results").context("the kernel's command line has no results=")?;
    let mut results = open_port(&port)?;
    let environment = environment()?;
    let plan = fs::read_to_string("/vm/plan").context("reading the plan")?;
    for line in plan.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, program, arguments @ ..] = &words[..] else {
            anyhow::bail!("a suite without a program: {line:?}");
        };
        writeln!(results, "##BEGIN {name}")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(environment.clone());
        command.stdin(Stdio::null());
        command
            .stdout(results.try_clone()?)
            .stderr(results.try_clone()?);
        let status = run_to_end(&mut command)?;
        writeln!(results, "##END {name} {status}")?;
    }
    writeln!(results, "##DONE")?;
    results.flush()?;
    Ok(())
}

/// Makes `/system` the root, as a mount of its own: the root of an initramfs is none that programs
/// could leave for another.
fn enter_system() -> Result<()> {
    mount_bind("/system", "/system").context("mounting /system on itself")?;
    chdir("/system")?;
    mount_move(".", "/").context("moving /system to the root")?;
    chroot(".").context("entering /system")?;
    Ok(chdir("/")?)
}

fn mount_all() -> Result<()> {
    // Not /tmp: what the tests look for may lie below it, and all of this is in memory as it is.
    const WANTED: [(&str, &str); 9] = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/run"),
        ("tracefs", "/sys/kernel/tracing"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
    ];
    for (kind, place) in WANTED {
        if !place.starts_with("/sys/") {
            fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        }
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {kind} on {place}"))?;
    }
    symlink("/proc/self/fd", "/dev/fd").context("linking /dev/fd")
}

/// Loads the modules in an order that works: one that needs another fails until that is there.
fn load_modules() -> Result<()> {
    let mut waiting: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("/vm/modules").context("reading /vm/modules")? {
        waiting.push(entry?.path());
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut failures = Vec::new();
        waiting.retain(|path| match load_module(path) {
            Ok(()) | Err(Errno::EXIST) => false,
            Err(error) => {
                failures.push(format!("{}: {error}", path.display()));
                true
            }
        });
        anyhow::ensure!(waiting.len() < before, "modules: {}", failures.join(", "));
    }
    Ok(())
}

fn load_module(path: &Path) -> Result<(), Errno> {
    let file =
        File::open(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    finit_module(&file, c"", 0)
}

fn open_port(name: &str) -> Result<File> {
    let path = Path::new("/dev").join(name);
    let port = File::options().write(true).open(&path);
    port.with_context(|| format!("opening {}", path.display()))
}

fn environment() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string("/vm/environment").context("reading the environment")?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Runs a program, and meanwhile and by the way buries every process whose parent is gone, as the
/// first process has to.
fn run_to_end(command: &mut Command) -> Result<String> {
    let child = command.spawn();
    let child = child.with_context(|| format!("starting {:?}", command.get_program()))?;
    let child = Pid::from_child(&child);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(said(status)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for a suite"),
        }
    }
}

fn said(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "neither exit nor signal".to_owned(),
    }
}
