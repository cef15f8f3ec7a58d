//! A leak to find.

use std::{
    io::{self, Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
};

use anyhow::Context as _;

/// The leak itself, in a process of its own: a connection whose peer is gone, opened when there is a line on
/// standard input, and held until that ends.
pub fn leak() -> anyhow::Result<ExitCode> {
    let mut words = io::stdin().lock().take(2);
    words.read_exact(&mut [0])?;
    let held =
        open_and_forget().context("a connection on the loopback interface could not be made")?;
    words.read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

/// The function that the proof must name. Connects to a listener that hangs up at once.
#[inline(never)]
fn open_and_forget() -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let held = TcpStream::connect(listener.local_addr()?)?;
    drop(listener.accept()?);
    // The end of file that a program ignores. The work after the call keeps this function on the
    // stack while the call runs.
    io::copy(&mut &held, &mut io::sink())?;
    Ok(held)
}

/// The child process that leaks. It ends when its standard input does.
pub struct Leak {
    child: Child,
    words: Option<ChildStdin>,
}

impl Leak {
    /// Starts it. It does nothing yet.
    pub fn start() -> anyhow::Result<Self> {
        let itself = std::env::current_exe().context("the path of tcpleak itself is not known")?;
        let mut child = Command::new(itself)
            .arg("leak-for-doctor")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("the process that leaks could not be started")?;
        Ok(Self {
            words: child.stdin.take(),
            child,
        })
    }

    /// Has it leak.
    pub fn begin(&mut self) -> io::Result<()> {
        match &mut self.words {
            Some(words) => words.write_all(b"\n"),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Leak {
    fn drop(&mut self) {
        drop(self.words.take());
        // It was told to end; how it ended tells nothing.
        let _ = self.child.wait();
    }
}
