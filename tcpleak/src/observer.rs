//! One look after another at the host: surveys, judges, and gathers what the report needs.

use std::{
    collections::{HashMap, HashSet},
    io,
    num::NonZeroUsize,
    time::Duration,
};

use jiff::Timestamp;
use lru::LruCache;
use tokio::time::{Instant, sleep_until};

use crate::{
    case::{Case, cases},
    code_path::{RawPath, Resolved, Symbolizer},
    grouping::{Context, Grouping},
    judge::Rules,
    probe::{Probe, ProbeError},
    process::{ProcessInfo, Processes, is_alive},
    report::{Report, Verdict},
    select::Select,
    survey::{ProcessId, Record, Task},
    tracker::Tracker,
};

/// Code paths kept as captured: as many as the kernel remembers to have sent, and some more.
const PATHS_KEPT: NonZeroUsize = NonZeroUsize::new(32_768).unwrap();

/// Surveys may take one part in so many of one CPU: a host with very many sockets is surveyed less
/// often than asked.
const SURVEY_SHARE: u32 = 50;

/// Observes the host through a probe.
pub struct Observer {
    probe: Probe,
    select: Select,
    rules: Rules,
    tracker: Tracker,
    grouping: Grouping,
    processes: Processes,
    symbolizer: Symbolizer,
    paths: LruCache<u64, RawPath>,
    kernel: String,
    slowed_down_to: Option<Duration>,
    accept_calls_on_demand: bool,
}

impl Observer {
    /// An observer that has not looked yet. Fails when the thread that names code paths cannot be
    /// started.
    pub fn new(probe: Probe, select: Select, rules: Rules) -> io::Result<Self> {
        Ok(Self {
            probe,
            select,
            rules,
            tracker: Tracker::default(),
            grouping: Grouping::default(),
            processes: Processes::new(),
            symbolizer: Symbolizer::start()?,
            paths: LruCache::new(PATHS_KEPT),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            slowed_down_to: None,
            accept_calls_on_demand: rules.watching,
        })
    }

    /// Takes a survey and reports on it.
    pub async fn look(&mut self) -> Result<Report, ProbeError> {
        let taken_at = Timestamp::now();
        self.tracker.observe(self.probe.survey()?);
        self.take_captured_paths();
        self.probe.flush_log();
        if self.rules.watching {
            self.probe.set_suspects(self.tracker.suspects());
        }
        let cases = cases(&self.tracker, &self.select, self.rules);
        if self.accept_calls_on_demand {
            self.probe
                .trace_accept_calls(cases.iter().any(wants_accept_calls));
        }
        let processes = describe(&mut self.processes, &cases);
        let paths = resolve(&self.symbolizer, &mut self.paths, &cases).await;
        let context = Context {
            taken_at,
            kernel: &self.kernel,
            processes: &processes,
            paths: &paths,
            alive: &|process| is_alive(process.pid, process.start_ns),
            notes: self.slowed_down_to.map(slowed_down).into_iter().collect(),
        };
        Ok(self.grouping.report(&self.tracker, cases, context))
    }

    /// Leaves the accept() system calls traced from the start, instead of only while a suspect leaks
    /// accepted connections.
    pub fn keep_accept_calls(&mut self) {
        self.accept_calls_on_demand = false;
    }

    /// How long to wait between two looks: as asked, but longer on a host where a survey is costly.
    pub fn pause(&mut self, asked: Duration) -> Duration {
        let affordable = self.probe.survey_cost() * SURVEY_SHARE;
        self.slowed_down_to = (affordable > asked).then_some(affordable);
        asked.max(affordable)
    }

    /// Takes code paths as they come, until it is time for the next look.
    pub async fn listen_until(&mut self, next: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(next) => return,
                () = self.probe.wait() => self.take_captured_paths(),
            }
        }
    }

    fn take_captured_paths(&mut self) {
        for path in self.probe.captured_paths() {
            self.paths.put(path.fingerprint, path);
        }
    }
}

/// A leak of accepted connections whose accept() nothing has seen.
fn wants_accept_calls(case: &Case<'_>) -> bool {
    let unseen = |record: &Record| {
        record.birth.is_passive() && record.birth != crate::survey::Birth::Accepted
    };
    let leaks = case.judgement.leak && case.judgement.verdict != Verdict::NotAccepted;
    leaks && case.connection.family.passive && case.connection.record.as_ref().is_none_or(unseen)
}

fn describe(known: &mut Processes, cases: &[Case<'_>]) -> HashMap<ProcessId, ProcessInfo> {
    let mut described = HashMap::new();
    for Task { process, comm, .. } in cases.iter().filter_map(|case| case.owner) {
        described
            .entry(*process)
            .or_insert_with(|| known.describe(process.pid, process.start_ns, comm));
    }
    described
}

async fn resolve(
    symbolizer: &Symbolizer,
    captured: &mut LruCache<u64, RawPath>,
    cases: &[Case<'_>],
) -> HashMap<u64, Resolved> {
    let wanted: HashSet<u64> = cases
        .iter()
        .filter_map(|case| case.connection.record.as_ref())
        .flat_map(Record::paths)
        .collect();
    let paths = wanted
        .iter()
        .filter_map(|fingerprint| captured.get(fingerprint).cloned())
        .collect();
    symbolizer.resolve(paths).await
}

fn slowed_down(pause: Duration) -> String {
    format!(
        "Surveys are {:.1} seconds apart, because one takes long on this host and tcpleak spends at most a fiftieth of the time on them.",
        pause.as_secs_f64()
    )
}
