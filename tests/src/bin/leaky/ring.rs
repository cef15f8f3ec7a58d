//! What io_uring does for a program: where it is entered, in a worker thread of the kernel, in a
//! kernel thread that looks for work, or in between.

use std::{
    hint::black_box,
    mem::size_of,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{
    IoUring, opcode,
    squeue::{Entry, Flags},
    types::{Fd, Fixed},
};

use crate::{connect, protocol};

/// Who does what is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The thread that asks.
    Here,
    /// A worker thread.
    Worker,
    /// The kernel thread that looks for work, so that nobody needs to enter the kernel.
    Poller,
}

/// A way by its name.
pub fn way(name: &str) -> Result<Way> {
    match name {
        "here" => Ok(Way::Here),
        "worker" => Ok(Way::Worker),
        "poller" => Ok(Way::Poller),
        _ => bail!("{name:?} is no way"),
    }
}

struct Ring {
    ring: IoUring,
    way: Way,
}

impl Ring {
    fn new(way: Way) -> Result<Self> {
        let mut builder = IoUring::builder();
        if way == Way::Poller {
            builder.setup_sqpoll(1000);
        }
        let ring = builder.build(4).context("io_uring is not to be had")?;
        Ok(Self { ring, way })
    }

    /// Asks for something and waits until it is done; what it points to must live until then.
    #[inline(never)]
    fn do_now(&mut self, entry: Entry) -> Result<u32> {
        self.ask_for(entry)?;
        self.ring.submit_and_wait(1)?;
        black_box(self.completion())
    }

    fn ask_for(&mut self, entry: Entry) -> Result<()> {
        let entry = match self.way {
            Way::Worker => entry.flags(Flags::ASYNC),
            Way::Here | Way::Poller => entry,
        };
        // SAFETY: the callers keep what the entry points to until the completion is there.
        unsafe { self.ring.submission().push(&entry)? };
        Ok(())
    }

    fn completion(&mut self) -> Result<u32> {
        let completion = self.ring.completion().next().context("no completion")?;
        let result = completion.result();
        ensure!(result >= 0, "io_uring says {result}");
        Ok(result as u32)
    }
}

/// Connects through io_uring, forgets the connection, and reads its end when it is told to.
pub fn connect(way: Way, to: SocketAddr) -> Result<()> {
    let mut ring = Ring::new(way)?;
    protocol::be_ready(&[]);
    let connection = open_by_ring(&mut ring, to)?;
    let fd = connection.as_raw_fd();
    protocol::tell(&[("fds", fd.to_string())]);
    protocol::await_word();
    let length = read_by_ring(&mut ring, fd)?;
    protocol::tell(&[("length", length.to_string())]);
    protocol::stay_until_told_to_leave();
    Ok(())
}

#[inline(never)]
fn open_by_ring(ring: &mut Ring, to: SocketAddr) -> Result<OwnedFd> {
    let SocketAddr::V4(to) = to else {
        bail!("this oddity is about IPv4")
    };
    let connection = connect::socket(to.into(), rustix::net::SocketFlags::empty(), None)?;
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
    ring.do_now(opcode::Connect::new(Fd(connection.as_raw_fd()), place, length).build())?;
    Ok(black_box(connection))
}

#[inline(never)]
fn read_by_ring(ring: &mut Ring, fd: i32) -> Result<u32> {
    let mut bytes = [0; 64];
    let read = opcode::Recv::new(Fd(fd), bytes.as_mut_ptr(), 64).build();
    black_box(ring.do_now(read))
}

/// Accepts a connection through io_uring, reads what it has to say once, and forgets it.
pub fn accept(way: Way, listener: &TcpListener) -> Result<()> {
    let mut ring = Ring::new(way)?;
    protocol::be_ready(&[("address", listener.local_addr()?.to_string())]);
    let fd = accept_by_ring(&mut ring, listener)?;
    read_by_ring(&mut ring, fd)?;
    protocol::tell(&[("fds", fd.to_string())]);
    protocol::stay_until_told_to_leave();
    Ok(())
}

#[inline(never)]
fn accept_by_ring(ring: &mut Ring, listener: &TcpListener) -> Result<i32> {
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    let accept = opcode::Accept::new(Fd(listener.as_raw_fd()), address, length);
    let fd = ring.do_now(accept.build())?;
    Ok(black_box(fd as i32))
}

/// Lets io_uring accept what comes, into a place of its own: there is no descriptor. Reads what the
/// first connection has to say, and forgets it.
pub fn accept_direct(listener: &TcpListener) -> Result<()> {
    let mut ring = Ring::new(Way::Here)?;
    ring.ring.submitter().register_files_sparse(4)?;
    protocol::be_ready(&[("address", listener.local_addr()?.to_string())]);
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true);
    let place = ring.do_now(accept.build())?;
    let mut bytes = [0; 64];
    let read = opcode::Recv::new(Fixed(place), bytes.as_mut_ptr(), 64).build();
    ring.do_now(read)?;
    protocol::tell(&[("place", place.to_string())]);
    protocol::stay_until_told_to_leave();
    Ok(())
}

/// Asks io_uring for a read, and is busy with something else when there is something to read.
pub fn read_in_between(to: SocketAddr) -> Result<()> {
    let mut ring = Ring::new(Way::Here)?;
    protocol::be_ready(&[]);
    let connection = connect::open_connection(to)?;
    let fd = connection.as_raw_fd();
    let mut bytes = [0; 64];
    ring.ask_for(opcode::Recv::new(Fd(fd), bytes.as_mut_ptr(), 64).build())?;
    ring.ring.submit()?;
    protocol::tell(&[("fds", fd.to_string())]);
    calculate_until_it_is_done(&mut ring);
    let length = ring.completion()?;
    protocol::tell(&[("length", length.to_string())]);
    std::mem::forget(connection);
    protocol::stay_until_told_to_leave();
    Ok(())
}

#[inline(never)]
fn calculate_until_it_is_done(ring: &mut Ring) {
    let start = Instant::now();
    let mut number = 1_u64;
    while ring.ring.completion().is_empty() && start.elapsed() < Duration::from_secs(60) {
        for _ in 0..1000 {
            number = black_box(number.wrapping_mul(3));
        }
    }
}

/// Closes one of two connections through io_uring, and forgets the other.
pub fn close_one(to: SocketAddr) -> Result<()> {
    let mut ring = Ring::new(Way::Here)?;
    protocol::be_ready(&[]);
    let closed = connect::open_connection(to)?;
    let forgotten = connect::open_connection(to)?;
    let fd = closed.as_raw_fd();
    std::mem::forget(closed);
    ring.do_now(opcode::Close::new(Fd(fd)).build())?;
    protocol::forget(vec![forgotten])
}
