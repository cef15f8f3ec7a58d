//! Clients that forget connections.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::Result;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, sockopt},
};

use crate::protocol;

/// Opens `count` connections for every word of the test and forgets them.
pub fn and_forget(to: SocketAddr, count: usize) -> Result<()> {
    allow_descriptors(count as u64 + 64)?;
    protocol::be_ready(&[]);
    loop {
        protocol::forget(open_connections(to, count)?)?;
        protocol::await_word();
    }
}

#[inline(never)]
fn open_connections(to: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(open_connection(to)?);
    }
    Ok(black_box(connections))
}

/// Opens one connection.
#[inline(never)]
pub fn open_connection(to: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(to)?;
    Ok(black_box(connection))
}

fn allow_descriptors(count: u64) -> Result<()> {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.current.map(|current| current.max(count));
    limit.maximum = limit.maximum.map(|maximum| maximum.max(count));
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    Ok(())
}

/// Reads a connection to its end and forgets it.
pub fn and_read_to_the_end(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let mut connection = open_connection(to)?;
    read_to_the_end(&mut connection)?;
    protocol::forget(vec![connection])
}

#[inline(never)]
fn read_to_the_end(connection: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 64];
    while connection.read(&mut bytes)? > 0 {}
    black_box(());
    Ok(())
}

/// Forgets a connection that the kernel probes every second.
pub fn with_keepalive(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let connection = open_connection(to)?;
    sockopt::set_socket_keepalive(&connection, true)?;
    sockopt::set_tcp_keepidle(&connection, Duration::from_secs(1))?;
    sockopt::set_tcp_keepintvl(&connection, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(&connection, 1)?;
    protocol::forget(vec![connection])
}

/// Forgets a connection whose connect() did not wait.
pub fn without_blocking(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    protocol::forget(vec![begin_connection(to)?])
}

#[inline(never)]
fn begin_connection(to: SocketAddr) -> Result<TcpStream> {
    let socket = socket(to, SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut poll = [PollFd::new(&socket, PollFlags::OUT)];
    rustix::event::poll(
        &mut poll,
        Some(&Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        }),
    )?;
    sockopt::socket_error(&socket)??;
    Ok(black_box(TcpStream::from(socket)))
}

/// A TCP socket for connections to `to`.
pub fn socket(to: SocketAddr, flags: SocketFlags, protocol: Option<Protocol>) -> Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        protocol,
    )?)
}

/// Lets one thread for each address open a connection to it, and forgets them all.
pub fn from_threads(to: &[SocketAddr]) -> Result<()> {
    protocol::be_ready(&[]);
    let threads: Vec<_> = to
        .iter()
        .map(|&to| thread::spawn(move || open_in_thread(to)))
        .collect();
    let mut tids = Vec::new();
    let mut connections = Vec::new();
    for thread in threads {
        let (tid, connection) = thread.join().expect("the threads do not panic")?;
        tids.push(tid);
        connections.push(connection);
    }
    protocol::tell(&[("tids", protocol::list(&tids))]);
    protocol::forget(connections)
}

#[inline(never)]
fn open_in_thread(to: SocketAddr) -> io::Result<(i32, TcpStream)> {
    let connection = open_connection(to)?;
    Ok(black_box((
        rustix::thread::gettid().as_raw_pid(),
        connection,
    )))
}

/// Opens and closes `cycles` connections, so that addresses and descriptors are used again, and
/// then forgets one.
pub fn after_many(to: SocketAddr, cycles: usize) -> Result<()> {
    protocol::be_ready(&[]);
    open_and_close(to, cycles)?;
    protocol::forget(vec![open_the_last(to)?])
}

#[inline(never)]
fn open_and_close(to: SocketAddr, cycles: usize) -> io::Result<()> {
    for _ in 0..cycles {
        drop(open_connection(to)?);
    }
    black_box(());
    Ok(())
}

#[inline(never)]
fn open_the_last(to: SocketAddr) -> io::Result<TcpStream> {
    let connection = open_connection(to)?;
    Ok(black_box(connection))
}

/// Forgets a connection of Multipath TCP.
pub fn over_mptcp(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let socket = socket(to, SocketFlags::empty(), Some(ipproto::MPTCP))?;
    rustix::net::connect(&socket, &to)?;
    protocol::forget(vec![TcpStream::from(socket)])
}

/// Sends for as long as it lives, whatever the peer does with its half of the connection.
pub fn and_keep_sending(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let mut connection = open_connection(to)?;
    protocol::tell(&[("fds", protocol::numbers(&[connection.as_fd()]))]);
    while !protocol::is_spoken_to()? {
        connection.write_all(b"still here\n")?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
