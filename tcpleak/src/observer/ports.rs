//! Looks at the ports, at most so often as that costs next to nothing, and what was found last.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use lru::LruCache;

use crate::{
    code_path::CodePaths,
    ports::{self, Found, Names, PortTable, Ports},
    process::Processes,
    report::Report,
};

/// Between two looks when nobody asks for ports in particular.
const UNASKED: Duration = Duration::from_secs(10);
/// Then a look may take this part of a core.
const SHARE: u32 = 1000;
/// Most code paths and processes that get names, of those with most sockets.
const NAMED: usize = 512;

/// Looks at ports.
#[derive(Debug, Default)]
pub struct PortWatch {
    ports: Ports,
    /// Whether every look at the host is one at its ports.
    always: bool,
    /// Whether there is but one, so that nobody can be seen to close anything.
    once: bool,
    next: Option<Duration>,
    latest: Latest,
}

/// What was found last.
#[derive(Debug, Default)]
struct Latest {
    time_wait: Vec<crate::report::TimeWait>,
    ports: Vec<crate::report::PortHeadroom>,
    advice: Vec<crate::report::Advice>,
    notes: Vec<String>,
}

impl PortWatch {
    /// One that looks every time, because somebody asked for ports; or once.
    pub fn always(once: bool) -> Self {
        Self {
            always: true,
            once,
            ..Self::default()
        }
    }

    /// Whether it is time for a look.
    pub fn is_due(&self, now: Duration) -> bool {
        self.always || self.next.is_none_or(|next| now >= next)
    }

    /// Takes in a look, and how long it took.
    pub async fn observe(
        &mut self,
        mut table: PortTable,
        cost: Duration,
        (code_paths, same_paths): (&CodePaths, &mut LruCache<u64, u64>),
        processes: &mut Processes,
    ) {
        self.next = Some(table.taken_at + UNASKED.max(cost * SHARE));
        for path in table
            .closes
            .iter_mut()
            .filter_map(|closes| closes.path.as_mut())
        {
            if let Some(first) = same_paths.get(path) {
                *path = *first;
            }
        }
        let found = self.ports.observe(&table);
        let mut described = HashMap::new();
        let mut wanted = HashSet::new();
        for by in found.shares.iter().filter_map(|share| share.by.as_ref()) {
            if described.len() < NAMED {
                let process = by.process;
                described
                    .entry(process)
                    .or_insert_with(|| processes.describe(process.pid, process.start_ns, &by.comm));
            }
            if wanted.len() < NAMED {
                wanted.extend(by.path);
            }
        }
        let paths = code_paths.resolve(wanted.into_iter().collect()).await;
        let names = Names {
            processes: &described,
            paths: &paths,
        };
        self.latest = Latest {
            time_wait: ports::time_wait_of(&found, &names),
            ports: ports::ports_of(&found),
            advice: ports::advice::advice(&found),
            notes: notes(&table, &found, self.once),
        };
    }

    /// The ports could not be read.
    pub fn failed(&mut self, now: Duration, why: &str) {
        self.next = Some(now + UNASKED);
        self.latest = Latest {
            notes: vec![format!("The ports in use could not be read: {why}.")],
            ..Latest::default()
        };
    }

    /// Adds what was found last to a report.
    pub fn add_to(&self, report: &mut Report) {
        report.time_wait.clone_from(&self.latest.time_wait);
        report.ports.clone_from(&self.latest.ports);
        report.advice.clone_from(&self.latest.advice);
        report.notes.extend(self.latest.notes.iter().cloned());
    }
}

fn notes(table: &PortTable, found: &Found, once: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if table.left_out > 0 {
        notes.push(format!(
            "{} sockets were left out of the counts of ports, because there are too many.",
            table.left_out
        ));
    }
    if table.closes_dropped > 0 {
        notes.push(format!(
            "{} connections were closed by more programs, to more places, than tcpleak keeps apart: nobody is named for these.",
            table.closes_dropped
        ));
    }
    let old: u64 = found
        .shares
        .iter()
        .map(|share| share.older_than_tracer)
        .sum();
    if once && old > 0 {
        notes.push(
            "Who closed a connection is known only while tcpleak watches: run `tcpleak time-wait` without --once for a minute."
                .to_owned(),
        );
    }
    notes
}
