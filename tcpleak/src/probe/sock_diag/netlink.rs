//! The conversation with the kernel about sockets.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt},
};

use super::message::{self, Diag, Reply, SocketId};

/// How long the kernel may take for one answer, of which a dump has many.
const PATIENCE: Duration = Duration::from_secs(5);

/// Room for one datagram: the kernel fills at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// A socket of NETLINK_SOCK_DIAG. It is about the network namespace in which it was made.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one in the network namespace of this thread.
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Hands out every TCP socket that is in one of these states, with what TCP knows of it.
    pub fn dump(&self, states: u32, take: impl FnMut(Diag)) -> io::Result<()> {
        self.dump_as(states, true, take)
    }

    /// The same without what TCP knows: most of the cost is that.
    pub fn dump_ends(&self, states: u32, take: impl FnMut(Diag)) -> io::Result<()> {
        self.dump_as(states, false, take)
    }

    fn dump_as(&self, states: u32, info: bool, mut take: impl FnMut(Diag)) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        for family in message::FAMILIES {
            self.send(&message::dump_request(family, states, info))?;
            while !self.receive(&mut buffer, &mut take)? {}
        }
        Ok(())
    }

    /// Whether the kernel still finds a socket.
    pub fn finds(&self, family: u8, id: &SocketId) -> io::Result<bool> {
        self.send(&message::single_request(family, id))?;
        let mut found = false;
        match self.receive(&mut vec![0; DATAGRAM], &mut |_| found = true) {
            Ok(_) => Ok(found),
            // There is none, or another one has its addresses.
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, request, SendFlags::empty())?;
        Ok(())
    }

    /// Takes one datagram; says whether it was the last one.
    fn receive(&self, buffer: &mut [u8], take: &mut impl FnMut(Diag)) -> io::Result<bool> {
        let flags = RecvFlags::TRUNC;
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut *buffer, flags));
        let (_, length) = match received {
            Err(Errno::AGAIN) => {
                let words = format!("no answer within {} seconds", PATIENCE.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, words));
            }
            other => other?,
        };
        let datagram = buffer.get(..length);
        let datagram = datagram.ok_or_else(|| io::Error::other("an answer was cut short"))?;
        if datagram.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for reply in message::replies(datagram) {
            match reply {
                Reply::Socket(diag) => take(*diag),
                Reply::Done | Reply::Failed(0) => return Ok(true),
                Reply::Failed(error) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        Ok(false)
    }
}

fn gone(error: &io::Error) -> bool {
    let errors = [Errno::NOENT, Errno::STALE].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|error| errors.contains(&error))
}
