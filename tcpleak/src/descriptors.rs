//! How many more descriptors processes may open, and when they will have opened them.
//!
//! Pure: what was counted goes in, with its time, and forecasts come out.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    case::Case,
    growth::Growth,
    process::descriptors::{Limit, Usage},
    report::Descriptors,
    survey::ProcessId,
    trend::{Counts, Trend},
};

/// Most processes whose descriptors are counted.
pub const COUNTED: usize = 64;

/// A limit that is reached in fewer seconds is close.
const CLOSE: f64 = 10.0 * 60.0;
/// A limit that was close is so no more when it is reached in more seconds than this.
const NOT_CLOSE: f64 = 2.0 * CLOSE;

/// A process whose descriptors are worth counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The process.
    pub process: ProcessId,
    /// Its name.
    pub comm: String,
    /// Connections that it holds and that are amiss.
    pub connections: u64,
    /// Whether any of them is a leak.
    pub leaks: bool,
}

/// The processes that hold connections whose peer is gone, or that could accept them: the worst first.
pub fn suspects(cases: &[Case<'_>]) -> Vec<Suspect> {
    let mut suspects: BTreeMap<ProcessId, Suspect> = BTreeMap::new();
    for case in cases {
        // A process may hold a connection by several descriptors.
        let mut holders: Vec<_> = case.holders.iter().collect();
        holders.dedup_by_key(|((process, _), _)| *process);
        for ((process, _), task) in holders {
            let suspect = suspects.entry(*process).or_insert_with(|| Suspect {
                process: *process,
                comm: task.comm.clone(),
                connections: 0,
                leaks: false,
            });
            suspect.connections += u64::from(case.connection.held_by(*process));
            suspect.leaks |= case.judgement.leak;
        }
    }
    let mut suspects: Vec<Suspect> = suspects.into_values().collect();
    suspects.sort_by_key(|suspect| std::cmp::Reverse((suspect.leaks, suspect.connections)));
    suspects
}

/// Follows the descriptors of processes from survey to survey.
#[derive(Debug, Default)]
pub struct DescriptorWatch {
    connections: Growth<ProcessId>,
    descriptors: HashMap<ProcessId, Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    counts: Counts,
    close: bool,
}

impl DescriptorWatch {
    /// Takes what was counted at a time, and says what follows. A process that is not among them is
    /// forgotten.
    pub fn forecast(&mut self, now: Duration, counted: &[(Suspect, Usage)]) -> Vec<Descriptors> {
        self.connections.sample(
            now,
            counted
                .iter()
                .map(|(suspect, _)| (&suspect.process, suspect.connections)),
        );
        let mut previous = std::mem::take(&mut self.descriptors);
        let mut forecasts = Vec::new();
        for (suspect, usage) in counted {
            let mut followed = previous.remove(&suspect.process).unwrap_or_default();
            if let Some(open) = usage.open {
                followed.counts.push(now, open);
            }
            let outlook = Outlook::of(usage, followed.counts.trend());
            followed.close = outlook.is_close(usage, followed.close);
            forecasts.push(Descriptors {
                pid: suspect.process.pid,
                comm: suspect.comm.clone(),
                fds_open: usage.open,
                fd_limit: usage.limit.number(),
                fd_rate_per_s: outlook.per_second,
                leak_rate_per_s: self
                    .connections
                    .per_minute(&suspect.process)
                    .map(|rate| rate / 60.0),
                runs_out_in_s: outlook.runs_out_in_s,
                basis: outlook.basis,
                close_to_limit: followed.close,
            });
            self.descriptors.insert(suspect.process, followed);
        }
        forecasts
    }
}

/// A forecast, or the reason that there is none.
struct Outlook {
    per_second: Option<f64>,
    runs_out_in_s: Option<f64>,
    basis: String,
}

impl Outlook {
    fn of(usage: &Usage, trend: Trend) -> Self {
        let per_second = match trend {
            Trend::Rises { per_second, .. } => Some(per_second),
            _ => None,
        };
        let withheld = |reason: &str| (None, format!("withheld: {reason}"));
        let (runs_out_in_s, basis) = match (usage.open, usage.limit) {
            (None, _) => withheld("the descriptors could not be counted"),
            (_, Limit::Unlimited) => withheld("there is no limit"),
            (_, Limit::Unknown) => withheld("the limit could not be read"),
            (Some(open), Limit::Most(limit)) if open >= limit => {
                (Some(0.0), "the limit is reached".to_owned())
            }
            (Some(open), Limit::Most(limit)) => (
                per_second.map(|per_second| (limit - open) as f64 / per_second),
                trend.to_string(),
            ),
        };
        Self {
            per_second,
            runs_out_in_s,
            basis,
        }
    }

    /// A limit that was close stays so while there is no forecast and more than half is in use, lest it
    /// be told over and over.
    fn is_close(&self, usage: &Usage, was_close: bool) -> bool {
        match (self.runs_out_in_s, usage.open, usage.limit) {
            (Some(seconds), ..) => seconds <= if was_close { NOT_CLOSE } else { CLOSE },
            (None, Some(open), Limit::Most(limit)) => was_close && open > limit / 2,
            _ => false,
        }
    }
}

impl Limit {
    fn number(self) -> Option<u64> {
        match self {
            Self::Most(limit) => Some(limit),
            Self::Unlimited | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests;
