//! `tcpleak run`, with a command that the test talks to.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use serde_json::Value;

use super::{
    command, finish, finish_within, fixture::Facts, fixture_binary, lines_of, patience, wait_until,
};

/// Time for a code path to be taken before its process ends; a peer that has been gone for so long counts.
pub fn a_moment() -> Duration {
    patience() / 60
}

/// A command that tcpleak runs. Both end when this value is dropped, the command because its standard input
/// does.
pub struct Run {
    child: Option<Child>,
    words: Option<ChildStdin>,
    lines: Receiver<String>,
    directory: tempfile::TempDir,
}

/// What a run left.
#[derive(Debug)]
pub struct RunEnded {
    /// Exit status of tcpleak.
    pub code: i32,
    /// Standard error.
    pub stderr: String,
    /// The JSON document.
    pub report: Value,
}

impl Run {
    /// Runs `leaky` with these arguments; returns when it is ready.
    #[track_caller]
    pub fn leaky(options: &[&str], arguments: &[&str]) -> Self {
        let leaky = fixture_binary("leaky");
        let program = [leaky.as_os_str()].into_iter();
        let run = Self::start(options, program.chain(arguments.iter().map(OsStr::new)));
        run.facts();
        run
    }

    /// Runs a command, with surveys that come soon.
    pub fn start<'a>(options: &[&str], arguments: impl Iterator<Item = &'a OsStr>) -> Self {
        Self::start_as(options, arguments, |_| {})
    }

    /// As [`Self::start`], with something else that is special about tcpleak's own process.
    pub fn start_as<'a>(
        options: &[&str],
        arguments: impl Iterator<Item = &'a OsStr>,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let mut command = command(&["run", "--interval", "100ms"]);
        if !options.contains(&"--min-age") {
            command.args(["--min-age", "500ms"]);
        }
        command
            .args(options)
            .arg("--json")
            .arg(directory.path().join("report.json"));
        command.arg("--").args(arguments).stdin(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("tcpleak can be started");
        Self {
            words: child.stdin.take(),
            lines: lines_of(child.stdout.take().expect("standard output is piped")),
            child: Some(child),
            directory,
        }
    }

    /// Process id of tcpleak.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was not waited for").id()
    }

    /// The next line that the command writes to standard output.
    #[track_caller]
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(patience()) {
            Ok(line) => line,
            Err(error) => panic!("the command says nothing: {error}"),
        }
    }

    /// The facts on that line.
    #[track_caller]
    pub fn facts(&self) -> Facts {
        Facts::from_line(&self.line())
    }

    /// Lets the command do its next step, and waits for the facts.
    #[track_caller]
    pub fn go(&mut self) -> Facts {
        let words = self
            .words
            .as_mut()
            .expect("the command was not told to leave");
        words.write_all(b"go\n").expect("the command listens");
        self.facts()
    }

    /// Waits for the end, once the command was told to leave.
    #[track_caller]
    pub fn end(mut self) -> RunEnded {
        self.words = None;
        let child = self.child.take().expect("it was not waited for");
        // What runs tests takes its time to start.
        let finished = finish_within(3 * patience(), child);
        let rest: Vec<String> = self.lines.iter().collect();
        assert_eq!(rest, [""; 0], "standard output is the command's alone");
        RunEnded {
            code: finished.code(),
            stderr: finished.stderr,
            report: self.report(),
        }
    }

    /// As [`Self::end`], when processes that the command started run on: they are told to leave once tcpleak
    /// has ended, and have its outputs until then.
    #[track_caller]
    pub fn end_leaving_some(mut self) -> RunEnded {
        let mut child = self.child.take().expect("it was not waited for");
        wait_until("tcpleak ends", || {
            child.try_wait().expect("it is a child").is_some()
        });
        self.words = None;
        let finished = finish(child);
        RunEnded {
            code: finished.code(),
            stderr: finished.stderr,
            report: self.report(),
        }
    }

    /// The document; null when none was written.
    fn report(&self) -> Value {
        let path: PathBuf = self.directory.path().join("report.json");
        let Ok(text) = fs::read_to_string(path) else {
            return Value::Null;
        };
        serde_json::from_str(&text).expect("the report is one document")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.words = None;
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
