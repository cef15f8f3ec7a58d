//! A pool that looks after its connections: the counterpart that must not be reported.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::{connect, protocol};

/// Time between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Of so many requests one needs all connections at once.
const BUSY_EVERY: usize = 60;

/// Sends requests over a pool of `size` connections: one at a time for most of the time, so that
/// the others lie idle and the server may close them, and now and then `size` at once, when the
/// closed ones are noticed and replaced.
pub fn keep_tidy(to: SocketAddr, size: usize) -> Result<()> {
    protocol::be_ready(&[]);
    protocol::tell(&[("size", size.to_string())]);
    let mut pool = Pool {
        to,
        idle: Vec::new(),
        replaced: 0,
    };
    for number in 0.. {
        let busy = number % BUSY_EVERY == 0;
        pool.request_at_once(if busy { size } else { 1 })?;
        thread::sleep(PAUSE);
        if protocol::is_spoken_to()? {
            break;
        }
    }
    protocol::tell(&[("replaced", pool.replaced.to_string())]);
    Ok(())
}

/// Connections to one server that wait for their next request; the last one used goes first.
struct Pool {
    to: SocketAddr,
    idle: Vec<TcpStream>,
    replaced: usize,
}

impl Pool {
    fn request_at_once(&mut self, count: usize) -> io::Result<()> {
        let mut busy = Vec::new();
        for _ in 0..count {
            busy.push(self.take()?);
        }
        for mut connection in busy {
            // The server may close a connection in the moment in which it is taken.
            while request(&mut connection).is_err() {
                connection = self.take()?;
                self.replaced += 1;
            }
            self.idle.push(connection);
        }
        Ok(())
    }

    #[inline(never)]
    fn take(&mut self) -> io::Result<TcpStream> {
        while let Some(connection) = self.idle.pop() {
            if is_open(&connection)? {
                return Ok(connection);
            }
            self.replaced += 1;
        }
        let connection = connect::open_connection(self.to)?;
        Ok(black_box(connection))
    }
}

/// Whether the server has kept its half of an idle connection open.
fn is_open(connection: &TcpStream) -> io::Result<bool> {
    connection.set_nonblocking(true)?;
    let outcome = connection.peek(&mut [0]);
    connection.set_nonblocking(false)?;
    match outcome {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn request(connection: &mut TcpStream) -> io::Result<()> {
    connection.write_all(b"ping")?;
    connection.read_exact(&mut [0; 4])
}
