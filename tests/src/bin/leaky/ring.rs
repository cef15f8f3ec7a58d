//! What io_uring does for a program: in a worker thread of the kernel, if it is told to.

use std::{mem::size_of, net::SocketAddr, os::fd::AsRawFd};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, squeue::Flags, types::Fd};

use crate::protocol;

/// Connects through io_uring, in one of its worker threads, and forgets the connection.
pub fn connect_in_worker(to: SocketAddr) -> Result<()> {
    let SocketAddr::V4(to) = to else {
        bail!("this oddity is about IPv4")
    };
    let mut ring = IoUring::new(4).context("io_uring is not to be had")?;
    protocol::be_ready(&[]);
    let connection = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(to.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let place = (&raw const address).cast();
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let connect = opcode::Connect::new(Fd(connection.as_raw_fd()), place, length)
        .build()
        .flags(Flags::ASYNC);
    // SAFETY: the address lives until the completion is there, below.
    unsafe { ring.submission().push(&connect)? };
    ring.submit_and_wait(1)?;
    let completion = ring.completion().next().context("no completion")?;
    ensure!(completion.result() == 0, "connect: {}", completion.result());
    protocol::tell(&[("fd", connection.as_raw_fd().to_string())]);
    protocol::stay_until_told_to_leave();
    Ok(())
}
