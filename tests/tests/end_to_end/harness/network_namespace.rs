//! Network namespaces, made and deleted with iproute2.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    panic,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::installed;

/// A network namespace with loopback up. It is deleted when this value is dropped.
pub struct NetworkNamespace {
    name: String,
}

impl NetworkNamespace {
    /// Makes one.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpleak-test-{}-{number}", process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Makes one in which a socket in TIME_WAIT stays its minute. Otherwise, on a busy host, a FIN that is
    /// sent once more in vain has the peer reset what waits, and a new connection may take its port.
    pub fn that_keeps_time_wait() -> Self {
        let namespace = Self::new();
        namespace.set("tcp_rfc1337", "1");
        namespace.set("tcp_tw_reuse", "0");
        namespace
    }

    /// Runs `ip` with these arguments inside the namespace.
    pub fn ip(&self, arguments: &str) {
        let prefix = ["-n", &self.name];
        ip(&prefix
            .into_iter()
            .chain(arguments.split(' '))
            .collect::<Vec<_>>());
    }

    /// Sets a value of `net.ipv4` in the namespace.
    pub fn set(&self, name: &str, value: &str) {
        self.enter(|| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        });
    }

    /// Sockets of the namespace that are in TIME_WAIT, as the kernel tells them.
    pub fn time_wait(&self) -> usize {
        const TIME_WAIT: &str = "06";
        self.enter(|| {
            let tables = ["tcp", "tcp6"].map(|name| {
                std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))
                    .expect("there is a table")
            });
            let lines = tables.iter().flat_map(|table| table.lines());
            let state = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
            lines
                .filter(|line| state(line).as_deref() == Some(TIME_WAIT))
                .count()
        })
    }

    /// Lets whatever is sent from the namespace to this address in 10.99.0.0/24 vanish.
    pub fn swallow(&self, address: &str) {
        self.ip("link add outside type veth peer name nowhere");
        self.ip("link set outside up");
        self.ip("link set nowhere up");
        self.ip("address add 10.99.0.1/24 dev outside");
        self.ip(&format!(
            "neighbour add {address} lladdr 02:00:00:00:00:99 dev outside"
        ));
    }

    /// Runs a function inside the namespace. What it opens or starts there stays there.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                let namespace = self.file();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a network namespace");
                inside()
            });
            visitor
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Its inode number, by which reports call it.
    pub fn inode(&self) -> u64 {
        self.file()
            .metadata()
            .expect("an open file has metadata")
            .ino()
    }

    fn file(&self) -> File {
        let path = format!("/run/netns/{}", self.name);
        File::open(&path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"))
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new(installed("ip", "iproute2"))
        .args(arguments)
        .output();
    let output = output.unwrap_or_else(|error| panic!("cannot run ip: {error}"));
    if !output.status.success() && !thread::panicking() {
        panic!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
