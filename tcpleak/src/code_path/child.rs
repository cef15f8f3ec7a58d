//! The process that reads other programs' files, as seen from outside.
//!
//! It is given descriptors and bytes only. When it ends, hangs or talks nonsense, it is replaced,
//! and what it was asked last stays unanswered.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::protocol::{Answer, Request};
use crate::message;

/// Argument by which tcpleak becomes the reader.
pub const READ_CODE: &str = "read-code";

/// How long one answer may take: reading the debug information of a large program takes seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to start a reader: a stream to it, and the process to end.
pub type Start = fn() -> io::Result<(UnixStream, Option<Child>)>;

/// The reader.
#[derive(Debug)]
pub struct Reader {
    stream: UnixStream,
    child: Option<Child>,
}

impl Reader {
    /// Starts one.
    pub fn start(start: Start) -> io::Result<Self> {
        let (stream, child) = start()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, child })
    }

    /// Asks. After a failure the reader is of no use any more.
    pub fn ask(
        &mut self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<Answer> {
        message::send(&self.stream, request, descriptor)?;
        match message::receive(&self.stream)? {
            Some((answer, _)) => Ok(answer),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts this very program as a reader.
pub fn start_process() -> io::Result<(UnixStream, Option<Child>)> {
    let (here, there) = UnixStream::pair()?;
    let input: OwnedFd = there.as_fd().try_clone_to_owned()?;
    let child = Command::new("/proc/self/exe")
        .arg(READ_CODE)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((here, Some(child)))
}
