//! tcpleak under test: watching while a story unfolds, or running from its start to its end.

use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Fixture, lines_of, patience, tcpleak_binary};

/// The command tcpleak with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(tcpleak_binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs tcpleak with these arguments to its end.
#[track_caller]
pub fn run(arguments: &[&str]) -> Finished {
    finish(command(arguments).spawn().expect("tcpleak can be started"))
}

/// Has tcpleak end as Ctrl-C does.
#[track_caller]
pub fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("tcpleak runs");
}

/// Waits for the end of a process, and returns what it wrote to its piped outputs.
#[track_caller]
pub fn finish(child: Child) -> Finished {
    finish_within(patience(), child)
}

/// As [`finish`], for what takes its time.
#[track_caller]
pub fn finish_within(patience: Duration, mut child: Child) -> Finished {
    let stdout = child.stdout.take().map(text_of);
    let stderr = child.stderr.take().map(text_of);
    let status = wait_for_end(patience, &mut child);
    let read = |text: Option<JoinHandle<String>>| {
        text.map(|text| text.join().expect("the output is UTF-8"))
            .unwrap_or_default()
    };
    Finished {
        status,
        stdout: read(stdout),
        stderr: read(stderr),
    }
}

fn text_of(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("the output is UTF-8")
    })
}

#[track_caller]
fn wait_for_end(patience: Duration, child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait().expect("tcpleak is a child of the test") {
            return status;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // The message below matters more than an error here.
    let _ = child.kill();
    let _ = child.wait();
    panic!("tcpleak did not end within {patience:?}");
}

/// What a run left.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit status; fails when a signal ended the run.
    #[track_caller]
    pub fn code(&self) -> i32 {
        let code = self.status.code();
        code.unwrap_or_else(|| panic!("signal {:?} ended tcpleak: {self:?}", self.status.signal()))
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn document(&self) -> Value {
        let document = serde_json::from_str(&self.stdout);
        document.unwrap_or_else(|error| panic!("standard output is no JSON ({error}): {self:?}"))
    }
}

/// A tcpleak that watches. It is killed when this value is dropped.
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    reports: Vec<Value>,
}

impl Tracer {
    /// Watches the connections of one program; returns when tracing has begun.
    #[track_caller]
    pub fn of(fixture: &Fixture) -> Self {
        Self::watch(&["--pid", &fixture.pid_text()])
    }

    /// Watches with these options, and with quick ones where they say nothing; returns when
    /// tracing has begun, because then there is a first report.
    #[track_caller]
    pub fn watch(options: &[&str]) -> Self {
        Self::watch_with(&[], options)
    }

    /// As [`Self::watch`], with these environment variables.
    #[track_caller]
    pub fn watch_with(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let mut command = command(&["--format", "ndjson"]);
        command.envs(environment.iter().copied()).args(options);
        // The tests share few cores, and each wants its surveys soon. The last option ends tcpleak
        // when the tests were killed before they could.
        for (option, value) in [
            ("--interval", "200ms"),
            ("--budget", "50%"),
            ("--min-age", "500ms"),
            ("--duration", "110s"),
        ] {
            if !options.contains(&option) {
                command.args([option, value]);
            }
        }
        Self::start(command)
    }

    /// Watches ports; returns when tracing has begun.
    #[track_caller]
    pub fn of_ports() -> Self {
        Self::start(command(&[
            "time-wait",
            "--format",
            "ndjson",
            "--interval",
            "200ms",
            "--budget",
            "50%",
            "--duration",
            "110s",
        ]))
    }

