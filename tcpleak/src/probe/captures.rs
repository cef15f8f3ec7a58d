//! The ring through which captured code paths come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    ProbeError, decode,
    error::{refused, refused_with},
};
use crate::code_path::{Capture, CaptureSource, Stack};

/// When a program that starts is looked at: once its libraries are loaded, and again when an interpreter
/// may have been loaded by it.
const LOOKS: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(150)];
/// Most programs that wait to be looked at; what is beyond is looked at when its first path comes.
const WAITING: usize = 1024;

/// The ring. What nobody takes from it is counted in the kernel once it is full.
pub struct Captures {
    ring: RingBuf<MapData>,
    started: Started,
}

impl Captures {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let map = ebpf
            .take_map("PATHS")
            .ok_or_else(|| refused_with("the map PATHS", "it is not in the object".into()))?;
        let ring = RingBuf::try_from(map).map_err(|error| refused("the map PATHS", &error))?;
        Ok(Self {
            ring,
            started: Started::default(),
        })
    }
}

impl CaptureSource for Captures {
    fn wait(&mut self) {
        let rest = self.started.due().map(|due| {
            let rest = due.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: rest.as_secs().try_into().unwrap_or_default(),
                tv_nsec: rest.subsec_nanos().into(),
            }
        });
        // A signal ends the waiting early, which does no harm.
        let _ = poll(&mut [PollFd::new(&self.ring, PollFlags::IN)], rest.as_ref());
    }

    fn next(&mut self) -> Option<Capture> {
        // A record that cannot be read is passed over.
        while let Some(record) = self.ring.next() {
            match decode::capture(&record) {
                Some(capture) if capture.stack == Stack::NotYet => {
                    self.started.add(capture, Instant::now());
                }
                Some(capture) => return Some(capture),
                None => {}
            }
        }
        self.started.next(Instant::now())
    }
}

/// Programs that have started, until they are looked at.
#[derive(Default)]
struct Started {
    /// For each look, the earliest first.
    waiting: [VecDeque<(Instant, Capture)>; LOOKS.len()],
}

impl Started {
    fn add(&mut self, capture: Capture, now: Instant) {
        for (waiting, after) in self.waiting.iter_mut().zip(LOOKS) {
            if waiting.len() < WAITING {
                waiting.push_back((now + after, capture.clone()));
            }
        }
    }

    /// When the next look is due.
    fn due(&self) -> Option<Instant> {
        let firsts = self.waiting.iter().filter_map(VecDeque::front);
        firsts.map(|(due, _)| *due).min()
    }

    /// The next one that is due.
    fn next(&mut self, now: Instant) -> Option<Capture> {
        let is_due = |waiting: &&mut VecDeque<(Instant, Capture)>| {
            waiting.front().is_some_and(|(due, _)| *due <= now)
        };
        let (_, capture) = self.waiting.iter_mut().find(is_due)?.pop_front()?;
        Some(capture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{code_path::Chain, survey::ProcessId};

    fn started(pid: u32) -> Capture {
        Capture {
            fingerprint: 0,
            process: ProcessId { pid, start_ns: 1 },
            comm: String::new(),
            image: 0,
            code_pages: 0,
            of_one: false,
            in_ring_call: false,
            stack: Stack::NotYet,
            chain: Chain::default(),
        }
    }

    #[test]
    fn a_program_that_starts_is_looked_at_once_it_is_loaded_and_again() {
        let mut waiting = Started::default();
        let start = Instant::now();
        assert_eq!(waiting.due(), None);
        waiting.add(started(7), start);
        assert_eq!(waiting.next(start), None, "it is not loaded yet");
        assert_eq!(waiting.due(), Some(start + LOOKS[0]));
        let pid = |capture: Option<Capture>| capture.map(|capture| capture.process.pid);
        assert_eq!(pid(waiting.next(start + LOOKS[0])), Some(7));
        assert_eq!(waiting.next(start + LOOKS[0]), None);
        assert_eq!(pid(waiting.next(start + LOOKS[1])), Some(7));
        assert_eq!(waiting.due(), None);
    }

    #[test]
    fn programs_that_wait_are_bounded() {
        let mut waiting = Started::default();
        let start = Instant::now();
        for pid in 0..2 * WAITING as u32 {
            waiting.add(started(pid), start);
        }
        let later = start + LOOKS[1];
        let looks = std::iter::from_fn(|| waiting.next(later)).count();
        assert_eq!(looks, LOOKS.len() * WAITING);
    }
}
