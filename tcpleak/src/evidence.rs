//! The evidence of a group, from that of its connections.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    case::Case,
    judge::{End, Evidence},
    report,
    survey::ProcessId,
    tracker::Tracker,
};

/// Sums up the evidence of a group's cases, which all have the same verdict.
pub fn summarize(tracker: &Tracker, cases: &[Case<'_>]) -> report::Evidence {
    let evidence = || cases.iter().map(|case| &case.judgement.evidence);
    match &cases[0].judgement.evidence {
        Evidence::NotAccepted {
            accept_queue,
            backlog,
        } => {
            let mut listeners = tracker.listeners_of(&cases[0].connection.socket);
            let listener = listeners.next().map(|found| found.socket.local);
            report::Evidence::NotAccepted {
                accept_queue: *accept_queue,
                backlog: *backlog,
                listener: listener.map(|listener| listener.to_string()),
            }
        }
        Evidence::DeadFd(_) => {
            let ended = |end: End| {
                evidence()
                    .filter(|one| matches!(one, Evidence::DeadFd(other) if *other == end))
                    .count() as u64
            };
            report::Evidence::DeadFd {
                reset: ended(End::Reset),
                fin_then_reset: ended(End::FinThenReset),
                shut_down_in_order: ended(End::ShutDownInOrder),
                timed_out: ended(End::TimedOut),
            }
        }
        Evidence::HalfCloseInUse { .. } => report::Evidence::HalfCloseInUse {
            sending: evidence()
                .filter(|one| matches!(one, Evidence::HalfCloseInUse { sending: true, .. }))
                .count() as u64,
            reading: evidence()
                .filter(|one| matches!(one, Evidence::HalfCloseInUse { reading: true, .. }))
                .count() as u64,
        },
        Evidence::Inherited { opener_holds } => {
            let processes: BTreeSet<ProcessId> = cases
                .iter()
                .flat_map(|case| case.holders.keys())
                .map(|(process, _)| *process)
                .collect();
            report::Evidence::Inherited {
                holding_processes: processes.len() as u64,
                opener_holds: *opener_holds,
            }
        }
        Evidence::ReaderStuck { .. } => {
            let (unread_bytes, unread_bytes_total) = worst_and_total(cases);
            report::Evidence::ReaderStuck {
                unread_bytes,
                unread_bytes_total,
            }
        }
        Evidence::ReaderStalled { window_bytes, .. } => {
            let (unread_bytes, unread_bytes_total) = worst_and_total(cases);
            report::Evidence::ReaderStalled {
                unread_bytes,
                unread_bytes_total,
                window_bytes: u64::from(*window_bytes),
            }
        }
        Evidence::Pooled { reused, evicted } => report::Evidence::Pooled {
            siblings_reused: *reused,
            siblings_evicted: *evicted,
        },
        Evidence::EofIgnored { since } => report::Evidence::EofIgnored {
            eof_read_s: since.as_secs_f64(),
        },
        Evidence::Eof { fin_unread } => report::Evidence::Eof {
            unread_bytes: 0,
            fin_unread: *fin_unread,
        },
        Evidence::FinWait2Held { .. } => {
            let (unread_bytes, unread_bytes_total) = worst_and_total(cases);
            report::Evidence::FinWait2Held {
                last_data_s: least(evidence().filter_map(|one| match one {
                    Evidence::FinWait2Held { since_data } => Some(*since_data),
                    _ => None,
                })),
                unread_bytes,
                unread_bytes_total,
            }
        }
        Evidence::Orphaned { .. } => {
            let orphans = || {
                evidence().filter_map(|one| match one {
                    Evidence::Orphaned {
                        unacknowledged_bytes,
                        since_ack,
                    } => Some((u64::from(*unacknowledged_bytes), *since_ack)),
                    _ => None,
                })
            };
            let bytes = || orphans().map(|(bytes, _)| bytes);
            report::Evidence::Orphaned {
                unacknowledged_bytes: bytes().max().unwrap_or_default(),
                unacknowledged_bytes_total: bytes().sum(),
                last_ack_s: least(orphans().map(|(_, since_ack)| since_ack)),
            }
        }
        Evidence::SynSent { .. } => {
            let retransmits = evidence().filter_map(|one| match one {
                Evidence::SynSent { retransmits } => Some(u64::from(*retransmits)),
                _ => None,
            });
            report::Evidence::SynSent {
                retransmits: retransmits.max().unwrap_or_default(),
            }
        }
        Evidence::OpenIdle { .. } => {
            let (unread_bytes, unread_bytes_total) = worst_and_total(cases);
            report::Evidence::OpenIdle {
                idle_s: least(evidence().filter_map(|one| match one {
                    Evidence::OpenIdle { idle } => Some(*idle),
                    _ => None,
                })),
                unread_bytes,
                unread_bytes_total,
            }
        }
    }
}

fn least(times: impl Iterator<Item = Duration>) -> f64 {
    times.min().unwrap_or_default().as_secs_f64()
}

fn worst_and_total(cases: &[Case<'_>]) -> (u64, u64) {
    let unread = || {
        cases
            .iter()
            .map(|case| u64::from(case.connection.socket.unread_bytes()))
    };
    (unread().max().unwrap_or_default(), unread().sum())
}