    #[track_caller]
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("tcpleak can be started");
        let lines = lines_of(child.stdout.take().expect("standard output is piped"));
        let errors = Some(text_of(
            child.stderr.take().expect("standard error is piped"),
        ));
        let mut tracer = Self {
            child,
            lines,
            errors,
            reports: Vec::new(),
        };
        if !tracer.receive(Instant::now() + patience()) {
            tracer.fail("there is no first report");
        }
        tracer
    }

    /// Process id of tcpleak.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The report that came first.
    pub fn first_report(&self) -> &Value {
        &self.reports[0]
    }

    /// Every report that has come.
    pub fn reports(&self) -> &[Value] {
        &self.reports
    }

    /// Waits for a report in which a group is as wanted, and returns that group.
    #[track_caller]
    pub fn wait_for_group(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_group_within(patience(), what, wanted)
    }

    /// As [`Self::wait_for_group`], for what takes its time.
    #[track_caller]
    pub fn wait_for_group_within(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_for(patience, what, |report| {
            super::groups(report).find(|group| wanted(group)).cloned()
        })
    }

    /// Waits for a report that is as wanted, the latest one included, and returns it.
    #[track_caller]
    pub fn wait_for_report(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_report_within(patience(), what, wanted)
    }

    /// As [`Self::wait_for_report`], for what takes its time.
    #[track_caller]
    pub fn wait_for_report_within(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_for(patience, what, |report| {
            wanted(report).then(|| report.clone())
        })
    }

    /// Waits until there is something in a report, the latest one included, and returns that.
    #[track_caller]
    fn wait_for(
        &mut self,
        patience: Duration,
        what: &str,
        find: impl Fn(&Value) -> Option<Value>,
    ) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = find(&self.reports[self.reports.len() - 1]) {
                return found;
            }
            if !self.receive(deadline) {
                self.fail(&format!("waited {patience:?} in vain for {what}"));
            }
        }
    }

    /// Waits until a leak of this many connections is reported.
    #[track_caller]
    pub fn wait_for_leak_of(&mut self, count: usize) -> Value {
        let what = format!("a leak of {count} connections");
        self.wait_for_group(&what, |group| {
            group["leak"] == true && group["count"] == count
        })
    }

    /// Waits until a leak of one connection is reported with the code path that opened it.
    #[track_caller]
    pub fn wait_for_leak_with_origin(&mut self) -> Value {
        self.wait_for_group("a leak with its code path", |group| {
            group["leak"] == true && group["count"] == 1 && !group["origin"].is_null()
        })
    }

    /// Waits until a leak of this many connections is reported with the code that is to blame.
    #[track_caller]
    pub fn wait_for_titled_leak_of(&mut self, count: usize) -> Value {
        let what = format!("a leak of {count} connections, and a function that is to blame");
        self.wait_for_group(&what, |group| {
            group["leak"] == true && group["count"] == count && !super::title(group).is_empty()
        })
    }

    /// The verdict and the count of each leak, report by report.
    pub fn leaks_over_time(&self) -> Vec<Vec<String>> {
        let told = |report: &Value| {
            let leaks = super::groups(report).filter(|group| group["leak"] == true);
            leaks
                .map(|leak| format!("{} {}", leak["verdict"], leak["count"]))
                .collect()
        };
        self.reports.iter().map(told).collect()
    }

    /// Goes on watching for a time.
    pub fn watch_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.receive(deadline) {}
    }

    /// Ends tcpleak as Ctrl-C does, and returns what it left; the final report is the last one.
    #[track_caller]
    pub fn interrupt(self) -> Ended {
        interrupt(&self.child);
        self.end()
    }

    /// Waits for tcpleak to end by itself.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = wait_for_end(patience(), &mut self.child);
        self.watch_for(patience());
        let code = status
            .code()
            .unwrap_or_else(|| panic!("{status} ended tcpleak"));
        let reports = std::mem::take(&mut self.reports);
        Ended {
            code,
            reports,
            stderr: self.read_errors(),
        }
    }

    /// Takes the next report; says whether there was one before the deadline.
    #[track_caller]
    fn receive(&mut self, deadline: Instant) -> bool {
        let time = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(time) {
            Ok(line) => {
                let report = serde_json::from_str(&line);
                self.reports
                    .push(report.unwrap_or_else(|error| panic!("{error} in {line:?}")));
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }

    #[track_caller]
    fn fail(&mut self, what: &str) -> ! {
        // It may have ended already: then there is nothing to kill, and its errors are complete.
        let _ = self.child.kill();
        let errors = self.read_errors();
        let times: Vec<&str> = self
            .reports
            .iter()
            .filter_map(|report| report["taken_at"].as_str())
            .collect();
        let last = self.reports.last().unwrap_or(&Value::Null);
        panic!("{what}\nlast report: {last:#}\nreports at: {times:#?}\nstandard error: {errors}");
    }

    fn read_errors(&mut self) -> String {
        let errors = self.errors.take().expect("the errors are read once");
        errors.join().expect("the output is UTF-8")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a tcpleak that watched left.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub code: i32,
    /// Every report, the final one last.
    pub reports: Vec<Value>,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// The final report.
    pub fn last(&self) -> &Value {
        self.reports.last().expect("there was a first report")
    }
}
