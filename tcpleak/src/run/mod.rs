//! `tcpleak run`: runs a command, and says which connections it leaked, or whatever it started.
//!
//! Pure: which status comes of it, and [`Suppressions`]. The command's process and signals are the edge to the
//! world.

mod command;
mod exit_status;
mod outputs;
mod signals;
mod suppressions;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use self::{
    command::{Command, Inherited},
    exit_status::exit_status,
    outputs::Outputs,
    signals::Signals,
};
pub use self::{
    exit_status::Ended,
    suppressions::{Remote, Suppressions},
};
use crate::{
    cli::Run,
    findings::Findings,
    observer::Observer,
    probe::{Following, Options, Probe},
    process,
    report::{self, Report, StillRunning},
    select::Select,
};

/// Most captures of one process in a second, over time: tests do much in a short time, and nobody else
/// needs the machine.
const CAPTURES: u32 = 2000;
/// What code paths and surveys may cost: half of one core.
const BUDGET: f64 = 0.5;
/// How often it is asked for code paths that are not ready when the command has ended.
const PATIENCE: u32 = 4;

/// Runs the command.
///
/// # Errors
///
/// Before the command was started: when it cannot be watched, or the outputs cannot be written.
pub async fn run(options: Run) -> anyhow::Result<ExitCode> {
    let prepared = prepare(&options).await;
    let (mut watch, inherited) = prepared.context("the command was not started")?;
    let command = match watch.start(&options, inherited) {
        Ok(command) => command,
        Err(error) => {
            let name = options.command[0].to_string_lossy();
            anstream::eprintln!(
                "tcpleak: {} cannot be started: {error}",
                crate::plain::plain(&name)
            );
            return Ok(ExitCode::from(exit_status::of_start(&error)));
        }
    };
    let ended = watch.until_the_end(command, &options).await?;
    let failure = watch.failure.take();
    let mut report = watch.observer.report(&watch.findings);
    if !options.command_lines {
        report.hide_command_lines();
    }
    let run = watch.outcome(&mut report, ended);
    report.run = Some(run);
    let written = watch.outputs.write(&report, &watch.suppressions);
    let failure = failure.or(written.err());
    if let Some(error) = &failure {
        anstream::eprintln!("tcpleak: {error:#}");
    }
    Ok(ExitCode::from(exit_status(
        ended,
        failure.is_some(),
        report.has_leaks(),
        options.leak_exit_code,
    )))
}

/// All that must work before the command is started.
async fn prepare(options: &Run) -> anyhow::Result<(Watch, Inherited)> {
    anyhow::ensure!(
        process::sees_all_pids(),
        "tcpleak is in a namespace of process ids, where the kernel's ids mean nothing; run it on the host, \
         or the container with --pid=host"
    );
    let suppressions = Suppressions::load(options.suppressions.as_deref())?;
    let outputs = Outputs::open(options)?;
    let inherited = Inherited::now();
    let signals = Signals::catch().context("signals cannot be caught")?;
    let mut probe = Probe::load(Options {
        trace: true,
        follow: true,
        // Nobody else is to take the command's share of captures, and of the ring.
        only_followed: true,
        captures: CAPTURES,
        verbose: options.verbose,
        ..Options::default()
    })?;
    let following = probe.take_following().context(
        "this kernel does not let tcpleak trace what a command does; `tcpleak doctor` says why",
    )?;
    let mut watch = Watch {
        observer: Observer::new(probe, Select::everything(options.min_age), true, BUDGET)?,
        following,
        signals,
        suppressions,
        outputs,
        findings: Findings::default(),
        exit_age: options.exit_age,
        failure: None,
    };
    // What is there already is none of the command's.
    watch.look(&BTreeMap::new()).await?;
    Ok((watch, inherited))
}

/// A command that is watched.
struct Watch {
    observer: Observer,
    following: Following,
    signals: Signals,
    suppressions: Suppressions,
    outputs: Outputs,
    findings: Findings,
    exit_age: Duration,
    /// Why nothing is watched any more. The command runs on.
    failure: Option<anyhow::Error>,
}

impl Watch {
    fn start(&mut self, options: &Run, inherited: Inherited) -> std::io::Result<Command> {
        let start = || Command::start(&options.command, inherited);
        let started = self.following.start(start);
        started.map_err(std::io::Error::other)?
    }

    /// Watches until the command ends, and looks a last time.
    async fn until_the_end(
        &mut self,
        mut command: Command,
        options: &Run,
    ) -> anyhow::Result<Ended> {
        let mut next = Instant::now() + options.interval;
        let ended = loop {
            let watches = self.failure.is_none();
            tokio::select! {
                ended = command.wait() => break ended.context("waiting for the command")?,
                signal = self.signals.next() => command.forward(signal?),
                () = self.following.has_ends(), if watches => self.take_ends().await,
                () = self.observer.listen_until(next), if watches => {
                    let followed = self.following.processes();
                    let started = Instant::now();
                    self.failure = self.look(&followed).await.err();
                    next = started + self.observer.pause(options.interval);
                }
            }
        };
        if self.failure.is_none() {
            let followed = self.following.processes();
            self.failure = self.look(&followed).await.err();
            for _ in 0..PATIENCE {
                self.take_ends().await;
                if self.findings.unresolved().is_empty() {
                    break;
                }
            }
        }
        Ok(ended)
    }

    async fn look(&mut self, followed: &BTreeMap<u32, u64>) -> anyhow::Result<()> {
        // What has ended is not there any more: it comes first.
        self.take_ends().await;
        Ok(self.observer.look_for(&mut self.findings, followed).await?)
    }

    async fn take_ends(&mut self) {
        let ends = self.following.ends();
        self.observer
            .take_ends(&mut self.findings, ends, self.exit_age)
            .await;
    }

    /// What came of the command. Takes the leaks that do not count out of the report.
    fn outcome(&self, report: &mut Report, ended: Ended) -> report::Run {
        let today = report.taken_at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let (suppressed, unused_suppressions) = self.suppressions.apply(report, today);
        report::Run {
            command_status: ended.status,
            command_signal: ended.signal,
            suppressed,
            unused_suppressions,
            still_running: still_running(&self.following.processes()),
        }
    }
}

/// The processes that are no zombies. Ids of threads are among those that are followed on some kernels.
fn still_running(followed: &BTreeMap<u32, u64>) -> Vec<StillRunning> {
    let mut pids = process::pids();
    pids.sort_unstable();
    pids.into_iter()
        .filter(|pid| followed.contains_key(pid))
        .filter_map(|pid| {
            Some(StillRunning {
                pid,
                comm: process::running(pid)?,
            })
        })
        .collect()
}
