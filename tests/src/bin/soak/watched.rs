//! The tcpleak that is watched while it watches.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tcpleak that serves, as it does by default.
pub struct Watched {
    child: Child,
    address: String,
}

/// What it measures.
pub struct Metrics(String);

impl Watched {
    /// Starts it; returns when there was a survey.
    pub fn start(tcpleak: &str) -> Result<Self> {
        let mut child = Command::new(tcpleak)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{tcpleak} could not be started"))?;
        let mut errors = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut line = String::new();
        errors.read_line(&mut line)?;
        let (_, address) = line
            .trim_end()
            .split_once("listening on http://")
            .with_context(|| format!("tcpleak does not serve: {line}"))?;
        let watched = Self {
            child,
            address: address.to_owned(),
        };
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        while watched.get("/readyz")?.is_none() {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(watched)
    }

    /// What it measures now.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(self.get("/metrics")?.context("no metrics")?))
    }

    /// The body of the answer; none when it is not ready.
    fn get(&self, path: &str) -> Result<Option<String>> {
        let mut stream = TcpStream::connect(&self.address).context("tcpleak does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (headers, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        if headers.starts_with("HTTP/1.1 503") {
            return Ok(None);
        }
        ensure!(headers.starts_with("HTTP/1.1 200"), "{path}: {headers}");
        Ok(Some(body.to_owned()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Metrics {
    /// The number of a metric without labels.
    pub fn value(&self, name: &str) -> Result<f64> {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("{name} is not measured"))?;
        line.parse().with_context(|| format!("{name} is no number"))
    }

    /// The connections that processes of this name leak.
    pub fn leaked(&self, process: &str) -> f64 {
        let label = format!("process=\"{process}\"");
        self.0
            .lines()
            .filter(|line| line.starts_with("tcpleak_leaked_connections{") && line.contains(&label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}
