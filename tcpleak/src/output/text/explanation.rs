//! Why and what now: the sentences below the headline of a group.

use super::amount::{bytes, count, duration, things};
use crate::report::{Evidence, Group, Qualifier, Verdict};

/// What the verdict rests on.
pub(super) fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::NotAccepted { listener: None, .. } => {
            "It was never accepted, and its listener is gone.".into()
        }
        Evidence::NotAccepted {
            accept_queue,
            backlog,
            listener: Some(listener),
        } => {
            let full = if accept_queue > backlog {
                ": it is full"
            } else {
                ""
            };
            format!(
                "The accept queue of {listener} holds {}, its limit is {}{full}.",
                things(u64::from(*accept_queue), "connection", "connections"),
                count(u64::from(*backlog)),
            )
        }
        Evidence::DeadFd {
            reset,
            fin_then_reset,
            shut_down_in_order,
            timed_out,
        } => {
            let ends = [
                (*reset, "reset by the peer"),
                (*fin_then_reset, "closed by the peer, then reset"),
                (*shut_down_in_order, "shut down in order by both sides"),
                (*timed_out, "given up because the peer stopped answering"),
            ];
            let ends = ends
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, end)| format!("{}\u{a0}{end}", count(*number)))
                .collect::<Vec<_>>();
            let how = if ends.is_empty() {
                "How they ended was not seen".into()
            } else {
                ends.join("; ")
            };
            format!("{how}. ss and /proc/net/tcp do not show such connections.")
        }
        Evidence::HalfCloseInUse { sending, reading } => {
            let mut uses = Vec::new();
            if *sending > 0 {
                uses.push(format!("data was sent on {} of them", count(*sending)));
            }
            if *reading > 0 {
                uses.push(format!("data was read on {} of them", count(*reading)));
            }
            if uses.is_empty() {
                uses.push("data may have been sent or read".into());
            }
            format!("Since the peer's FIN, {}.", uses.join(" and "))
        }
        Evidence::Inherited {
            holding_processes,
            opener_holds,
        } => {
            let holders = match holding_processes {
                1 => "1 process holds them".to_owned(),
                _ => format!("{} processes hold them", count(*holding_processes)),
            };
            let opener = match opener_holds {
                Some(true) => "the opener is among them",
                Some(false) => "the opener is not among them",
                None => "who opened them is not known",
            };
            format!("{holders}; {opener}.")
        }
        Evidence::ReaderStuck {
            unread_bytes,
            unread_bytes_total,
        } => {
            format!(
                "{}, and nobody reads.",
                waiting(*unread_bytes, *unread_bytes_total)
            )
        }
        Evidence::ReaderStalled {
            unread_bytes,
            unread_bytes_total,
            window_bytes,
        } => format!(
            "{}; the receive window is down to {}: the peer cannot send any more, its FIN included.",
            waiting(*unread_bytes, *unread_bytes_total),
            bytes(*window_bytes),
        ),
        Evidence::Pooled {
            siblings_reused,
            siblings_evicted,
        } => format!(
            "While tcpleak watched, siblings (connections opened by the same code) were used again {} \
             and {} closed after their peer had gone, and their number does not grow.",
            things(*siblings_reused, "time", "times"),
            count(*siblings_evicted),
        ),
        Evidence::EofIgnored { eof_read_s } => format!(
            "A read returned end of file {} ago (oldest), and the descriptor is still open.",
            duration(*eof_read_s)
        ),
        Evidence::Eof {
            fin_unread: true, ..
        } => "Only the peer's FIN waits to be read: no read has returned end of file.".into(),
        Evidence::Eof {
            fin_unread: false, ..
        } => "Nothing is left to read, the peer's FIN included.".into(),
        Evidence::FinWait2Held {
            last_data_s,
            unread_bytes,
            unread_bytes_total,
        } => format!(
            "The program shut down its half, the peer acknowledged that and keeps its own open, from \
             which nothing has come for {}{}. No timer ends this while a descriptor is held.",
            duration(*last_data_s),
            also_waiting(*unread_bytes, *unread_bytes_total),
        ),
        Evidence::Orphaned {
            unacknowledged_bytes,
            unacknowledged_bytes_total,
            last_ack_s,
        } => format!(
            "{} not acknowledged. The peer's latest acknowledgement of anything came {} ago. No \
             descriptor is left; the kernel keeps the data.",
            match *unacknowledged_bytes_total {
                0 => "The FIN is".to_owned(),
                total => format!("{} and the FIN are", spread(*unacknowledged_bytes, total)),
            },
            duration(*last_ack_s),
        ),
        Evidence::SynSent { retransmits } => format!(
            "No answer has come to the SYN, which was sent again {} at most.",
            things(*retransmits, "time", "times")
        ),
        Evidence::OpenIdle {
            idle_s,
            unread_bytes,
            unread_bytes_total,
        } => format!(
            "Both sides are open, and nothing was sent or received for {} or longer{}.",
            duration(*idle_s),
            also_waiting(*unread_bytes, *unread_bytes_total),
        ),
    }
}

