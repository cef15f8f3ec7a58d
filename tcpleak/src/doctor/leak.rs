//! A leak to find.

use std::{
    io::{self, BufRead, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::Context as _;

/// The leak itself, in a process of its own: a connection whose peer is gone, held until standard
/// input ends.
pub fn leak() -> anyhow::Result<ExitCode> {
    let held =
        open_and_forget().context("a connection on the loopback interface could not be made")?;
    println!("{}", held.peer_addr()?.port());
    io::stdout().flush()?;
    io::stdin().lock().take(1).read_to_end(&mut Vec::new())?;
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
    /// The port that its connection goes to.
    pub port: u16,
}

impl Leak {
    /// Starts it, and waits until it leaks.
    pub fn start() -> anyhow::Result<Self> {
        let itself = std::env::current_exe().context("the path of tcpleak itself is not known")?;
        let mut child = Command::new(itself)
            .arg("leak-for-doctor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the process that leaks could not be started")?;
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output.take(16)).read_line(&mut said)?;
        }
        let port = said
            .trim()
            .parse()
            .context("the process that leaks did not say its port")?;
        Ok(Self { child, port })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Leak {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It was told to end; how it ended tells nothing.
        let _ = self.child.wait();
    }
}
