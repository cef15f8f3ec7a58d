//! Who the sockets in TIME_WAIT belong to.
//!
//! The kernel forgets it, as it forgets the process: what is left is two addresses. But who closes first
//! is counted when it happens, and the sockets of one place are shared out by these counts.

use std::{collections::HashMap, time::Duration};

use super::{
    forecast::rate_of_closes,
    table::{Closes, Place, PortTable, PortUse},
};
use crate::survey::ProcessId;

/// Sockets in TIME_WAIT of one place, as far as they are one process's and one code path's.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Where the connections led.
    pub place: Place,
    /// Who closed them; `None` when that was not seen.
    pub by: Option<Closer>,
    /// How many there are.
    pub count: u64,
    /// How many of these are older than the tracer.
    pub older_than_tracer: u64,
    /// How many more there were in each second, lately; `None` when there are too few to tell.
    pub rate: Option<f64>,
}

/// Who closed connections, and by which code path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Closer {
    /// The process.
    pub process: ProcessId,
    /// Its name.
    pub comm: String,
    /// Fingerprint of the code path.
    pub path: Option<u64>,
    /// Whether that path is the one that closed them.
    pub closing: bool,
}

/// Shares out every socket in TIME_WAIT. The counts of all shares add up to all of them.
pub fn shares(table: &PortTable) -> Vec<Share> {
    let traced_for = table
        .traced_since
        .map(|since| table.taken_at.saturating_sub(since));
    let mut closes: HashMap<(u32, Place), Vec<&Closes>> = HashMap::new();
    for close in table.closes.iter().filter(|close| close.recent > 0) {
        closes
            .entry((close.netns, close.place))
            .or_default()
            .push(close);
    }
    let mut shares = Vec::new();
    for namespace in &table.namespaces {
        for (place, sockets) in &namespace.sockets {
            let closers = closes
                .get(&(namespace.inode, *place))
                .map_or(&[][..], Vec::as_slice);
            share_out(
                (namespace.inode, *place),
                sockets,
                traced_for,
                closers,
                &mut shares,
            );
        }
    }
    shares
}

fn share_out(
    (netns, place): (u32, Place),
    sockets: &[PortUse],
    traced_for: Option<Duration>,
    closers: &[&Closes],
    shares: &mut Vec<Share>,
) {
    let ages: Vec<Duration> = sockets.iter().filter_map(|socket| socket.age).collect();
    let is_older = |age: &&Duration| traced_for.is_none_or(|traced_for| **age > traced_for);
    let older = ages.iter().filter(is_older).count() as u64;
    let seen = ages.len() as u64 - older;
    let rate = rate_of_closes(&ages);
    let total = ages.len() as f64;
    let mut add = |by: Option<Closer>, count: u64, older_than_tracer: u64| {
        if count > 0 {
            shares.push(Share {
                netns,
                place,
                by,
                count,
                older_than_tracer,
                rate: rate.map(|rate| rate * count as f64 / total),
            });
        }
    };
    let weights: Vec<u64> = closers.iter().map(|closes| closes.recent).collect();
    let parts = apportion(seen, &weights);
    let unseen = seen - parts.iter().sum::<u64>();
    add(None, older + unseen, older);
    for (closes, part) in closers.iter().zip(parts) {
        let by = Closer {
            process: closes.process,
            comm: closes.comm.clone(),
            path: closes.path,
            closing: closes.closing,
        };
        add(Some(by), part, 0);
    }
}

/// Divides a number in proportion to weights, so that the parts add up to it; nothing when there are no
/// weights. What rounding leaves over goes to those that lost most by it.
pub fn apportion(number: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: &u64| u128::from(number) * u128::from(*weight);
    let mut parts: Vec<u64> = weights
        .iter()
        .map(|weight| (exact(weight) / total) as u64)
        .collect();
    let left = number - parts.iter().sum::<u64>();
    let mut by_loss: Vec<usize> = (0..weights.len()).collect();
    by_loss.sort_by_key(|index| std::cmp::Reverse(exact(&weights[*index]) % total));
    for index in by_loss.into_iter().take(left as usize) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ports::table::Namespace, survey::State};

    fn place() -> Place {
        Place::Opened {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
        }
    }

    fn closes(pid: u32, recent: u64) -> Closes {
        Closes {
            netns: 7,
            place: place(),
            process: ProcessId { pid, start_ns: 1 },
            comm: "client".into(),
            path: Some(u64::from(pid)),
            closing: false,
            recent,
            bound: false,
        }
    }

    /// A socket in TIME_WAIT for each of the last seconds.
    fn table(seconds: u64, traced_for: Option<u64>, closes: Vec<Closes>) -> PortTable {
        let sockets = (0..seconds).map(|second| PortUse {
            port: 40_000 + second as u16,
            state: State::TimeWait,
            age: Some(Duration::from_secs(second)),
        });
        let now = Duration::from_secs(1000);
        PortTable {
            taken_at: now,
            traced_since: traced_for.map(|seconds| now - Duration::from_secs(seconds)),
            namespaces: vec![Namespace {
                inode: 7,
                sockets: [(place(), sockets.collect())].into(),
                ..Namespace::default()
            }],
            closes,
            ..PortTable::default()
        }
    }

    fn counts(shares: &[Share]) -> Vec<(Option<u32>, u64, u64)> {
        let mut counts: Vec<_> = shares
            .iter()
            .map(|share| {
                let pid = share.by.as_ref().map(|by| by.process.pid);
                (pid, share.count, share.older_than_tracer)
            })
            .collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn sockets_go_to_those_who_closed_them() {
        let shares = shares(&table(40, Some(100), vec![closes(1, 30), closes(2, 10)]));
        assert_eq!(counts(&shares), [(Some(1), 30, 0), (Some(2), 10, 0)]);
    }

    #[test]
    fn the_shares_add_up_when_the_kernel_has_dropped_or_reused_some() {
        let shares = shares(&table(
            40,
            Some(100),
            vec![closes(1, 50), closes(2, 50), closes(3, 50)],
        ));
        assert_eq!(shares.iter().map(|share| share.count).sum::<u64>(), 40);
        assert!(
            shares
                .iter()
                .all(|share| share.count == 13 || share.count == 14)
        );
    }

    #[test]
    fn what_is_older_than_the_tracer_is_nobodys() {
        let shares = shares(&table(50, Some(9), vec![closes(1, 10)]));
        assert_eq!(counts(&shares), [(None, 40, 40), (Some(1), 10, 0)]);
    }

    #[test]
    fn without_a_tracer_all_is_older() {
        let shares = shares(&table(50, None, Vec::new()));
        assert_eq!(counts(&shares), [(None, 50, 50)]);
    }

    #[test]
    fn what_nobody_was_seen_to_close_is_said_to_be_unknown_and_not_old() {
        let shares = shares(&table(10, Some(100), Vec::new()));
        assert_eq!(counts(&shares), [(None, 10, 0)]);
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(0, &[5, 1]), [0, 0]);
        assert_eq!(apportion(7, &[0, 0]), [0, 0]);
        assert_eq!(
            apportion(u64::MAX, &[u64::MAX, u64::MAX])
                .iter()
                .map(|part| u128::from(*part))
                .sum::<u128>(),
            u128::from(u64::MAX)
        );
    }
}
