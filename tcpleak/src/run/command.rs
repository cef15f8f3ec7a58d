//! The command, as a process.

use std::{ffi::OsString, io, ptr};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, setrlimit};
use tokio::process::Child;

use super::{
    Ended,
    signals::{self, Received},
};

/// Limits that tcpleak raises for itself.
const RAISED: [Resource; 2] = [Resource::Nofile, Resource::Memlock];

/// What the command gets as tcpleak got it.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: libc::sigset_t,
    limits: [Rlimit; RAISED.len()],
}

impl Inherited {
    /// As it is now. To be called before anything is changed.
    pub fn now() -> Self {
        Self {
            mask: signals::mask(),
            limits: RAISED.map(getrlimit),
        }
    }

    /// Restores it in a process that is about to become another program.
    fn restore(&self) -> io::Result<()> {
        for (resource, limit) in RAISED.into_iter().zip(self.limits) {
            setrlimit(resource, limit)?;
        }
        // SAFETY: the mask is initialised, and the old one is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask, ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The command, while it runs.
pub struct Command(Child);

impl Command {
    /// Starts it: in the same process group, with the same standard input and outputs.
    ///
    /// # Errors
    ///
    /// When there is no such program, or it cannot be run.
    pub fn start(arguments: &[OsString], inherited: Inherited) -> io::Result<Self> {
        let [program, arguments @ ..] = arguments else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments);
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || inherited.restore()) };
        command.spawn().map(Self)
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        self.0.wait().await.map(Ended::from)
    }

    /// Gives it a signal that came, unless it got it from where it came.
    pub fn forward(&self, received: Received) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && !received.by_terminal
        {
            // It may be another user's by now, or be over: then there is nobody to tell.
            let _ = kill_process(pid, received.signal);
        }
    }
}
