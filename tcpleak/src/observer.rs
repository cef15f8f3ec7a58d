//! One look after another at the host: surveys, judges, and gathers what the report needs.

mod ports;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    num::NonZeroUsize,
    time::Duration,
};

use jiff::Timestamp;
use lru::LruCache;
use tokio::time::{Instant, sleep_until};

use crate::{
    case::{Case, candidates},
    code_path::{CodePaths, Resolved},
    descriptors::{COUNTED, DescriptorWatch, Suspect, suspects},
    findings::Findings,
    governor::Governor,
    grouping::{Context, Grouping},
    health::Health,
    judge::{Rules, judge_end},
    probe::{Probe, ProbeError},
    process::{
        self, ProcessInfo, Processes,
        descriptors::{Counter, Usage, file_handles},
        is_alive,
    },
    report::{Report, Verdict},
    select::Select,
    survey::{Birth, ProcessId, Record, Sighting, Task},
    tracker::Tracker,
};

pub use self::ports::PortWatch;

/// Fingerprints that are remembered to stand for paths with another one.
const SAME_PATHS: NonZeroUsize = NonZeroUsize::new(32_768).unwrap();

/// A pause between surveys that the reader should know of.
const NOTABLE_PAUSE: Duration = Duration::from_secs(5);

/// Observes the host through a probe.
pub struct Observer {
    probe: Probe,
    select: Select,
    rules: Rules,
    tracker: Tracker,
    grouping: Grouping,
    descriptors: DescriptorWatch,
    processes: Processes,
    code_paths: CodePaths,
    ports: PortWatch,
    /// The first fingerprint of each path that has several.
    same_paths: LruCache<u64, u64>,
    governor: Governor,
    reader: ReaderTime,
    kernel: String,
    survey_costs: [Duration; 2],
    surveys: u64,
    /// Whether code paths come, and nobody has looked at the processes yet that were there before.
    to_look_around: bool,
    slowed_down_to: Option<Duration>,
}

