//! The process that runs the command, from outside and from inside.
//!
//! It is tcpleak's own program, without rights. An alert comes to it as an open file, which becomes the standard
//! input of the command: however little of it the command reads, nobody waits for that.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::{FdFlags, fcntl_setfd},
    process::Resource,
};
use serde::{Deserialize, Serialize};

use super::hook::Hook;
use crate::{
    confine::{self, Limits},
    message,
};

/// Argument by which tcpleak becomes the process that runs the command.
const RUN_ON_LEAK: &str = "run-on-leak";
/// Longest run of the command.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it may use, and each command that it runs.
const LIMITS: Limits = Limits {
    memory_bytes: 4 << 30,
    descriptors: 1024,
};
/// Largest file that the command may write, its outputs included.
const FILE_BYTES: u64 = 16 << 20;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// There was none yet: the command can be run.
    Ready,
    /// The command succeeded.
    Done,
    /// The command was not run, or what runs it is gone, for this reason.
    NotStarted(String),
    /// The command failed.
    Failed {
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The command took too long, and was ended.
    Endless,
}

/// A way to start the process: a stream to it, and the process to end.
type Start = fn(&[String]) -> io::Result<(UnixStream, Option<Child>)>;

/// The process that runs the command.
pub struct Runner {
    command: Vec<String>,
    start: Start,
    /// None after a failure, until there is another alert.
    process: Option<Process>,
}

struct Process {
    stream: UnixStream,
    child: Option<Child>,
}

impl Runner {
    /// Starts the process, and has it look whether the command can be run.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub fn start(command: Vec<String>) -> anyhow::Result<Self> {
        Self::start_by(start_process, command)
    }

    /// As [`Self::start`], in another way.
    pub fn start_by(start: Start, command: Vec<String>) -> anyhow::Result<Self> {
        let process = Process::start(start, &command).context("the command cannot be run")?;
        Ok(Self {
            command,
            start,
            process: Some(process),
        })
    }

    /// Runs the command with this on its standard input.
    pub fn tell(&mut self, alert: &[u8]) -> Outcome {
        let told = self.process().and_then(|process| process.tell(alert));
        told.unwrap_or_else(|error| {
            self.process = None;
            Outcome::NotStarted(error.to_string())
        })
    }

    fn process(&mut self) -> io::Result<&mut Process> {
        match &mut self.process {
            Some(process) => Ok(process),
            none => Ok(none.insert(Process::start(self.start, &self.command)?)),
        }
    }
}

impl Process {
    fn start(start: Start, command: &[String]) -> io::Result<Self> {
        let (stream, child) = start(command)?;
        let process = Self { stream, child };
        // The command has its time first, and is then ended.
        let timeout = Some(PATIENCE + PATIENCE / 2);
        process.stream.set_read_timeout(timeout)?;
        process.stream.set_write_timeout(timeout)?;
        match process.outcome()? {
            Outcome::Ready => Ok(process),
            Outcome::NotStarted(error) => Err(io::Error::other(error)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn tell(&self, alert: &[u8]) -> io::Result<Outcome> {
        let mut file = File::from(memfd_create("tcpleak-alert", MemfdFlags::CLOEXEC)?);
        file.write_all(alert)?;
        file.rewind()?;
        message::send(&self.stream, &(), Some(file))?;
        self.outcome()
    }

    fn outcome(&self) -> io::Result<Outcome> {
        match message::receive(&self.stream)? {
            Some((outcome, _)) => Ok(outcome),
            None => Err(io::Error::other("the process that runs it has ended")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It ends when nobody talks to it any more, if it is not stuck. One of another user cannot be ended,
            // and must not be waited for.
            let _ = self.stream.shutdown(Shutdown::Both);
            if child.kill().is_ok() {
                let _ = child.wait();
            }
        }
    }
}

/// Starts this very program. A Ctrl-C is not for it.
fn start_process(command: &[String]) -> io::Result<(UnixStream, Option<Child>)> {
    let (here, there) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .args([RUN_ON_LEAK, "--"])
        .args(command)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(there)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((here, Some(child)))
}

/// Becomes the process that runs the command: for every alert on standard input, until that closes.
///
/// # Errors
///
/// When a right cannot be given up, or standard input is not tcpleak's.
pub fn run(command: &[OsString]) -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    keep_descriptors()?;
    confine::limit(Resource::Fsize, FILE_BYTES)?;
    confine::give_up_rights(LIMITS)?;
    serve(&stream, command)
}

/// Runs the command for one alert after the other.
pub(super) fn serve(stream: &UnixStream, command: &[OsString]) -> io::Result<()> {
    let hook = match Hook::find(command) {
        Ok(hook) => hook,
        Err(error) => return answer(stream, &Outcome::NotStarted(error)),
    };
    answer(stream, &Outcome::Ready)?;
    while let Some(((), alert)) = message::receive(stream)? {
        let alert = alert.ok_or(io::ErrorKind::InvalidData)?;
        answer(stream, &hook.run(alert, PATIENCE))?;
    }
    Ok(())
}

fn answer(stream: &UnixStream, outcome: &Outcome) -> io::Result<()> {
    message::send(stream, outcome, None::<BorrowedFd<'_>>)
}

/// Keeps what whoever started tcpleak left open from the command.
fn keep_descriptors() -> io::Result<()> {
    let names = std::fs::read_dir("/proc/self/fd")?;
    let numbers = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok());
    let descriptors: Vec<RawFd> = numbers
        .filter(|number| *number > io::stderr().as_raw_fd())
        .collect();
    for descriptor in descriptors {
        // SAFETY: it is borrowed for this call, and closing it is left to its owner. The one that listed the
        // directory is closed already: then the call fails.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    Ok(())
}
