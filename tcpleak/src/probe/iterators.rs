//! The survey by iterators: every holder of a socket, then the sockets without one in every network
//! namespace.
//!
//! A walk over the sockets takes milliseconds on a host with a large socket table, whoever owns them.

use std::{io, time::Duration};

use aya::Ebpf;

use super::{
    clock, decode, iterate,
    losses::{self, Sweep},
    namespaces::Namespaces,
};
use crate::survey::{Counts, Losses, Sighting};

/// The survey, and what lasts from one to the next.
pub struct Iterators {
    namespaces: Namespaces,
    sweep: Sweep,
    tick: Duration,
}

impl Default for Iterators {
    fn default() -> Self {
        Self {
            namespaces: Namespaces::default(),
            sweep: Sweep::default(),
            tick: clock::tick(),
        }
    }
}

impl Iterators {
    /// Reads every TCP socket of the host.
    pub fn survey(
        &mut self,
        ebpf: &mut Ebpf,
        losses: &Losses,
    ) -> io::Result<(Vec<Sighting>, Counts)> {
        let begun_at = clock::now();
        self.sweep.begin(ebpf, losses, begun_at);
        let mut sightings = Vec::new();
        let tick = self.tick;
        let mut take = |record: &[u8]| sightings.extend(decode::sighting(record, tick));
        iterate::holders(ebpf, &mut take)?;
        let counts = self.sockets(ebpf, begun_at, &mut take)?;
        self.sweep.end(ebpf);
        Ok((sightings, counts))
    }

    /// Surveys every namespace; counts sockets by state, and hands out those whose peer is gone.
    fn sockets(
        &mut self,
        ebpf: &mut Ebpf,
        now: Duration,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Counts> {
        let before = losses::states(ebpf);
        let files = self.namespaces.in_each(now, || {
            let link = iterate::link(ebpf, "survey_sockets")?;
            Ok(|| link.into_file().map_err(io::Error::other))
        })?;
        let mut missed = 0;
        for (_, file) in files {
            match file {
                Ok(file) => iterate::records(file, &mut take)?,
                Err(_) => missed += 1,
            }
        }
        if missed > 0 {
            self.namespaces.look_again();
        }
        let found = losses::states(ebpf)
            .into_iter()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(decode::counts(found, missed))
    }
}
