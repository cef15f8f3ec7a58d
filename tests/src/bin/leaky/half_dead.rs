//! Connections that the program alone does not leak, and that nothing ends soon.

use std::{
    hint::black_box,
    io::{self, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use anyhow::Result;
use rustix::{io::Errno, net::SocketFlags};

use crate::{connect, protocol};

/// Asks something on so many connections, shuts its half of them down, and forgets them.
pub fn ask_and_forget(to: SocketAddr, count: usize) -> Result<()> {
    protocol::be_ready(&[]);
    let mut asked = Vec::new();
    for _ in 0..count {
        asked.push(ask(to)?);
    }
    protocol::forget(asked)
}

#[inline(never)]
fn ask(to: SocketAddr) -> io::Result<TcpStream> {
    let mut connection = connect::open_connection(to)?;
    connection.write_all(b"ask")?;
    connection.shutdown(Shutdown::Write)?;
    Ok(black_box(connection))
}

/// Sends more than a peer that does not read can take, on so many connections, and closes them.
pub fn send_and_close(to: SocketAddr, count: usize) -> Result<()> {
    protocol::be_ready(&[]);
    for _ in 0..count {
        fill(to)?;
    }
    protocol::tell(&[("closed", count.to_string())]);
    Ok(())
}

#[inline(never)]
fn fill(to: SocketAddr) -> io::Result<()> {
    let mut connection = connect::open_connection(to)?;
    connection.set_nonblocking(true)?;
    let full = loop {
        if let Err(error) = connection.write(&[b'x'; 65_536]) {
            break error;
        }
    };
    match full.kind() {
        ErrorKind::WouldBlock => black_box(Ok(())),
        _ => Err(full),
    }
}

/// Begins so many connections for every word of the test, and never looks at them again.
pub fn begin_and_forget(to: SocketAddr, count: usize) -> Result<()> {
    protocol::be_ready(&[]);
    loop {
        let mut begun = Vec::new();
        for _ in 0..count {
            begun.push(begin(to)?);
        }
        protocol::forget(begun)?;
        protocol::await_word();
    }
}

#[inline(never)]
fn begin(to: SocketAddr) -> Result<TcpStream> {
    let socket = connect::socket(to, SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &to) {
        Err(Errno::INPROGRESS) => Ok(black_box(TcpStream::from(socket))),
        outcome => anyhow::bail!("connect() to {to} ended with {outcome:?} at once"),
    }
}