impl Observer {
    /// An observer that has not looked yet, and that keeps within a budget (a part of one CPU);
    /// `watching` says that it will look more than once, and that connections are traced meanwhile. Fails
    /// when the threads that take code paths cannot be started.
    pub fn new(probe: Probe, select: Select, watching: bool, budget: f64) -> io::Result<Self> {
        let rules = Rules {
            min_age: select.min_age,
            open: select.open,
            watching,
            traceable: probe.can_trace(),
        };
        let mut observer = Self {
            probe,
            select,
            rules,
            tracker: Tracker::default(),
            grouping: Grouping::default(),
            descriptors: DescriptorWatch::default(),
            processes: Processes::new(),
            code_paths: CodePaths::start()?,
            ports: PortWatch::default(),
            same_paths: LruCache::new(SAME_PATHS),
            governor: Governor::new(budget),
            reader: ReaderTime::default(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            survey_costs: [Duration::ZERO; 2],
            surveys: 0,
            slowed_down_to: None,
            to_look_around: false,
        };
        if let Some(captures) = observer.probe.take_captures() {
            observer.code_paths.feed(captures)?;
            observer.to_look_around = true;
        }
        observer.govern();
        Ok(observer)
    }

    /// Has every look be one at the ports too; `once` says that there is but one look.
    #[must_use]
    pub fn with_ports(mut self, once: bool) -> Self {
        self.ports = PortWatch::always(once);
        self
    }

    /// Takes a survey and reports on it.
    pub async fn look(&mut self) -> Result<Report, ProbeError> {
        let taken_at = Timestamp::now();
        let cost_before = self.probe.thread_time();
        self.survey().await?;
        let mut cases = candidates(&self.tracker, &self.select, self.rules);
        let suspects = suspects(&cases);
        let uncounted = suspects.len().saturating_sub(COUNTED);
        let descriptors = self
            .descriptors
            .forecast(self.tracker.now(), &count_descriptors(suspects));
        cases.retain(|case| case.is_shown(&self.select));
        if self.rules.watching {
            self.probe
                .trace_accept_calls(cases.iter().any(wants_accept_calls));
        }
        let processes = describe(&mut self.processes, &cases);
        let paths = resolve(&self.code_paths, &cases).await;
        let context = Context {
            taken_at,
            kernel: &self.kernel,
            processes: &processes,
            paths: &paths,
            alive: &|process| is_alive(process.pid, process.start_ns),
            descriptors,
            file_handles: file_handles(),
            notes: self.notes().chain(note_of_uncounted(uncounted)).collect(),
        };
        let mut report = self.grouping.report(&self.tracker, cases, context);
        self.look_at_ports().await;
        self.ports.add_to(&mut report);
        self.count_cost(cost_before);
        Ok(report)
    }

    async fn look_at_ports(&mut self) {
        let now = self.tracker.now();
        if !self.ports.is_due(now) {
            return;
        }
        let before = self.probe.thread_time();
        match self.probe.ports() {
            Ok(table) => {
                let cost = self.probe.thread_time().saturating_sub(before);
                let paths = (&self.code_paths, &mut self.same_paths);
                self.ports
                    .observe(table, cost, paths, &mut self.processes)
                    .await;
            }
            Err(error) => self.ports.failed(now, &error.to_string()),
        }
    }

    /// Takes a survey.
    async fn survey(&mut self) -> Result<(), ProbeError> {
        if std::mem::take(&mut self.to_look_around) {
            self.code_paths.look_around().await;
            self.learn();
        }
        let mut survey = self.probe.survey()?;
        self.learn();
        self.unify_paths(&mut survey.sightings);
        self.tracker.observe(survey);
        self.govern();
        self.probe.flush_log();
        if self.rules.watching {
            self.probe.set_suspects(self.tracker.suspects());
        }
        Ok(())
    }

    fn count_cost(&mut self, before: Duration) {
        let cost = self.probe.thread_time().saturating_sub(before);
        self.survey_costs = [self.survey_costs[1], cost];
        self.surveys += 1;
    }

    /// Takes a survey, and keeps what is found of the processes that are followed.
    pub async fn look_for(
        &mut self,
        findings: &mut Findings,
        followed: &BTreeMap<u32, u64>,
    ) -> Result<(), ProbeError> {
        let cost_before = self.probe.thread_time();
        self.survey().await?;
        let cases: Vec<_> = candidates(&self.tracker, &self.select, self.rules)
            .into_iter()
            .filter(|case| case.is_shown(&self.select) && !case.judgement.verdict.is_notable())
            .filter(|case| is_of(case, followed))
            .collect();
        self.probe
            .trace_accept_calls(cases.iter().any(wants_accept_calls));
        for (pid, start_ns) in followed {
            // Once it has ended nothing but its name is known.
            self.processes.describe(*pid, *start_ns, "");
        }
        let processes = describe(&mut self.processes, &cases);
        let paths = resolve(&self.code_paths, &cases).await;
        findings.keep(&cases, processes, paths);
        self.count_cost(cost_before);
        Ok(())
    }

    /// Keeps what connections were that nothing but the end of their process closed.
    /// What `exit_age` is, [`judge_end`] says.
    pub async fn take_ends(
        &mut self,
        findings: &mut Findings,
        mut ends: Vec<Sighting>,
        exit_age: Duration,
    ) {
        self.learn();
        self.unify_paths(&mut ends);
        for sighting in ends {
            let Some(connection) = self.tracker.end(sighting) else {
                continue;
            };
            let judged = judge_end(&self.tracker, &connection, self.rules, exit_age);
            if let Some(judgement) = judged.filter(|judgement| judgement.leak) {
                let case = Case::new(&self.tracker, &connection, judgement);
                let processes = describe(&mut self.processes, std::slice::from_ref(&case));
                findings.keep(&[case], processes, HashMap::new());
            }
        }
        // Their files are still open here, whatever became of the processes.
        let paths = self.code_paths.resolve(findings.unresolved()).await;
        findings.learn(paths);
    }

    /// The report on what was found.
    pub fn report(&self, findings: &Findings) -> Report {
        let context = Context {
            taken_at: Timestamp::now(),
            kernel: &self.kernel,
            processes: findings.processes(),
            paths: findings.paths(),
            alive: &|process| is_alive(process.pid, process.start_ns),
            descriptors: Vec::new(),
            file_handles: None,
            notes: self.notes().collect(),
        };
        Grouping::default().report(&self.tracker, findings.cases().collect(), context)
    }

    /// How tcpleak itself is doing.
    pub fn health(&self) -> Health {
        let costs = self.probe.costs();
        let reader = self.code_paths.reader_pid();
        let pids = [Some(std::process::id()), reader];
        Health {
            surveys: self.surveys,
            survey_time: self.survey_costs[1],
            user_time: costs.surveys + costs.paths + self.reader.before + self.reader.latest,
            kernel_time: costs.programs(),
            captures: costs.captures(),
            resident_bytes: pids
                .into_iter()
                .flatten()
                .filter_map(process::resident_bytes)
                .sum(),
        }
    }

    /// How long to wait between two looks: as asked, but longer on a host where a look is costly.
    pub fn pause(&mut self, asked: Duration) -> Duration {
        let affordable = self.governor.pause(self.survey_cost());
        self.slowed_down_to = (affordable > asked).then_some(affordable);
        asked.max(affordable)
    }

    /// CPU time of a look: of the latest two the cheaper counts, because the first one after
    /// something else pays for cold caches.
    fn survey_cost(&self) -> Duration {
        self.survey_costs[0].min(self.survey_costs[1])
    }

    /// Learns from code paths as they come, until it is time for the next look.
    pub async fn listen_until(&mut self, next: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(next) => return,
                () = self.code_paths.has_learned() => self.learn(),
                () = self.probe.log() => {}
            }
        }
    }

    fn learn(&mut self) {
        for learned in self.code_paths.learned() {
            if let Some(layout) = learned.layout {
                self.probe.set_layout(&layout);
            }
            if let Some(plan) = learned.plan {
                self.probe.set_chain(&plan);
            }
            if let Some((fingerprint, first)) = learned.same {
                self.same_paths.put(fingerprint, first);
            }
        }
    }

    /// Gives every path the fingerprint under which it was first seen.
    fn unify_paths(&mut self, sightings: &mut [Sighting]) {
        for record in sightings
            .iter_mut()
            .filter_map(|sighting| sighting.record.as_mut())
        {
            for path in record.paths_mut() {
                if let Some(first) = self.same_paths.get(path) {
                    *path = *first;
                }
            }
        }
    }

    fn govern(&mut self) {
        if !self.rules.watching {
            return;
        }
        let mut costs = self.probe.costs();
        costs.paths += self.reader.total(self.code_paths.reader_pid());
        let allowance = self.governor.observe(costs);
        self.probe.set_capture_rate(allowance.captures_per_second);
        self.probe.trace_uses(allowance.trace_uses);
    }

    fn notes(&self) -> impl Iterator<Item = String> {
        let slowed_down = self.slowed_down_to.filter(|pause| *pause >= NOTABLE_PAUSE);
        let slowed_down = slowed_down.map(|pause| {
            format!(
                "Surveys are {} seconds apart, because one takes {} ms of CPU time on this host; a larger --budget brings them closer.",
                pause.as_secs(),
                self.survey_cost().as_millis()
            )
        });
        let untraced = (!self.governor.allowance().trace_uses).then(|| {
            "Reads and writes are not traced for now: there are so many that looking at each would cost more than --budget. The last use of connections may be an earlier one."
                .to_owned()
        });
        let over = self.governor.over_budget().map(|used| {
            format!(
                "Tracing uses {:.1} % of one core, more than --budget: connections open and end so often that just following them costs as much, and that is never given up.",
                used * 100.0
            )
        });
        self.probe
            .caveats()
            .chain(slowed_down)
            .chain(untraced)
            .chain(over)
    }
}

