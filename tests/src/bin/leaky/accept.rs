//! Servers that forget connections.

use std::{
    hint::black_box,
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::Result;
use rustix::net::{Protocol, SocketFlags, ipproto};

use crate::{connect, protocol};

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// A listening socket of TCP.
pub fn tcp(at: SocketAddr) -> Result<TcpListener> {
    listen(at, None)
}

/// A listening socket of Multipath TCP.
pub fn mptcp(at: SocketAddr) -> Result<TcpListener> {
    listen(at, Some(ipproto::MPTCP))
}

fn listen(at: SocketAddr, protocol: Option<Protocol>) -> Result<TcpListener> {
    let socket = connect::socket(at, SocketFlags::empty(), protocol)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Accepts `count` connections, reads what each has to say once, and forgets them.
pub fn and_forget(listener: &TcpListener, count: usize) -> Result<()> {
    be_ready(listener)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = accept_connection(listener)?;
        read_request(&mut connection)?;
        connections.push(connection);
    }
    protocol::forget(connections)
}

/// The same, and goes on listening.
pub fn and_stay(listener: TcpListener, count: usize) -> Result<()> {
    and_forget(&listener, count)?;
    std::mem::forget(listener);
    Ok(())
}

/// Accepts `count` connections and forgets them without a read or a write.
pub fn in_silence(listener: &TcpListener, count: usize) -> Result<()> {
    be_ready(listener)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(accept_connection(listener)?);
    }
    protocol::forget(connections)
}

/// Listens, and never accepts.
pub fn never(listener: TcpListener) -> Result<()> {
    be_ready(&listener)?;
    std::mem::forget(listener);
    Ok(())
}

/// Tells where it listens, and waits for the first word.
pub fn be_ready(listener: &TcpListener) -> Result<()> {
    protocol::be_ready(&[("address", listener.local_addr()?.to_string())]);
    Ok(())
}

/// Accepts one connection.
#[inline(never)]
pub fn accept_connection(listener: &TcpListener) -> io::Result<TcpStream> {
    let (connection, _) = listener.accept()?;
    Ok(black_box(connection))
}

#[inline(never)]
fn read_request(connection: &mut TcpStream) -> io::Result<usize> {
    let mut request = [0; 64];
    let length = connection.read(&mut request)?;
    Ok(black_box(length))
}
