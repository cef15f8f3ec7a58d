//! The survey of sockets without a holder, in every network namespace.
//!
//! A tcp iterator sees the network namespace in which it was opened, so a thread of its own enters
//! each one. A walk takes milliseconds on a host with a large socket table, whoever owns the
//! sockets; the list of namespaces is therefore kept for a while.

use std::{fs::File, io, thread, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::iter::IterLink,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tcpleak_ebpf::{COUNTER_SLOTS, Counter, tcp_state};

use super::iterate;
use crate::{
    process::{NetworkNamespace, network_namespaces},
    survey::Counts,
};

/// How long the list of namespaces is good for.
const REFRESH: Duration = Duration::from_secs(10);

/// The network namespaces of the host.
#[derive(Default)]
pub struct Namespaces {
    known: Vec<NetworkNamespace>,
    listed_at: Option<Duration>,
}

impl Namespaces {
    /// Surveys every namespace; counts sockets by state, and hands out those whose peer is gone.
    pub fn survey(
        &mut self,
        ebpf: &mut Ebpf,
        now: Duration,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Counts> {
        if self
            .listed_at
            .is_none_or(|at| now.saturating_sub(at) >= REFRESH)
        {
            self.known = network_namespaces();
            self.listed_at = Some(now);
        }
        let before = states(ebpf);
        let mut links = Vec::with_capacity(self.known.len());
        for _ in &self.known {
            links.push(iterate::link(ebpf, "survey_sockets")?);
        }
        let files = open_in_each(&self.known, links);
        let mut missed = 0;
        for file in files {
            match file {
                Ok(file) => iterate::records(file, &mut take)?,
                Err(_) => missed += 1,
            }
        }
        // A namespace that could not be entered may have ended: look again the next time.
        if missed > 0 {
            self.listed_at = None;
        }
        let found = states(ebpf)
            .into_iter()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(counts(found, missed))
    }
}

/// Starts one iteration in each namespace, on a thread that ends with the job: a thread that has
/// changed its namespace must do nothing else.
fn open_in_each(namespaces: &[NetworkNamespace], links: Vec<IterLink>) -> Vec<io::Result<File>> {
    let open = |namespace: &NetworkNamespace, link: IterLink| -> io::Result<File> {
        // No right is needed to stay where one is.
        if current_namespace() != Some(namespace.inode) {
            let target = File::open(format!("/proc/{}/ns/net", namespace.pid))?;
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&target),
                Some(LinkNameSpaceType::Network),
            )?;
            // The process may have ended, and its number may be another's by now.
            if current_namespace() != Some(namespace.inode) {
                return Err(io::Error::other("the network namespace is gone"));
            }
        }
        link.into_file().map_err(io::Error::other)
    };
    let opening = || {
        namespaces
            .iter()
            .zip(links)
            .map(|(namespace, link)| open(namespace, link))
            .collect()
    };
    thread::scope(|scope| scope.spawn(opening).join()).unwrap_or_default()
}

fn current_namespace() -> Option<u32> {
    let link = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Sockets visited so far, by TCP state.
fn states(ebpf: &Ebpf) -> Vec<u64> {
    let Some(counters) = ebpf
        .map("COUNTERS")
        .and_then(|map| PerCpuArray::<&MapData, u64>::try_from(map).ok())
    else {
        return Vec::new();
    };
    (Counter::States as u32..COUNTER_SLOTS)
        .map(|slot| {
            counters
                .get(&slot, 0)
                .map_or(0, |values| values.iter().sum())
        })
        .collect()
}

fn counts(by_state: impl Iterator<Item = u64>, namespaces_missed: u64) -> Counts {
    let mut counts = Counts {
        namespaces_missed,
        ..Counts::default()
    };
    for (state, number) in (0_u8..).zip(by_state) {
        match state {
            tcp_state::TIME_WAIT => counts.time_wait += number,
            tcp_state::LISTEN | tcp_state::NEW_SYN_RECV => {}
            tcp_state::CLOSE_WAIT => {
                counts.close_wait += number;
                counts.connections += number;
            }
            _ => counts.connections += number,
        }
    }
    counts
}
