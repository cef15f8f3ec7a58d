//! Programs that close connections first, as they should not do so often: TIME_WAIT is on their side.

use std::{
    hint::black_box,
    io::{self, Read},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use rustix::{io::Errno, net::SocketFlags};

use crate::{accept, connect, protocol};

/// Opens `count` connections one after the other, and is the first to close each.
pub fn first(to: SocketAddr, count: usize) -> Result<()> {
    protocol::be_ready(&[]);
    for _ in 0..count {
        close_first(connect::open_connection(to)?)?;
    }
    protocol::tell(&[("closed", count.to_string())]);
    Ok(())
}

/// The same, from ports that were bound before.
pub fn bound_first(to: SocketAddr, count: usize) -> Result<()> {
    protocol::be_ready(&[]);
    for _ in 0..count {
        close_first(open_bound(to)?)?;
    }
    protocol::tell(&[("closed", count.to_string())]);
    Ok(())
}

/// Accepts `count` connections, and is the first to close each.
pub fn accepted(at: SocketAddr, count: usize) -> Result<()> {
    let listener = accept::tcp(at)?;
    accept::be_ready(&listener)?;
    for _ in 0..count {
        close_first(accept::accept_connection(&listener)?)?;
    }
    protocol::tell(&[("closed", count.to_string())]);
    Ok(())
}

/// Opens and closes so many connections in each second until there is no port left, and tells when that
/// was, in milliseconds since 1970.
pub fn until_ports_run_out(to: SocketAddr, rate: usize) -> Result<()> {
    protocol::be_ready(&[]);
    let begin = Instant::now();
    for number in 1.. {
        match TcpStream::connect(to) {
            Ok(connection) => close_first(connection)?,
            Err(error) if errno(&error) == Some(Errno::ADDRNOTAVAIL) => break,
            Err(error) => return Err(error.into()),
        }
        let next = begin + Duration::from_secs_f64(f64::from(number) / rate as f64);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    protocol::tell(&[("ran-out-at", now.as_millis().to_string())]);
    Ok(())
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[inline(never)]
fn open_bound(to: SocketAddr) -> Result<TcpStream> {
    let socket = connect::socket(to, SocketFlags::empty(), None)?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    rustix::net::bind(&socket, &any).context("cannot bind to any port")?;
    rustix::net::connect(&socket, &to)?;
    Ok(black_box(TcpStream::from(socket)))
}

/// Ends the own half first, and waits for that of the peer: then nothing is left to be closed but the
/// descriptor, and TIME_WAIT has begun.
#[inline(never)]
fn close_first(mut connection: TcpStream) -> Result<()> {
    rustix::net::shutdown(connection.as_fd(), rustix::net::Shutdown::Write)?;
    while connection.read(&mut [0; 64])? > 0 {}
    black_box(());
    Ok(())
}
