//! The connections that a report is about.
//!
//! Pure: judged, put down to a process, and selected.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    judge::{Judgement, Rules, judge},
    report::{Qualifier, Verdict},
    select::Select,
    survey::{ProcessId, Task},
    tracker::{Connection, Tracker},
};

/// A judged connection.
pub struct Case<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// What the evidence about it means.
    pub judgement: Judgement,
    /// The process it is put down to: who holds it, or whose listener it waits at.
    pub owner: Option<&'a Task>,
    /// Who holds it, or could accept it.
    pub holders: &'a BTreeMap<(ProcessId, u32), Task>,
    /// The remote end of an opened connection, the listening end of an accepted one.
    pub endpoint: SocketAddr,
}

/// The connections that a report is about: judged, and selected.
pub fn cases<'a>(tracker: &'a Tracker, select: &Select, rules: Rules) -> Vec<Case<'a>> {
    let mut cases = candidates(tracker, select, rules);
    cases.retain(|case| case.is_shown(select));
    cases
}

/// Every connection of the selection that there is something to say about, shown or not.
pub fn candidates<'a>(tracker: &'a Tracker, select: &Select, rules: Rules) -> Vec<Case<'a>> {
    tracker
        .connections()
        .filter_map(|connection| {
            Some(Case::new(
                tracker,
                connection,
                judge(tracker, connection, rules)?,
            ))
        })
        .filter(|case| case.is_selected(select))
        .collect()
}

impl<'a> Case<'a> {
    /// A connection with what it means.
    pub fn new(tracker: &'a Tracker, connection: &'a Connection, judgement: Judgement) -> Self {
        let listener = match judgement.verdict {
            Verdict::NotAccepted => tracker.listeners_of(&connection.socket).next(),
            _ => None,
        };
        let (owner, holders) = match listener {
            Some(listener) => (listener.holders.values().next(), &listener.holders),
            None => (connection.owner(), &connection.holders),
        };
        let endpoint = connection.family.endpoint;
        Self {
            connection,
            judgement,
            owner,
            holders,
            endpoint,
        }
    }

    /// Whether it is shown: as a leak, or because everything is.
    pub fn is_shown(&self, select: &Select) -> bool {
        self.judgement.leak
            || self.judgement.verdict.is_notable()
            || self.judgement.qualifiers.contains(&Qualifier::AgeUnknown)
            || select.all
    }

    fn is_selected(&self, select: &Select) -> bool {
        let socket = &self.connection.socket;
        let tasks = || {
            let holders = self.holders.values();
            holders.chain(self.connection.opener()).chain(self.owner)
        };
        (select.pid.is_empty() || tasks().any(|task| select.pid.contains(&task.process.pid)))
            && (select.comm.is_empty() || tasks().any(|task| select.comm.contains(&task.comm)))
            && (select.port.is_empty()
                || select.port.contains(&socket.local.port())
                || select.port.contains(&socket.remote.port()))
            && (select.remote.is_empty()
                || select
                    .remote
                    .iter()
                    .any(|network| network.contains(socket.remote.ip())))
    }
}
