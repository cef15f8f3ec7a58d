//! What is said to the process that reads other programs' files, and what it answers.
//!
//! One request, one answer, each a length and so many bytes. A request that is about a file carries
//! its descriptor. Neither side trusts the other's lengths.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::reader::{
    runtimes::{Chain, Chained, Followed, Plan},
    symbols::{Named, Wanted},
    unwind::Registers,
};

/// Longest message.
const MESSAGE_BYTES: usize = 16 << 20;

/// What the reader is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take the file that comes with it, and say what else would help to name its code.
    File(u32),
    /// Take the file that comes with it as debug information of a file, if it is.
    DebugFile(u32),
    /// Take the file that comes with it as what the debug information of a file shares with others.
    AlternateFile(u32),
    /// Take the file that comes with it as the names of code compiled while a process ran.
    PerfMap(u32),
    /// Forget a file.
    ForgetFile(u32),
    /// Code lies here in a process. Replaces what was said of it before.
    Space(u32, Vec<CodeMapping>),
    /// Forget a process.
    ForgetSpace(u32),
    /// Follow a stack of a process, whose memory comes with it when it can be had.
    Unwind(
        u32,
        Registers,
        #[serde(with = "serde_bytes")] Vec<u8>,
        Chain,
    ),
    /// Name the frames that an interpreter keeps in the memory of a process, which comes with it.
    Chain(u32, Chain),
    /// Say how to follow such frames in a process, whose memory comes with it.
    Plan(u32),
    /// Name places in files.
    Name(Vec<Place>),
}

/// What the reader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, or refused: there is nothing to say.
    Done,
    /// To [`Request::File`].
    File(Wanted),
    /// To [`Request::DebugFile`]: what else would help; none when it is of another file.
    DebugFile(Option<Wanted>),
    /// To [`Request::Unwind`].
    Followed(Followed),
    /// To [`Request::Chain`].
    Chained(Chained),
    /// To [`Request::Plan`].
    Plan(Option<Plan>),
    /// To [`Request::Name`], in the same order.
    Named(Vec<NamedPlace>),
}

/// Code in a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// What it comes from.
    pub source: Source,
}

/// What code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file, by its number.
    File(u32),
    /// The code that the kernel lends to every process.
    Vdso,
    /// Memory that belongs to no file: code that was compiled while the process ran.
    Memory,
}

/// A place in the code of a file, or of memory that belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// So many bytes into a file.
    File(u32, u64),
    /// So many bytes into what the kernel lends to every process.
    Vdso(u64),
    /// An address in a process, by the number of its space.
    Memory(u32, u64),
}

/// The functions at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPlace {
    /// The place as the file itself counts; none when nothing is known.
    pub address: Option<u64>,
    /// The functions, innermost first; empty when none is known.
    pub functions: Vec<Named>,
}

/// Sends a message, and a descriptor with it.
pub fn send<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    descriptor: Option<impl AsFd>,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if length as usize > MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    // The length goes with the descriptor, and is too short to be sent in part.
    let length = length.to_ne_bytes();
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&length)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent != length.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    stream.write_all(&bytes)
}

/// Receives a message, and the descriptor that came with it. None when the other side is gone.
pub fn receive<T: DeserializeOwned>(
    mut stream: &UnixStream,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut length)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[received.bytes..])?;
    let length = u32::from_ne_bytes(length) as usize;
    if length > MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    let message = postcard::from_bytes(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, descriptor)))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::BorrowedFd};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        send(&here, &Request::File(7), Some(&file)).unwrap();
        send(&here, &Request::ForgetFile(7), None::<BorrowedFd<'_>>).unwrap();
        let (request, descriptor) = receive::<Request>(&there).unwrap().unwrap();
        assert_eq!(request, Request::File(7));
        let received = File::from(descriptor.unwrap()).metadata().unwrap();
        assert_eq!(received.len(), file.metadata().unwrap().len());
        let (request, descriptor) = receive::<Request>(&there).unwrap().unwrap();
        assert_eq!(request, Request::ForgetFile(7));
        assert!(descriptor.is_none());
        drop(here);
        assert!(receive::<Request>(&there).unwrap().is_none());
    }

    #[test]
    fn a_length_that_is_a_lie_is_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert!(receive::<Answer>(&there).is_err());
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&3_u32.to_ne_bytes()).unwrap();
        here.write_all(&[0xff; 3]).unwrap();
        assert!(receive::<Answer>(&there).is_err());
    }
}
