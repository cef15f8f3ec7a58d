//! Programs that leak, and the conversation with them.

use std::{
    collections::HashMap,
    io::Write,
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    str::FromStr,
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use super::{fixture_binary, lines_of, patience};

/// A running program that leaks when it is told to. It ends when this value is dropped.
pub struct Fixture {
    child: Child,
    words: Option<ChildStdin>,
    lines: Receiver<String>,
    ready: Facts,
}

impl Fixture {
    /// Starts `leaky` with these arguments and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_program(Command::new(fixture_binary("leaky")).args(arguments))
    }

    /// Starts any program that speaks as `leaky` does.
    pub fn start_program(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        let words = child.stdin.take();
        let lines = lines_of(child.stdout.take().expect("standard output is piped"));
        let mut fixture = Self {
            child,
            words,
            lines,
            ready: Facts::default(),
        };
        fixture.ready = fixture.facts();
        fixture
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process id, as an argument.
    pub fn pid_text(&self) -> String {
        self.pid().to_string()
    }

    /// What it told when it was ready.
    pub fn ready(&self) -> &Facts {
        &self.ready
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.ready.one("address")
    }

    /// Lets it do its next step, without waiting for it.
    pub fn tell(&mut self) {
        let words = self
            .words
            .as_mut()
            .expect("the fixture was not told to leave");
        words.write_all(b"go\n").expect("the fixture listens");
    }

    /// Waits for the facts that it tells when it has done a step.
    #[track_caller]
    pub fn facts(&mut self) -> Facts {
        match self.lines.recv_timeout(patience()) {
            Ok(line) => Facts::from_line(&line),
            Err(error) => panic!("the fixture {} says nothing: {error}", self.child.id()),
        }
    }

    /// Lets it do its next step and waits for the facts.
    #[track_caller]
    pub fn go(&mut self) -> Facts {
        self.tell();
        self.facts()
    }

    /// Tells it to leave. It may have a last word, see [`Self::facts`].
    pub fn dismiss(&mut self) {
        self.words = None;
    }

    /// Ends it as the kernel ends a process that is out of memory.
    pub fn kill(&mut self) {
        self.child
            .kill()
            .expect("the fixture is a child of the test");
        self.child
            .wait()
            .expect("the fixture is a child of the test");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.dismiss();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Whatever fails here: the program has a time limit of its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a fixture tells on one line: `pid 4242 fds 3,4,5`.
#[derive(Debug, Default)]
pub struct Facts(HashMap<String, String>);

impl Facts {
    pub(super) fn from_line(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let pairs = words.chunks_exact(2);
        assert!(pairs.remainder().is_empty(), "the fixture said {line:?}");
        Self(
            pairs
                .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
                .collect(),
        )
    }

    /// A fact.
    #[track_caller]
    pub fn one<T: FromStr>(&self, key: &str) -> T {
        let value = self.0.get(key).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("there is no fact {key:?} of this kind among {:?}", self.0))
    }

    /// A fact that is a list.
    #[track_caller]
    pub fn list<T: FromStr>(&self, key: &str) -> Vec<T> {
        let text: String = self.one(key);
        let items: Option<Vec<T>> = text.split(',').map(|item| item.parse().ok()).collect();
        items.unwrap_or_else(|| panic!("the fact {key:?} is no list of this kind: {text:?}"))
    }
}
