//! Wires the parts together, one function for each command.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    cli::{CAPTURES, Cli, Command, Pace, Snapshot, TimeWait, Watch},
    code_path::reader,
    doctor,
    observer::Observer,
    on_leak,
    output::{Reporter, View},
    probe::{Options, Probe},
    process::is_running,
    report::Report,
    run,
    select::{MIN_AGE, Select},
    serve,
};

/// Exit status when leaks were found.
const LEAKS_FOUND: u8 = 3;

/// Runs the command.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.is_verbose() {
        show_kernel_log();
    }
    match cli.command {
        Some(Command::LeakForDoctor) => doctor::leak(),
        Some(Command::ReadCode) => {
            reader::run().context("reading the code of programs")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::RunOnLeak { command }) => {
            on_leak::run(&command).context("running the command of --on-leak")?;
            Ok(ExitCode::SUCCESS)
        }
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the event loop could not be started")?
            .block_on(observe(command, cli.watch)),
    }
}

/// Runs a command that looks at the host.
async fn observe(command: Option<Command>, watched: Watch) -> anyhow::Result<ExitCode> {
    match command {
        Some(Command::Snapshot(options)) => snapshot(options).await,
        Some(Command::TimeWait(options)) => time_wait(options).await,
        Some(Command::Run(options)) => run::run(options).await,
        Some(Command::Serve(options)) => serve::serve(*options).await,
        Some(Command::Doctor(options)) => doctor::run(options).await,
        _ => watch(watched).await,
    }
}

/// Says what went wrong. That nobody reads on (`tcpleak | head`) is no fault.
pub fn explain(error: &anyhow::Error) -> ExitCode {
    let unread = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(unread) {
        return ExitCode::SUCCESS;
    }
    anstream::eprintln!("tcpleak: {error:#}");
    ExitCode::FAILURE
}

async fn snapshot(options: Snapshot) -> anyhow::Result<ExitCode> {
    check(&options.select)?;
    let mut reporter = open(&options.output)?;
    let probe = Probe::load(Options {
        verbose: options.output.verbose,
        open: options.select.open,
        ..Options::default()
    })?;
    let mut observer = Observer::new(probe, options.select, false, 1.0)?;
    let report = observer.look().await?;
    reporter.finish(&report)?;
    Ok(status(&report))
}

async fn watch(options: Watch) -> anyhow::Result<ExitCode> {
    check(&options.select)?;
    let reporter = open(&options.output)?;
    let probe = Probe::load(Options {
        trace: true,
        follow: false,
        only_followed: false,
        accept_stacks: options.tracing.accept_stacks,
        captures: options.tracing.captures,
        verbose: options.output.verbose,
        open: options.select.open,
    })?;
    let pids = options.select.pid.clone();
    let observer = Observer::new(probe, options.select, true, options.pace.budget)?;
    let report = follow(observer, reporter, &options.pace, &pids).await?;
    Ok(status(&report))
}

async fn time_wait(options: TimeWait) -> anyhow::Result<ExitCode> {
    let mut reporter = open(&options.output)?.showing(View::Ports);
    let probe = Probe::load(Options {
        trace: !options.once,
        captures: CAPTURES,
        verbose: options.output.verbose,
        ..Options::default()
    })?;
    let select = Select::everything(MIN_AGE);
    let mut observer =
        Observer::new(probe, select, !options.once, options.pace.budget)?.with_ports(options.once);
    if options.once {
        reporter.finish(&observer.look().await?)?;
    } else {
        follow(observer, reporter, &options.pace, &[]).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks again and again, until Ctrl-C, the given time, or the end of the given processes. Gives the last
/// report.
async fn follow(
    mut observer: Observer,
    mut reporter: Reporter,
    pace: &Pace,
    pids: &[u32],
) -> anyhow::Result<Report> {
    let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let end = pace.duration.map(|duration| Instant::now() + duration);
    loop {
        let started = Instant::now();
        let report = observer.look().await?;
        reporter.update(&report)?;
        if !pids.is_empty() && !pids.iter().any(|pid| is_running(*pid)) {
            break;
        }
        let next = started + observer.pause(pace.interval);
        tokio::select! {
            () = observer.listen_until(next) => {}
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            () = at(end) => break,
        }
        if reporter.is_abandoned() {
            return Ok(report);
        }
    }
    let report = observer.look().await?;
    reporter.finish(&report)?;
    Ok(report)
}

fn open(output: &crate::cli::Output) -> anyhow::Result<Reporter> {
    Reporter::open(output.format, output.output.as_deref(), output.full_stacks)
        .context("the report cannot be written")
}

/// Shows what the kernel programs log, on standard error.
fn show_kernel_log() {
    // Another logger can only be one of a program that embeds this library: leave it.
    let _ = env_logger::Builder::new()
        .filter_module("tcpleak_ebpf", log::LevelFilter::Debug)
        .try_init();
}

/// Refuses a selection that can never match anything.
fn check(select: &Select) -> anyhow::Result<()> {
    for pid in &select.pid {
        anyhow::ensure!(
            is_running(*pid),
            "there is no process {pid}; `pgrep -a NAME` finds one by name"
        );
    }
    Ok(())
}

fn status(report: &Report) -> ExitCode {
    match report.has_leaks() {
        true => ExitCode::from(LEAKS_FOUND),
        false => ExitCode::SUCCESS,
    }
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
