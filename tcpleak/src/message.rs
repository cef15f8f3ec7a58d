//! Messages between tcpleak and the processes that it starts to work for it.
//!
//! Each is a length and so many bytes, and a descriptor may come with it. Neither side trusts the other's
//! lengths.

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
use serde::{Serialize, de::DeserializeOwned};

/// Longest message.
const MESSAGE_BYTES: usize = 16 << 20;

/// Sends a message, and a descriptor with it.
///
/// # Errors
///
/// When the other side is gone, does not take it in time, or the message is too long.
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
///
/// # Errors
///
/// When nothing comes in time, or what comes is no such message.
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
        send(&here, &"first", Some(&file)).unwrap();
        send(&here, &"second", None::<BorrowedFd<'_>>).unwrap();
        let (message, descriptor) = receive::<String>(&there).unwrap().unwrap();
        assert_eq!(message, "first");
        let received = File::from(descriptor.unwrap()).metadata().unwrap();
        assert_eq!(received.len(), file.metadata().unwrap().len());
        let (message, descriptor) = receive::<String>(&there).unwrap().unwrap();
        assert_eq!(message, "second");
        assert!(descriptor.is_none());
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
    }

    #[test]
    fn a_length_that_is_a_lie_is_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert!(receive::<String>(&there).is_err());
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&3_u32.to_ne_bytes()).unwrap();
        here.write_all(&[0xff; 3]).unwrap();
        assert!(receive::<String>(&there).is_err());
    }
}