/// `; 12 KiB unread`, when there are any.
fn also_waiting(worst: u64, total: u64) -> String {
    match total {
        0 => String::new(),
        _ => format!("; {}", waiting(worst, total)),
    }
}

/// `12 KiB`, or `35 KiB (12 KiB on one connection)`
fn spread(worst: u64, total: u64) -> String {
    if worst == total {
        bytes(total)
    } else {
        format!("{} ({} on one connection)", bytes(total), bytes(worst))
    }
}

fn waiting(worst: u64, total: u64) -> String {
    if worst == total {
        format!("{} unread", bytes(total))
    } else {
        format!(
            "{} unread, {} of them on one connection",
            bytes(total),
            bytes(worst)
        )
    }
}

/// What to do about it.
pub(super) fn next_step(group: &Group) -> &'static str {
    match group.verdict {
        Verdict::NotAccepted
            if matches!(group.evidence, Evidence::NotAccepted { listener: None, .. }) =>
        {
            "No program can close it, only the kernel keeps it: ss -K ends it."
        }
        Verdict::NotAccepted => {
            "The listener's accept() loop is stuck, too slow, or out of descriptors: look at what the \
             process is doing, and at its limit of open files."
        }
        Verdict::DeadFd => {
            "Close the descriptor when a read, a write or poll() reports the error. Nothing else \
             frees it: no timeout, no keepalive, no ss -K."
        }
        Verdict::HalfCloseInUse => "None: the program is still using its half of the connection.",
        Verdict::Inherited => {
            "Open the socket with SOCK_CLOEXEC, so that programs started later do not inherit it; \
             after a fork() without exec(), close it in the child."
        }
        Verdict::ReaderStuck | Verdict::ReaderStalled => {
            "Find out what the reader waits for (a lock, a full queue, a slow consumer), and give \
             reads a deadline that closes the connection."
        }
        Verdict::Pooled => {
            "None: the pool will notice at the next use. An idle timeout shorter than the server's \
             avoids such connections."
        }
        Verdict::EofIgnored => {
            "Close the connection when recv() returns 0 (the stream ends), on every path."
        }
        Verdict::EofConsumed => {
            "Close the connection, or the response that holds it, once it has been read; errors and \
             early returns included."
        }
        Verdict::EofUnread => {
            "Close the connection, or the response that holds it, on every path, errors included. \
             If a pool keeps it: give the pool an idle timeout shorter than the server's."
        }
        Verdict::FinWait2Held => {
            "Close the descriptor once the answer has been read, and after a deadline when none comes: \
             net.ipv4.tcp_fin_timeout is only for connections that nobody holds. Then look at why the \
             peer does not close."
        }
        Verdict::Orphaned => {
            "See whether the peer still reads, or is gone. Before close(), wait for it with a deadline, \
             or set TCP_USER_TIMEOUT: otherwise the kernel goes on for minutes \
             (net.ipv4.tcp_orphan_retries)."
        }
        Verdict::SynSent => {
            "See whether the address is right, and whether a firewall drops the packets. Give connect() \
             a deadline: the kernel's own is about two minutes (net.ipv4.tcp_syn_retries)."
        }
        Verdict::OpenIdle => {
            "None if they are meant to wait. Otherwise close them after use; if a pool keeps them, give \
             it an idle timeout and a largest size."
        }
    }
}

