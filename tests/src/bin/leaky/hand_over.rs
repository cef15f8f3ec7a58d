//! Connections whose descriptor leaves the process that opened them.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::{
    io::FdFlags,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType,
    },
};

use crate::{connect, protocol};

/// What a parent does with its own copy of a descriptor that a child has inherited.
pub enum Copy {
    /// Close it: only the child holds the connection.
    Close,
    /// Keep it: both hold the connection.
    Keep,
}

/// Opens a connection without O_CLOEXEC and starts a child, which inherits it unasked.
pub fn to_child(to: SocketAddr, copy: Copy) -> Result<()> {
    protocol::be_ready(&[]);
    let connection = open_without_cloexec(to)?;
    let child = Command::new(std::env::current_exe()?)
        .arg("hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the child")?;
    let descriptor = connection.as_raw_fd();
    match copy {
        Copy::Close => drop(connection),
        Copy::Keep => std::mem::forget(connection),
    }
    protocol::tell(&[
        ("child", child.id().to_string()),
        ("fds", descriptor.to_string()),
    ]);
    // The child leaves when its standard input ends: with this process, not before.
    std::mem::forget(child);
    Ok(())
}

#[inline(never)]
fn open_without_cloexec(to: SocketAddr) -> Result<TcpStream> {
    let connection = connect::open_connection(to)?;
    rustix::io::fcntl_setfd(&connection, FdFlags::empty())?;
    Ok(std::hint::black_box(connection))
}

/// Sends the only descriptor of a connection to a socket from which nobody receives it.
pub fn into_flight(to: SocketAddr) -> Result<()> {
    protocol::be_ready(&[]);
    let (here, there) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let connection = connect::open_connection(to)?;
    let descriptors = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut messages = SendAncillaryBuffer::new(&mut space);
    messages.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(
        &here,
        &[IoSlice::new(b"take it")],
        &mut messages,
        SendFlags::empty(),
    )?;
    drop(connection);
    std::mem::forget((here, there));
    protocol::tell(&[("sent", "yes".into())]);
    Ok(())
}