/// Whether a case is one of the processes that are followed: one of them opened the connection, or, where
/// that was not seen, holds it now or could accept it. What is older than they are is none of theirs.
fn is_of(case: &Case<'_>, followed: &BTreeMap<u32, u64>) -> bool {
    let held = || {
        let mut holders = case.holders.keys();
        holders.any(|(process, _)| followed.contains_key(&process.pid))
    };
    match &case.connection.record {
        Some(record) if record.birth == Birth::BeforeTracer => false,
        Some(record) => record.followed || (record.opener.is_none() && held()),
        None => false,
    }
}

/// CPU time of the readers, one after the other.
#[derive(Debug, Default)]
struct ReaderTime {
    current: Option<u32>,
    before: Duration,
    latest: Duration,
}

impl ReaderTime {
    fn total(&mut self, current: Option<u32>) -> Duration {
        if self.current != current {
            self.before += std::mem::take(&mut self.latest);
            self.current = current;
        }
        if let Some(time) = current.and_then(process::cpu_time) {
            self.latest = time;
        }
        self.before + self.latest
    }
}

fn count_descriptors(suspects: Vec<Suspect>) -> Vec<(Suspect, Usage)> {
    let mut counter = Counter::default();
    suspects
        .into_iter()
        .take(COUNTED)
        .filter_map(|suspect| {
            let usage = counter.usage(suspect.process)?;
            Some((suspect, usage))
        })
        .collect()
}

fn note_of_uncounted(uncounted: usize) -> Option<String> {
    (uncounted > 0).then(|| {
        format!(
            "The descriptors of {uncounted} more processes were not counted: those of {COUNTED} are."
        )
    })
}

/// A leak of accepted connections whose accept() nothing has seen.
fn wants_accept_calls(case: &Case<'_>) -> bool {
    let unseen = |record: &Record| record.birth.is_passive() && record.birth != Birth::Accepted;
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

async fn resolve(code_paths: &CodePaths, cases: &[Case<'_>]) -> HashMap<u64, Resolved> {
    let wanted: HashSet<u64> = cases
        .iter()
        .filter_map(|case| case.connection.record.as_ref())
        .flat_map(Record::paths)
        .collect();
    code_paths.resolve(wanted.into_iter().collect()).await
}