/// Why there is no code path.
pub(super) fn no_code_path(group: &Group) -> &'static str {
    let has = |qualifier| group.qualifiers.contains(&qualifier);
    if has(Qualifier::NotTraced) {
        "unknown: this kernel does not let tcpleak trace. `tcpleak doctor` says why."
    } else if has(Qualifier::BeforeTracer) {
        "unknown: opened before tcpleak started. It is known for connections that are opened while \
         `sudo tcpleak` watches."
    } else if has(Qualifier::NotSampled) {
        "unknown: not sampled, to keep the tracing cheap or because the stack could not be read."
    } else if has(Qualifier::OwnerFromSurvey) {
        "unknown: accept() was not seen. Try --accept-stacks."
    } else {
        // A snapshot does not trace, or the symbols are not resolved yet.
        "unknown. It is known for connections that are opened while `sudo tcpleak` watches."
    }
}

/// What else is true of the group, as far as the headline and the code path do not say it.
pub(super) fn remarks(group: &Group) -> Vec<String> {
    let qualifiers = group.qualifiers.iter();
    qualifiers
        .filter_map(|qualifier| remark(group, *qualifier))
        .map(str::to_owned)
        .chain(not_sampled(group))
        .collect()
}

/// How many connections the code paths of the group are not those of.
fn not_sampled(group: &Group) -> impl Iterator<Item = String> {
    let of_these = |part: u64, what: &str| {
        let (part, all) = (
            count(part),
            things(group.count, "connection", "connections"),
        );
        format!("The {what} of {part} of these {all} was not sampled.")
    };
    let origin = group.unsampled;
    let origin = (group.origin.is_some() && origin > 0).then(|| of_these(origin, "code path"));
    let last_use = group
        .last_use
        .as_ref()
        .filter(|last| last.unsampled > 0 && (last.read.is_some() || last.write.is_some()))
        .map(|last| of_these(last.unsampled, "last use"));
    origin.into_iter().chain(last_use)
}

fn remark(group: &Group, qualifier: Qualifier) -> Option<&'static str> {
    match qualifier {
        Qualifier::Growing => None,
        Qualifier::AgeUnknown => Some(
            "When the peer went away is not known exactly: --min-age lies between the bounds of \
                 the age.",
        ),
        Qualifier::BeforeTracer if group.origin.is_none() => None,
        Qualifier::BeforeTracer => Some("Some were opened before tcpleak started."),
        // In place of the code path; and these are counted.
        Qualifier::NotTraced | Qualifier::NotSampled => None,
        Qualifier::OwnerFromSurvey => {
            Some("accept() was not seen: the owner is the process that holds the descriptor.")
        }
        Qualifier::HeldWithoutDescriptor => Some(
            "Some are held without descriptor: in flight between processes, or registered with \
                 io_uring.",
        ),
        Qualifier::ProcessEnded => Some(
            "The process has ended, and the connections with it: this is how they were last seen.",
        ),
        Qualifier::ClosedByExit if group.count == 1 => {
            Some("Nothing closed it but the end of its process.")
        }
        Qualifier::ClosedByExit => {
            Some("Some of them were closed by nothing but the end of their process.")
        }
        Qualifier::RecentlySent => Some(
            "Data was sent after the peer closed its half: the rest may still be in use. \
                 Watching with `sudo tcpleak` tells.",
        ),
        Qualifier::LeakOrIdlePool => Some(
            "In a snapshot an idle pool looks the same. Watching with `sudo tcpleak` tells them apart.",
        ),
    }
}
