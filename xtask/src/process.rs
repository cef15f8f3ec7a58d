//! Running other programs: each failure names the command.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Shows the command, runs it to its end and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// Shows the command, runs it to its end with its standard output passed on line by line, and says whether
/// it succeeded.
pub fn watch(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let output = child.stdout.take().context("its output is piped")?;
    for read in BufReader::new(output).split(b'\n') {
        let read = read.with_context(|| format!("cannot read what `{shown}` says"))?;
        let read = String::from_utf8_lossy(&read);
        println!("{read}");
        line(&read);
    }
    Ok(child.wait()?.success())
}

/// Runs the command without a word and returns what it wrote to its standard output, trimmed. A
/// failure carries the last line of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let reason = errors.lines().rev().find(|line| !line.trim().is_empty());
        bail!(
            "`{shown}` failed ({}): {}",
            output.status,
            reason.unwrap_or("no reason given").trim()
        );
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{shown}` wrote something that is not text"))?;
    Ok(text.trim().to_owned())
}

/// A command that will run as root: by itself when this process is root, else by `sudo`, which may
/// ask for a password right now. The environment is kept.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    may_sudo()?;
    let mut command = Command::new("sudo");
    command.args(["--preserve-env", "--"]).arg(program);
    Ok(command)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes sure that `sudo` will not ask again for a while; fails when it may not be used.
pub fn may_sudo() -> Result<()> {
    let allowed = Command::new("sudo").arg("--validate").status();
    ensure!(
        allowed.is_ok_and(|status| status.success()),
        "this needs root: run it as root, or as a user who may use sudo"
    );
    Ok(())
}

/// Where a program is found on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
