//! A tcpleak that serves, and questions to it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Child,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{command, lines_of, patience, wait_until};

/// A tcpleak that serves. It is killed when this value is dropped.
pub struct Serving {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    url: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, as they came.
    pub headers: String,
    /// Body.
    pub body: String,
}

impl Serving {
    /// Serves on some port of this host, with surveys that come soon; returns when it listens.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        Self::start_with(&[], options)
    }

    /// As [`Self::start`], with these environment variables.
    #[track_caller]
    pub fn start_with(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let mut command = command(&["serve", "--interval", "200ms", "--budget", "50%"]);
        if !options.contains(&"--min-age") {
            command.args(["--min-age", "500ms"]);
        }
        if !options.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command
            .envs(environment.iter().copied())
            .args(options)
            .spawn()
            .expect("tcpleak can be started");
        let lines = lines_of(child.stderr.take().expect("standard error is piped"));
        let mut serving = Self {
            child,
            lines,
            said: Vec::new(),
            url: String::new(),
        };
        let line = serving.wait_for_line("listening on ");
        let (_, url) = line.split_once("listening on ").expect("it is in the line");
        serving.url = url.to_owned();
        serving
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves, as a URL without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        let (_, address) = self.url.split_once("://").expect("a URL has a scheme");
        address.parse().expect("it is told by its address")
    }

    /// Waits for a line on standard error with this text.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("waited in vain for {text:?}: {:#?}", self.said)
                }
            }
        }
    }

    /// Asks for a path in clear text.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Sends a request as it is, and reads the answer to its end.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .expect("it answers and closes");
        Answer::parse(&bytes)
    }

    /// A connection to it on which nothing was sent yet.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("it listens");
        stream
            .set_read_timeout(Some(patience()))
            .expect("a time-out can be set");
        stream
    }

    /// Waits until there were so many more surveys.
    #[track_caller]
    pub fn wait_for_surveys(&self, more: u32) {
        let surveys = || self.get("/metrics").metric("tcpleak_surveys_total", &[]);
        let start = surveys().unwrap_or_default();
        wait_until("tcpleak goes on with its surveys", || {
            surveys() >= Some(start + f64::from(more))
        });
    }

    /// Waits for a report that is as wanted.
    #[track_caller]
    pub fn wait_for_report(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        wait_until(what, || {
            let answer = self.get("/report.json");
            if answer.status == 200 {
                found = answer.document();
            }
            answer.status == 200 && wanted(&found)
        });
        found
    }

    /// Ends it as a supervisor does, and returns its exit status.
    #[track_caller]
    pub fn terminate(&mut self) -> i32 {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("tcpleak runs");
        let mut status = None;
        wait_until("tcpleak ends", || {
            status = self.child.try_wait().expect("it is a child of the test");
            status.is_some()
        });
        let status = status.expect("it has ended");
        status
            .code()
            .unwrap_or_else(|| panic!("{status} ended tcpleak"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    #[track_caller]
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (headers, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = headers.split(' ').nth(1).expect("there is a status");
        Self {
            status: status.parse().expect("it is a number"),
            headers: headers.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The body as a JSON document.
    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The number in the line that begins with a metric and has all of these labels; none when there is no
    /// such line.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let line = self.body.lines().find(|line| {
            let rest = line.strip_prefix(name);
            let whole = rest.is_some_and(|rest| rest.starts_with(['{', ' ']));
            whole && labels.iter().all(|label| line.contains(label))
        })?;
        let (_, number) = line.rsplit_once(' ').expect("a line ends with a number");
        Some(number.parse().expect("it is a number"))
    }
}
