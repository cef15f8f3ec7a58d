//! Connections that nothing but the end of their process closed.

use std::time::Duration;

use crate::{
    judge::{Judgement, Rules, judge},
    report::Qualifier,
    tracker::{Connection, Tracker},
};

/// How long the peer must have been gone when the process ended, unless the program had read the end of
/// file. A server that is shut down while a program ends leaves its clients less time than that.
const MOMENT: Duration = Duration::from_millis(100);

/// Judges a connection that was closed by the end of its process, as of that moment; `None` when the peer
/// was there. It does not take `--min-age`: the program has no time left in which it could close it.
pub fn judge_end(tracker: &Tracker, connection: &Connection, rules: Rules) -> Option<Judgement> {
    let mut judgement = judge(tracker, connection, rules)?;
    if !connection.socket.peer_gone() {
        return None;
    }
    let record = connection.record.as_ref()?;
    let was_told = record.eof_read_at.is_some();
    judgement.leak = judgement.verdict.is_leak() && (was_told || judgement.age.at_least >= MOMENT);
    judgement.qualifiers.push(Qualifier::ClosedByExit);
    Some(judgement)
}
