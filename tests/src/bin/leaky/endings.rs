//! Descriptors that outlive their connection, or an attempt at one: some are leaks, some are not.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rustix::{
    io::Errno,
    net::{SocketFlags, sockopt},
};

use crate::{connect, protocol};

/// How long an unanswered segment waits for its acknowledgement, in milliseconds.
const USER_TIMEOUT_MS: u32 = 500;

/// Keeps the descriptor of a connection that was refused.
pub fn refused(to: SocketAddr) -> Result<()> {
    keep_after_failure(to, Errno::CONNREFUSED)
}

/// Keeps the descriptor of a connection that nobody answered.
pub fn timed_out_connecting(to: SocketAddr) -> Result<()> {
    keep_after_failure(to, Errno::TIMEDOUT)
}

fn keep_after_failure(to: SocketAddr, expected: Errno) -> Result<()> {
    protocol::be_ready(&[]);
    let socket = connect::socket(to, SocketFlags::empty(), None)?;
    sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MS)?;
    let outcome = rustix::net::connect(&socket, &to);
    ensure!(
        outcome == Err(expected),
        "connect() to {to} ended with {outcome:?}, not {expected:?}"
    );
    keep(socket)
}

/// Keeps the descriptor of a connection that it dissolved with AF_UNSPEC.
pub fn disconnected(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let socket = OwnedFd::from(connect::open_connection(to)?);
    rustix::net::connect_unspec(&socket)?;
    keep(socket)
}

/// The same, with a pause in which the connection can be seen, and by a socket that has an address of its own
/// where one is given.
pub fn disconnected_later(from: Option<SocketAddr>, to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let socket = connect::socket(to, SocketFlags::empty(), None)?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &from)?;
    }
    rustix::net::connect(&socket, &to)?;
    protocol::tell(&[("connected", "yes".into())]);
    protocol::await_word();
    rustix::net::connect_unspec(&socket)?;
    keep(socket)
}

/// Shuts a connection down after its peer did, waits for the end, and keeps the descriptor.
pub fn shut_down_in_order(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let mut connection = connect::open_connection(to)?;
    protocol::tell(&[("connected", "yes".into())]);
    ensure!(
        connection.read(&mut [0; 64])? == 0,
        "the peer has something to say"
    );
    connection.shutdown(Shutdown::Write)?;
    keep(OwnedFd::from(connection))
}

/// Sends to a peer that has stopped answering until the kernel gives up, and keeps the descriptor.
pub fn timed_out_sending(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let mut connection = connect::open_connection(to)?;
    sockopt::set_tcp_user_timeout(&connection, USER_TIMEOUT_MS)?;
    protocol::tell(&[("connected", "yes".into())]);
    protocol::await_word();
    send_until_timeout(&mut connection)?;
    keep(OwnedFd::from(connection))
}

fn send_until_timeout(connection: &mut TcpStream) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        match connection.write(b"is anybody there?") {
            Ok(_) => thread::sleep(Duration::from_millis(100)),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the peer still answers")
}

fn keep(socket: OwnedFd) -> Result<()> {
    protocol::tell(&[("fds", protocol::numbers(&[socket.as_fd()]))]);
    std::mem::forget(socket);
    Ok(())
}
