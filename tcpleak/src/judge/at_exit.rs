//! Connections that nothing but the end of their process closed.

use std::time::Duration;

use super::{Judgement, Rules, judge};
use crate::{
    report::Qualifier,
    tracker::{Connection, Tracker},
};

/// Judges a connection that was closed by the end of its process, as of that moment; `None` when the peer
/// was there. It does not take `--min-age`: the program has no time left in which it could close it. It
/// takes that the peer had been gone for `exit_age`, unless the program had read the end of file: who shuts
/// its server down while it ends has not leaked what its clients hold.
pub fn judge_end(
    tracker: &Tracker,
    connection: &Connection,
    rules: Rules,
    exit_age: Duration,
) -> Option<Judgement> {
    let mut judgement = judge(tracker, connection, rules)?;
    if !connection.socket.peer_gone() {
        return None;
    }
    let record = connection.record.as_ref()?;
    let was_told = record.eof_read_at.is_some();
    judgement.leak =
        judgement.verdict.is_leak() && (was_told || judgement.age.at_least >= exit_age);
    judgement.qualifiers.push(Qualifier::ClosedByExit);
    Some(judgement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::Verdict,
        survey::{Birth, ProcessId, Record, Sighting, Socket, State, Survey, Task, Use},
    };

    const RULES: Rules = Rules {
        open: None,
        min_age: Duration::from_secs(3600),
        watching: true,
        traceable: true,
    };

    const EXIT_AGE: Duration = Duration::from_millis(100);

    /// When the process ended.
    const END: Duration = Duration::from_millis(10_000);

    fn task() -> Task {
        Task {
            process: ProcessId {
                pid: 7,
                start_ns: 1,
            },
            tid: 7,
            comm: "tests".into(),
        }
    }

    /// A connection whose peer has gone so long before the end of its process, the FIN unread.
    fn gone_for(milliseconds: u64) -> Sighting {
        let at = |milliseconds| Some(END - Duration::from_millis(milliseconds));
        Sighting {
            socket: Socket {
                address: 1,
                inode: 0,
                local: "127.0.0.1:40000".parse().unwrap(),
                remote: "127.0.0.1:80".parse().unwrap(),
                netns: 1,
                state: State::CloseWait,
                copied_seq: 1,
                unread: 1,
                write_seq: 1,
                snd_una: 1,
                receive_window: 1000,
                since_ack: Duration::ZERO,
                since_data: Duration::ZERO,
                since_sent: Duration::ZERO,
                last_event_at: END,
                retransmits: 0,
                accept_queue: 0,
                backlog: 0,
                error: 0,
                fin_received: true,
                // As the kernel has it while it closes: nothing holds it any more.
                has_owner: false,
                has_file: true,
            },
            record: Some(Record {
                birth: Birth::Connected,
                opened_at: at(milliseconds + 100),
                peer_gone_at: at(milliseconds),
                eof_read_at: None,
                closed_at: Some(END),
                end_error: 0,
                origin: Some(1),
                opener: Some(task()),
                closer: None,
                followed: true,
                last_read: None,
                last_write: None,
            }),
            holder: None,
        }
    }

    fn judged(sighting: Sighting) -> Option<Judgement> {
        let mut tracker = Tracker::default();
        let connection = tracker.end(sighting).unwrap();
        judge_end(&tracker, &connection, RULES, EXIT_AGE)
    }

    fn is_leak(sighting: Sighting) -> bool {
        judged(sighting).unwrap().leak
    }

    fn changed(mut sighting: Sighting, change: impl FnOnce(&mut Record)) -> Sighting {
        change(sighting.record.as_mut().unwrap());
        sighting
    }

    #[test]
    fn what_nothing_but_the_end_closed_is_a_leak_whatever_its_age() {
        let judgement = judged(gone_for(150)).unwrap();
        assert!(judgement.leak);
        assert_eq!(judgement.verdict, Verdict::EofUnread);
        assert_eq!(judgement.age.at_least, Duration::from_millis(150));
        assert_eq!(judgement.qualifiers, [Qualifier::ClosedByExit]);
    }

    #[test]
    fn a_peer_that_goes_right_before_the_end_proves_nothing() {
        assert!(!is_leak(gone_for(99)));
        assert!(is_leak(gone_for(100)));
    }

    #[test]
    fn who_was_told_of_the_end_has_no_excuse() {
        let told = changed(gone_for(5), |record| record.eof_read_at = Some(END));
        let judgement = judged(told).unwrap();
        assert_eq!(
            (judgement.verdict, judgement.leak),
            (Verdict::EofIgnored, true)
        );
    }

    #[test]
    fn who_still_sends_is_using_its_half() {
        let written = |before: u64| Use {
            at: END - Duration::from_millis(before),
            count: 2,
            path: None,
            captured_count: 0,
        };
        let sends = |before| {
            changed(gone_for(5000), |record| {
                record.last_write = Some(written(before))
            })
        };
        let rules = Rules {
            min_age: Duration::from_secs(1),
            ..RULES
        };
        let verdict = |sighting| {
            let mut tracker = Tracker::default();
            let connection = tracker.end(sighting).unwrap();
            judge_end(&tracker, &connection, rules, EXIT_AGE)
                .unwrap()
                .verdict
        };
        assert_eq!(verdict(sends(500)), Verdict::HalfCloseInUse);
        assert_eq!(verdict(sends(2000)), Verdict::EofUnread);
        assert_eq!(verdict(sends(6000)), Verdict::EofUnread);
    }

    #[test]
    fn a_connection_with_a_peer_is_nothing_to_judge() {
        let mut healthy = changed(gone_for(5000), |record| record.peer_gone_at = None);
        healthy.socket.state = State::Established;
        healthy.socket.fin_received = false;
        assert_eq!(judged(healthy.clone()), None);
        // Nor is one that nobody reads, while the peer waits.
        healthy.socket.receive_window = 0;
        healthy.socket.unread = 1000;
        assert_eq!(judged(healthy), None);
    }

    #[test]
    fn an_end_is_the_end_of_what_surveys_saw() {
        let mut tracker = Tracker::default();
        let mut seen = gone_for(5000);
        (seen.socket.has_owner, seen.socket.has_file) = (true, true);
        tracker.observe(Survey {
            taken_at: END - Duration::from_millis(50),
            sightings: vec![seen],
            ..Survey::default()
        });
        assert_eq!(tracker.connections().count(), 1);
        let connection = tracker.end(gone_for(5000)).unwrap();
        assert_eq!(connection.times_gone, 2);
        assert_eq!(tracker.connections().count(), 0);
        assert_eq!(tracker.now(), END);
    }

    #[test]
    fn an_end_without_a_time_is_none() {
        let endless = changed(gone_for(5000), |record| record.closed_at = None);
        assert!(Tracker::default().end(endless).is_none());
    }
}
