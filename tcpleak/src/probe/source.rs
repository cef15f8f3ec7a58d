//! Where surveys come from: iterators, or sock_diag and `/proc`; the latter also without programs.

use std::{collections::HashSet, io};

use rustix::thread::CapabilitySet;

use super::{
    Hook, Job, Options, ProbeError, clock,
    error::refused_with,
    force::Forced,
    hooks::SOCK_DIAG,
    iterators::Iterators,
    losses,
    programs::{Attached, Programs},
    sock_diag::SockDiag,
};
use crate::survey::{Losses, Survey};

/// The way to take surveys, and the programs that are loaded.
pub enum Source {
    /// By iterators, which are programs too.
    Iterators(Box<Programs>, Iterators),
    /// By sock_diag and `/proc`.
    SockDiag(Option<Box<Programs>>, Box<SockDiag>),
}

impl Source {
    /// Takes the best way that the kernel allows, and says which hook does each job.
    pub fn open(options: Options, forced: &Forced) -> Result<(Self, Vec<Hook>), ProbeError> {
        let loaded = match forced.refuses_programs() {
            None => Programs::load(options, forced),
            Some(reason) => Err(ProbeError::Forced(reason)),
        };
        let (programs, mut hooks) = match loaded {
            Ok((programs, Attached { survey, hooks })) if survey => {
                return Ok((
                    Self::Iterators(Box::new(programs), Iterators::default()),
                    hooks,
                ));
            }
            Ok((programs, attached)) => (Some(Box::new(programs)), attached.hooks),
            // Somebody else may do it all.
            Err(error @ ProbeError::NotRoot(_)) => return Err(error),
            Err(error) => (None, without_programs(&error.to_string())),
        };
        if let Some(reason) = forced.refusal("survey", "sock_diag") {
            let refusals = hooks.iter().flat_map(|hook| &hook.refusals);
            let why = refusals.map(|refusal| refusal.reason.clone()).next();
            return Err(refused_with("the iterators", why.unwrap_or(reason)));
        }
        if !may_look_into_processes() {
            return Err(ProbeError::NotPrivileged);
        }
        let sock_diag = SockDiag::open(options.open)
            .map_err(|error| refused_with("sock_diag", error.to_string()))?;
        for hook in &mut hooks {
            if matches!(hook.job, Job::SurveyHolders | Job::SurveySockets) {
                hook.backend = Some(SOCK_DIAG);
            }
        }
        Ok((Self::SockDiag(programs, Box::new(sock_diag)), hooks))
    }

    /// The programs, where any are loaded.
    pub fn programs(&self) -> Option<&Programs> {
        match self {
            Self::Iterators(programs, _) => Some(programs),
            Self::SockDiag(programs, _) => programs.as_deref(),
        }
    }

    /// The same, to be told something.
    pub fn programs_mut(&mut self) -> Option<&mut Programs> {
        match self {
            Self::Iterators(programs, _) => Some(programs),
            Self::SockDiag(programs, _) => programs.as_deref_mut(),
        }
    }

    /// Whether programs are loaded, and follow connections if they were asked to.
    pub fn can_trace(&self) -> bool {
        self.programs().is_some_and(Programs::can_trace)
    }

    /// Reads every TCP socket of the host.
    pub fn survey(&mut self, suspects: &HashSet<u32>) -> io::Result<Survey> {
        let mut losses = match self.programs() {
            Some(programs) => losses::read(&programs.ebpf),
            None => Losses::default(),
        };
        let (sightings, counts) = match self {
            Self::Iterators(programs, iterators) => {
                iterators.survey(&mut programs.ebpf, &losses)?
            }
            Self::SockDiag(programs, sock_diag) => {
                let tracing = programs.as_ref().filter(|programs| programs.trace());
                let found = sock_diag.survey(tracing.map(|programs| &programs.ebpf), suspects)?;
                losses.connections_dropped += sock_diag.left_out();
                found
            }
        };
        Ok(Survey {
            taken_at: clock::now(),
            sightings,
            counts,
            losses,
        })
    }

    /// What reports must say of this way, in sentences.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.can_trace() {
            caveats.push(
                "This kernel does not let tcpleak trace: openers, code paths and reads of end of file are not known, and every age is a lower bound. `tcpleak doctor` says why."
                    .to_owned(),
            );
        }
        if matches!(self, Self::SockDiag(..)) {
            caveats.push(
                "Sockets were read by sock_diag and /proc, because this kernel takes no iterators for them: a descriptor whose connection died before tcpleak saw it open is not found."
                    .to_owned(),
            );
        }
        caveats
    }

    /// What reports must say of processes that could not be looked into.
    pub fn forbidden(&self) -> Option<String> {
        let Self::SockDiag(_, sock_diag) = self else {
            return None;
        };
        let number = sock_diag.forbidden();
        (number > 0).then(|| {
            format!("{number} processes could not be looked into: what they hold is not found.")
        })
    }
}

/// Programs that cannot be loaded do no job.
fn without_programs(reason: &str) -> Vec<Hook> {
    [
        (Job::SurveyHolders, "iter/task_file"),
        (Job::SurveySockets, "iter/tcp"),
        (Job::Lifecycle, "programs"),
    ]
    .map(|(job, backend)| Hook::none(job, backend, reason.to_owned()))
    .into()
}

/// Whether the descriptors of every process are shown to this one.
fn may_look_into_processes() -> bool {
    let sets = rustix::thread::capabilities(None);
    rustix::process::geteuid().is_root()
        || sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}
