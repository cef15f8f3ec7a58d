//! Connections that come and go as they should, many in each second, in a network namespace of their own.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Threads that open connections.
const CLIENTS: u32 = 2;
/// Addresses of the servers. Ports are given out for each of them, and TIME_WAIT keeps them for a minute.
const ADDRESSES: u8 = 16;

/// The connections, which come and go until the process ends.
pub struct Churn {
    namespace: File,
    connections: Arc<AtomicU64>,
}

impl Churn {
    /// Starts to open so many connections in each second.
    pub fn start(rate: u32) -> Result<Self> {
        let here = thread::spawn(make_namespace).join();
        let namespace = here.map_err(|_| anyhow::anyhow!("no network namespace"))??;
        let churn = Self {
            namespace,
            connections: Arc::default(),
        };
        let mut servers = Vec::new();
        for number in 1..=ADDRESSES {
            let listener = churn
                .within(move || Ok(TcpListener::bind((Ipv4Addr::new(127, 0, 0, number), 0))?))?;
            servers.push(listener.local_addr()?);
            thread::spawn(move || serve(&listener));
        }
        for _ in 0..CLIENTS {
            let (servers, connections) = (servers.clone(), churn.connections.clone());
            let namespace = churn.namespace.try_clone()?;
            let pause = Duration::from_secs(1) / (rate / CLIENTS);
            thread::spawn(move || {
                if enter(&namespace).is_ok() {
                    open(&servers, pause, &connections);
                }
            });
        }
        Ok(churn)
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Does something in the namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || enter(&self.namespace).and_then(|()| work());
        thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow::anyhow!("a thread in the namespace failed"))?
    }
}

/// Makes a namespace whose sockets may have every port again soon.
fn make_namespace() -> Result<File> {
    // SAFETY: nothing that threads share is unshared but the network.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace; is this root?")?;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(
        status.is_ok_and(|status| status.success()),
        "ip (package iproute2) failed"
    );
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn enter(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Answers each client; every other time it is the first to close.
fn serve(listener: &TcpListener) {
    for (number, client) in listener.incoming().enumerate() {
        // A client that failed is missing in the count of connections.
        let Ok(mut client) = client else { continue };
        let answered = client
            .read_exact(&mut [0; 8])
            .and_then(|()| client.write_all(b"answer"));
        if answered.is_ok() && number % 2 == 0 {
            let _ = client.read(&mut [0; 1]);
        }
    }
}

fn open(servers: &[SocketAddr], pause: Duration, connections: &AtomicU64) {
    let mut next = Instant::now();
    for server in servers.iter().cycle() {
        if ask(server).is_ok() {
            connections.fetch_add(1, Ordering::Relaxed);
        }
        next += pause;
        let now = Instant::now();
        // What was missed while the machine did something else is not made up for.
        next = next.max(now - Duration::from_millis(100));
        thread::sleep(next.saturating_duration_since(now));
    }
}

fn ask(server: &SocketAddr) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(server)?;
    connection.write_all(b"question")?;
    connection.read_exact(&mut [0; 6])
}
