//! `cargo xtask demo`: tcpleak at work on a program that leaks.

mod java;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process;
use crate::test::{END_TO_END, build_tcpleak};
use crate::workspace::Workspace;

/// How long tcpleak is given to attach before the crawler may open its first connection.
const ATTACHING: Duration = Duration::from_secs(2);

/// Status with which tcpleak ends when it found leaks.
const LEAKS_FOUND: i32 = 3;

/// Longest first line that the crawler may write, in bytes.
const LONGEST_LINE: u64 = 64;

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub struct Arguments {
    /// A crawler in Java, whose pages Apache has not, in place of the one in Rust
    #[arg(long)]
    java: bool,
}

/// Builds both programs, lets one watch the other and fails unless the leak is found.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let tcpleak = build_tcpleak(workspace)?;
    let mut tracer = process::as_root(tcpleak).context("tcpleak loads programs into the kernel")?;
    if arguments.java {
        let apache = java::Apache::start(&workspace.target)?;
        show(&mut tracer, &mut java::crawler(&workspace.target, &apache)?)
    } else {
        show(&mut tracer, &mut crawler(workspace)?)
    }
}

/// Builds the crawler in Rust.
fn crawler(workspace: &Workspace) -> Result<Command> {
    process::run(workspace.cargo().args([
        "build",
        "--package",
        END_TO_END,
        "--bin",
        "leaky-crawler",
    ]))?;
    let mut crawler = Command::new(workspace.target.join("debug/leaky-crawler"));
    crawler.arg("--wait");
    Ok(crawler)
}

/// Lets one program watch the other and fails unless the leak is found.
fn show(tracer: &mut Command, crawler: &mut Command) -> Result<()> {
    let mut crawler = crawler
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the crawler")?;
    let found = watch(tracer, &mut crawler);
    // Its standard input closes here, which ends it; if it does not listen any more, kill() does.
    drop(crawler.stdin.take());
    thread::sleep(Duration::from_millis(100));
    let _ = crawler.kill();
    crawler.wait().context("cannot wait for the crawler")?;

    ensure!(
        found?,
        "tcpleak did not find the crawler's leak: `sudo tcpleak doctor` says what works on this host"
    );
    println!();
    println!(
        "The crawler forgets connections; their peers are gone, their descriptors are still held."
    );
    println!(
        "The code path above names the function that opened them: that is where a close is missing."
    );
    Ok(())
}

/// Starts tcpleak on the crawler, then lets the crawler leak. Says whether a leak was found.
fn watch(tracer: &mut Command, crawler: &mut Child) -> Result<bool> {
    let pid = announced_pid(crawler)?;
    tracer.args(["--pid", &pid, "--min-age", "2s", "--duration", "8s"]);
    let mut tracer = tracer.spawn().context("cannot start tcpleak")?;
    thread::sleep(ATTACHING);
    let mut crawler = crawler
        .stdin
        .as_ref()
        .context("the crawler has no standard input")?;
    let told = crawler.write_all(b"go\n");
    let status = tracer.wait().context("cannot wait for tcpleak")?;
    told.context("the crawler ended before it was told to start")?;
    match status.code() {
        Some(LEAKS_FOUND) => Ok(true),
        Some(0) => Ok(false),
        _ => bail!("tcpleak failed ({status})"),
    }
}

/// The crawler's first line is `pid N`.
fn announced_pid(crawler: &mut Child) -> Result<String> {
    let output = crawler
        .stdout
        .as_mut()
        .context("the crawler has no standard output")?;
    let mut line = String::new();
    BufReader::new(output.take(LONGEST_LINE))
        .read_line(&mut line)
        .context("reading from the crawler")?;
    parse_pid(&line).with_context(|| format!("the crawler said {line:?} instead of its pid"))
}

fn parse_pid(line: &str) -> Option<String> {
    let pid = line.strip_prefix("pid ")?.trim_end().parse::<u32>().ok()?;
    Some(pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_pid() {
        assert_eq!(parse_pid("pid 4711\n").as_deref(), Some("4711"));
    }

    #[test]
    fn any_other_line_names_no_pid() {
        for line in ["", "4711", "pid ", "pid -1", "pid 1 --all"] {
            assert_eq!(parse_pid(line), None, "{line:?}");
        }
    }
}
