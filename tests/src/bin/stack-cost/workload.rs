//! Programs that make connections as they are told to: a line in, work, a line out.

use std::{
    fmt::Display,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::native;

/// A program that makes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one, in Rust and optimised.
    Native,
    /// Debian's Python, or another.
    Python,
    /// A Java that compiles a source file by itself.
    Java,
    /// Node.
    Node,
}

impl Program {
    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "Rust",
            Self::Python => "Python",
            Self::Java => "Java",
            Self::Node => "Node",
        }
    }

    /// How to start it; none when it is missing on this host.
    fn command(self) -> anyhow::Result<Option<Command>> {
        let (program, script) = match self {
            Self::Native => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(native::WORKLOAD);
                return Ok(Some(command));
            }
            // A wrapper of another that stands before it on PATH would be measured instead.
            Self::Python if Path::new("/usr/bin/python3").exists() => {
                (Some("/usr/bin/python3".into()), "workload.py")
            }
            Self::Python => (installed("python3"), "workload.py"),
            Self::Java => (installed("java"), "Workload.java"),
            Self::Node => (installed("node"), "workload.js"),
        };
        Ok(program.map(|program| {
            let mut command = Command::new(program);
            let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stacks");
            command.arg(scripts.join(script));
            command
        }))
    }
}

/// A program that runs. It ends when this value is dropped.
pub struct Workload {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Workload {
    /// Starts a program and waits until it is ready; none when it is missing on this host.
    pub fn start(program: Program, to: SocketAddr) -> anyhow::Result<Option<Self>> {
        let Some(mut command) = program.command()? else {
            return Ok(None);
        };
        let mut child = command
            .arg(to.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} could not be started", program.name()))?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut workload = Self {
            child,
            orders,
            answers,
        };
        workload.wait()?;
        Ok(Some(workload))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something, and waits until it is done.
    pub fn order(&mut self, order: impl Display) -> anyhow::Result<()> {
        writeln!(self.orders, "{order}")?;
        self.wait()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.trim() == "done", "the program failed: {line:?}");
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is found.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let usual = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
