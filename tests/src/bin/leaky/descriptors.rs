//! A client that leaks until it has no descriptor left.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit, setrlimit},
};

use crate::{connect::open_connection, protocol};

/// Opens a connection `per_second` times in each second and forgets it, until there are `limit`
/// descriptors and connect() fails; tells when that was. It keeps its pace by the clock, however slow
/// the machine.
pub fn run_out(to: SocketAddr, per_second: usize, limit: usize) -> Result<()> {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = Some(limit as u64);
    setrlimit(Resource::Nofile, limits)?;
    protocol::be_ready(&[]);
    let apart = Duration::from_secs(1) / u32::try_from(per_second)?;
    let mut kept: Vec<TcpStream> = Vec::new();
    let mut next = Instant::now();
    let error = loop {
        match open_connection(to) {
            Ok(connection) => kept.push(connection),
            Err(error) => break error,
        }
        next += apart;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    };
    anyhow::ensure!(
        Errno::from_io_error(&error) == Some(Errno::MFILE),
        "connect() failed in another way: {error}"
    );
    tell_the_time(kept)
}

/// Milliseconds since 1970: the clock that reports are dated by.
fn tell_the_time(kept: Vec<TcpStream>) -> Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(io::Error::other)?;
    protocol::tell(&[("out_at_ms", now.as_millis().to_string())]);
    std::mem::forget(kept);
    Ok(())
}
