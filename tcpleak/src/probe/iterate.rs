//! Runs the survey iterators and hands out their records.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
};

use aya::{
    Ebpf,
    programs::{Iter, iter::IterLink},
};
use bytes::{Buf, BytesMut};
use tcpleak_ebpf::Sighting;

/// Bytes asked for at a time.
const CHUNK: usize = 256 * 1024;

/// Reads one record for each holder of each TCP socket that matters.
pub fn holders(ebpf: &mut Ebpf, take: impl FnMut(&[u8])) -> io::Result<()> {
    let link = link(ebpf, "survey_holders")?;
    records(link.into_file().map_err(io::Error::other)?, take)
}

/// A fresh iteration of a loaded program; it starts when the link is turned into a file, in the
/// network namespace of the thread that does so.
pub fn link(ebpf: &mut Ebpf, program: &str) -> io::Result<IterLink> {
    let program: &mut Iter = ebpf
        .program_mut(program)
        .ok_or_else(|| io::Error::other(format!("the program {program} is not in the object")))?
        .try_into()
        .map_err(io::Error::other)?;
    let link = program.attach().map_err(io::Error::other)?;
    program.take_link(link).map_err(io::Error::other)
}

/// Reads an iteration to its end, record by record.
pub fn records(mut file: File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        let filled = buffer.len();
        buffer.resize(filled + CHUNK, 0);
        let read = match file.read(&mut buffer[filled..]) {
            Ok(read) => read,
            // The kernel pauses an iteration that found nothing to write for a million objects.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                buffer.truncate(filled);
                continue;
            }
            Err(error) => return Err(error),
        };
        buffer.truncate(filled + read);
        while buffer.len() >= size_of::<Sighting>() {
            take(&buffer[..size_of::<Sighting>()]);
            buffer.advance(size_of::<Sighting>());
        }
        if read == 0 {
            return Ok(());
        }
    }
}
