//! `--on-leak`: a command that is run once for each new leak, with the leak on its standard input.
//!
//! It is run by a process of its own without rights ([`run`]), which was started before anything else was,
//! so that it can be another user's. A thread waits for it: a command that is slow or hangs delays nothing
//! but the next one.

mod alert;
mod hook;
mod rate;
mod runner;
mod worker;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::Duration,
};

use anyhow::Context as _;

pub use self::{alert::alert, runner::run};
use self::{rate::Rate, runner::Runner, worker::work};
use crate::report::{Group, Report};

/// Most leaks that wait for the command.
const WAITING: usize = 16;
/// How long is waited for the command at the end.
const FINISH: Duration = Duration::from_secs(11);

/// A command that can be run.
pub struct Prepared(Runner);

/// The command, and the leaks that it was told of.
#[derive(Debug)]
pub struct OnLeak {
    queue: SyncSender<Vec<u8>>,
    /// Closes when the command was run for everything that waited.
    ended: Receiver<()>,
    /// Leaks that found no room since one did.
    left_out: u64,
}

impl Prepared {
    /// Starts the process that will run the command, which is split into words as a shell does. To be called
    /// before any right is given up, by a thread that stays: the process ends with it.
    ///
    /// # Errors
    ///
    /// When the command is none, or cannot be run by whom it would be.
    pub fn new(command: &str) -> anyhow::Result<Self> {
        let prepare = || {
            let words = shlex::split(command).context("a quotation mark is not closed")?;
            anyhow::ensure!(!words.is_empty(), "it names no command");
            Runner::start(words).map(Self)
        };
        prepare().with_context(|| format!("--on-leak {command:?}"))
    }

    /// Starts the thread that waits for it, which has the rights that are left.
    ///
    /// # Errors
    ///
    /// When the system refuses one.
    pub fn start(self) -> anyhow::Result<OnLeak> {
        let Self(runner) = self;
        let (queue, waiting) = sync_channel(WAITING);
        let (end, ended) = channel();
        thread::Builder::new()
            .name("on-leak".into())
            .spawn(move || {
                work(runner, Rate::default(), &waiting);
                drop(end);
            })
            .context("--on-leak: there is no thread for it")?;
        Ok(OnLeak {
            queue,
            ended,
            left_out: 0,
        })
    }
}

impl OnLeak {
    /// Has the command run for a new leak. Never waits for it.
    pub fn tell(&mut self, report: &Report, leak: &Group) {
        let Some(alert) = alert(report, leak, self.left_out) else {
            return self.leave_out();
        };
        match self.queue.try_send(alert.into_bytes()) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.leave_out(),
        }
    }

    fn leave_out(&mut self) {
        if self.left_out == 0 {
            anstream::eprintln!(
                "tcpleak: --on-leak is not run for some new leaks, as too many wait for it; it is told how many"
            );
        }
        self.left_out = self.left_out.saturating_add(1);
    }

    /// Waits until the command was run for the leaks that it can be run for soon.
    pub fn finish(self) {
        drop(self.queue);
        if self.ended.recv_timeout(FINISH) == Err(RecvTimeoutError::Timeout) {
            anstream::eprintln!("tcpleak: --on-leak was not run for the latest leaks");
        }
    }
}

#[cfg(test)]
mod tests;
