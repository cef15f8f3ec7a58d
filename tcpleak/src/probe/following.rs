//! Following a command and what descends from it: which processes these are, and which connections they
//! leave to the kernel to close as they end.

use std::{collections::BTreeMap, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, RingBuf},
};
use tokio::io::unix::AsyncFd;

use super::{
    ProbeError, clock, decode,
    error::{refused, refused_with},
    programs::register,
};
use crate::survey::Sighting;

/// The way to follow a command.
pub struct Following {
    starter: Array<MapData, u32>,
    processes: HashMap<MapData, u32, u64>,
    ends: AsyncFd<RingBuf<MapData>>,
    tick: Duration,
}

impl Following {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let mut take = |name: &str| -> Result<Map, ProbeError> {
            let absent =
                || refused_with(&format!("the map {name}"), "it is not in the object".into());
            ebpf.take_map(name).ok_or_else(absent)
        };
        let starter = Array::try_from(take("STARTER")?);
        let processes = HashMap::try_from(take("FOLLOWED")?);
        let ends = RingBuf::try_from(take("ENDS")?);
        Ok(Self {
            starter: starter.map_err(|error| refused("the map STARTER", &error))?,
            processes: processes.map_err(|error| refused("the map FOLLOWED", &error))?,
            ends: register(
                ends.map_err(|error| refused("the map ENDS", &error))?,
                "waiting for connections that end with their process",
            )?,
            tick: clock::tick(),
        })
    }

    /// Does something on this thread. The processes that it makes meanwhile are followed from their first
    /// moment on.
    pub fn start<T>(&mut self, start: impl FnOnce() -> T) -> Result<T, ProbeError> {
        let thread = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let told = |error| refused("telling its programs whom to follow", &error);
        self.starter.set(0, thread, 0).map_err(told)?;
        let started = start();
        self.starter.set(0, 0, 0).map_err(told)?;
        Ok(started)
    }

    /// The processes that are followed and not over, zombies included; and when each started, in
    /// nanoseconds since boot, zero where that is not known.
    pub fn processes(&self) -> BTreeMap<u32, u64> {
        self.processes.iter().filter_map(Result::ok).collect()
    }

    /// Waits until there may be ends.
    pub async fn has_ends(&mut self) {
        match self.ends.readable_mut().await {
            Ok(mut ready) => ready.clear_ready(),
            // They are read before each survey all the same.
            Err(_) => std::future::pending().await,
        }
    }

    /// The connections that nothing but the end of their process has closed, since the last call: each as
    /// it was right before, held by the process that ends. Its record says when that was.
    pub fn ends(&mut self) -> Vec<Sighting> {
        let ring = self.ends.get_mut();
        let mut ends = Vec::new();
        while let Some(record) = ring.next() {
            // A record that cannot be read is passed over.
            ends.extend(decode::sighting(&record, self.tick));
        }
        ends
    }
}
