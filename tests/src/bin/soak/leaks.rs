//! Leaks that come and go.

use std::{
    fs,
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};

use crate::churn::Churn;

/// Name of the processes that leak: that of this program.
pub const NAME: &str = "soak";

/// Connections that are leaked.
pub struct Leaks {
    churn: Arc<Churn>,
    server: SocketAddr,
    held: Vec<TcpStream>,
}

/// A process that leaks.
pub struct Process(Child);

impl Leaks {
    /// None yet. Their server closes every connection at once.
    pub fn new(churn: Arc<Churn>) -> Result<Self> {
        let listener = churn.within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let server = listener.local_addr()?;
        thread::spawn(move || listener.incoming().for_each(drop));
        Ok(Self {
            churn,
            server,
            held: Vec::new(),
        })
    }

    /// Leaks so many more.
    pub fn hold(&mut self, count: usize) -> Result<()> {
        let server = self.server;
        self.held
            .extend(self.churn.within(move || open_and_forget(server, count))?);
        Ok(())
    }

    /// Has a process leak so many.
    pub fn start_process(&self, count: usize) -> Result<Process> {
        let server = self.server.to_string();
        let start = move || {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["leak", &server, &count.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut ready = [0; 6];
            let mut output = child.stdout.take().context("standard output is piped")?;
            output
                .read_exact(&mut ready)
                .context("the process that leaks failed")?;
            Ok(Process(child))
        };
        self.churn.within(start)
    }

    /// Closes those that this process holds.
    pub fn repair(&mut self) {
        self.held.clear();
    }

    /// How many there are by the kernel: clients of the server in CLOSE_WAIT.
    pub fn in_kernel(&self) -> Result<usize> {
        let port = format!(":{:04X}", self.server.port());
        self.churn.within(move || {
            let sockets = fs::read_to_string("/proc/thread-self/net/tcp")?;
            let mut leaked = 0;
            for socket in sockets.lines().skip(1) {
                let fields: Vec<&str> = socket.split_whitespace().collect();
                if let [_, _, remote, "08", ..] = fields[..]
                    && remote.ends_with(&port)
                {
                    leaked += 1;
                }
            }
            Ok(leaked)
        })
    }
}

impl Process {
    /// Ends it; nothing else closes what it holds.
    pub fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait()?;
        Ok(())
    }
}

/// Is the process that leaks: until standard input ends.
pub fn abandon(server: &str, count: usize) -> Result<()> {
    let _held = open_and_forget(server.parse()?, count)?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    std::process::exit(0)
}

fn open_and_forget(server: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut connection = TcpStream::connect(server)?;
        connection.read_to_end(&mut Vec::new())?;
        held.push(connection);
    }
    Ok(held)
}
