//! `tcpleak serve`: watches for weeks, and answers over HTTP what it sees.
//!
//! Pure: [`Access`], what is answered, the [`Board`] that holds what was seen last. The [`Server`] and
//! the files of TLS are the edge to the world. It runs on a thread of its own: a slow client never delays
//! a survey, and a survey never delays an answer.

mod access;
mod answer;
mod board;
mod listen;
mod page;
mod server;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

pub use self::{
    access::Access,
    board::{Board, Freshness},
    listen::Listen,
    server::Server,
};
use crate::{
    cli::Serve,
    news::News,
    observer::Observer,
    on_leak::{OnLeak, Prepared},
    otlp::Otlp,
    probe::{Options, Probe, ProbeError},
    rights,
};

/// Surveys that may fail in a row before tcpleak gives up: whoever supervises it starts it anew.
const FAILURES: u32 = 10;

/// Serves until it is told to end.
///
/// # Errors
///
/// When it cannot listen as asked, cannot trace, or surveys fail again and again.
pub async fn serve(options: Serve) -> anyhow::Result<ExitCode> {
    let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let listen = Listen::open(&options.listen)?;
    let on_leak = options.forward.on_leak.as_deref().map(Prepared::new);
    let on_leak = on_leak.transpose()?;
    let probe = Probe::load(Options {
        trace: true,
        accept_stacks: options.tracing.accept_stacks,
        captures: options.tracing.captures,
        verbose: options.verbose,
        open: options.select.open,
        ..Options::default()
    })?;
    rights::give_up(&options.user)?;
    // Threads keep the rights that their maker had: none is made before.
    let observer = Observer::new(probe, options.select, true, options.budget)?;
    let board = Arc::new(Board::new(options.interval));
    let server = Server::start(listen, board.clone())?;
    anstream::eprintln!("tcpleak: listening on {}", server.address());
    let on_leak = on_leak.map(Prepared::start).transpose()?;
    let otlp = options.forward.otlp.as_deref().map(Otlp::start);
    let otlp = otlp.transpose()?;
    let mut watch = Watch {
        observer,
        board,
        on_leak,
        otlp,
        news: News::default(),
        interval: options.interval,
        command_lines: options.command_lines,
    };
    let ended = watch.until(&mut interrupted, &mut terminated).await;
    watch.finish();
    ended?;
    Ok(ExitCode::SUCCESS)
}

struct Watch {
    observer: Observer,
    board: Arc<Board>,
    on_leak: Option<OnLeak>,
    otlp: Option<Otlp>,
    news: News,
    interval: Duration,
    command_lines: bool,
}

impl Watch {
    /// Looks again and again, until one of the signals comes.
    async fn until(&mut self, one: &mut Signal, other: &mut Signal) -> Result<(), ProbeError> {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            match self.look().await {
                Ok(()) => failures = 0,
                Err(error) if failures + 1 < FAILURES => {
                    failures += 1;
                    anstream::eprintln!("tcpleak: a survey failed, the next one follows: {error}");
                }
                Err(error) => return Err(error),
            }
            let next = started + self.observer.pause(self.interval);
            tokio::select! {
                () = self.observer.listen_until(next) => {}
                _ = one.recv() => return Ok(()),
                _ = other.recv() => return Ok(()),
            }
        }
    }

    async fn look(&mut self) -> Result<(), ProbeError> {
        let mut report = self.observer.look().await?;
        if !self.command_lines {
            report.hide_command_lines();
        }
        let health = self.observer.health();
        if let Some(otlp) = &mut self.otlp {
            otlp.observe(&report, &health);
        }
        for leak in self.news.take(&report) {
            if let Some(otlp) = &mut self.otlp {
                otlp.tell(&report, leak);
            }
            if let Some(on_leak) = &mut self.on_leak {
                on_leak.tell(&report, leak);
            }
        }
        self.board.show(report, health);
        Ok(())
    }

    /// Tells what was not told yet, as far as that takes seconds.
    fn finish(self) {
        if let Some(on_leak) = self.on_leak {
            on_leak.finish();
        }
        if let Some(otlp) = self.otlp {
            otlp.finish();
        }
    }
}
