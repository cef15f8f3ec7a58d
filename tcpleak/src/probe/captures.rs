//! The ring through which captured code paths come.

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    ProbeError, decode,
    error::{refused, refused_with},
};
use crate::code_path::{Capture, CaptureSource};

/// The ring. What nobody takes from it is counted in the kernel once it is full.
pub struct Captures(RingBuf<MapData>);

impl Captures {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let map = ebpf
            .take_map("PATHS")
            .ok_or_else(|| refused_with("the map PATHS", "it is not in the object".into()))?;
        let ring = RingBuf::try_from(map).map_err(|error| refused("the map PATHS", &error))?;
        Ok(Self(ring))
    }
}

impl CaptureSource for Captures {
    fn wait(&mut self) {
        // A signal ends the waiting early, which does no harm.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
    }

    fn next(&mut self) -> Option<Capture> {
        // A record that cannot be read is passed over.
        while let Some(record) = self.0.next() {
            if let Some(capture) = decode::capture(&record) {
                return Some(capture);
            }
        }
        None
    }
}
