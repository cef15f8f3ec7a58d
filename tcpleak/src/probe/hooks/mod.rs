//! Which hook does each job: the best one that the running kernel takes.
//!
//! The choice is made by trying. Every refusal is kept with the kernel's own words, for
//! `tcpleak doctor`.

mod attach;
mod backends;
mod choose;
mod words;

use aya::Ebpf;

use self::backends::{Backend, FIRST_USE, NO_USE};
pub use self::{
    backends::SOCK_DIAG,
    choose::{
        Attacher, Choice, choose_stacks, exits_are_safe, trace_accept_calls, trace_uses,
        tracepoints_are_interrupted,
    },
    words::in_short,
};

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Every holder of every socket.
    SurveyHolders,
    /// Sockets without a holder, and counts.
    SurveySockets,
    /// The call stacks of programs.
    Registers,
    /// Connections opened, and peers going away.
    Lifecycle,
    /// The end of a socket.
    Destroy,
    /// Programs that start.
    Start,
    /// Processes that are made, and that are over.
    Follow,
    /// accept()
    Accept,
    /// Reads and writes.
    Use,
}

/// The hook in use for a job, and why it is not a better one.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The job.
    pub job: Job,
    /// What does it; `None` when nothing does.
    pub backend: Option<&'static str>,
    /// The better ones that were refused, best first.
    pub refusals: Vec<Refusal>,
    /// Whether the kernel may take the processor from it half-way.
    pub interrupted: bool,
}

/// What is missed by programs that may be interrupted.
const MISSED_WHILE_INTERRUPTED: &str =
    "what comes on a processor that was taken from it half-way; the kernel counts that";

impl Hook {
    /// A job that nothing does, for one reason.
    pub fn none(job: Job, backend: &'static str, reason: String) -> Self {
        Self {
            refusals: vec![Refusal { backend, reason }],
            ..Self::of(job)
        }
    }

    /// What the hook in use may miss.
    pub fn caveat(&self) -> Option<String> {
        let name = self.backend?;
        let backend = backends::of(self.job).find(|backend| backend.name == name)?;
        let interrupted = self.interrupted.then_some(MISSED_WHILE_INTERRUPTED);
        let missed = [interrupted.unwrap_or_default(), backend.misses];
        let missed: Vec<_> = missed
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect();
        (!missed.is_empty()).then(|| missed.join("; "))
    }

    /// Whether programs in the kernel do the job.
    pub fn is_attached(&self) -> bool {
        let attached =
            |backend: &Backend| self.backend == Some(backend.name) && !backend.programs.is_empty();
        backends::of(self.job).any(attached)
    }

    fn of(job: Job) -> Self {
        Self {
            job,
            backend: None,
            refusals: Vec::new(),
            interrupted: false,
        }
    }

    /// Names better backends that were not even tried, because of what they have in common.
    fn pass_over(&mut self, backends: &[&Backend], reason: &str) {
        let refusals = backends.iter().map(|backend| Refusal {
            backend: backend.name,
            reason: reason.to_owned(),
        });
        self.refusals.splice(0..0, refusals);
    }

    /// Tries one backend after the other until one is taken.
    fn try_all<'a>(
        &mut self,
        backends: impl IntoIterator<Item = &'a Backend>,
        mut attempt: impl FnMut(&Backend) -> Result<(), String>,
    ) {
        for backend in backends {
            if self.backend.is_some() {
                return;
            }
            match attempt(backend) {
                Ok(()) => self.backend = Some(backend.name),
                Err(reason) => self.refusals.push(Refusal {
                    backend: backend.name,
                    reason,
                }),
            }
        }
    }
}

/// Why a hook was not taken.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The hook.
    pub backend: &'static str,
    /// The kernel's words, as a rule.
    pub reason: String,
}

impl Job {
    /// What the job is, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::SurveyHolders => "survey of descriptors",
            Self::SurveySockets => "survey of sockets",
            Self::Registers => "call stacks",
            Self::Lifecycle => "opened, peer gone",
            Self::Destroy => "end of a socket",
            Self::Start => "programs that start",
            Self::Follow => "descent of processes",
            Self::Accept => "accept()",
            Self::Use => "read and write",
        }
    }

    /// What is lost without any hook for it.
    pub fn lost(self) -> &'static str {
        match self {
            Self::SurveyHolders | Self::SurveySockets => "everything: tcpleak cannot work",
            Self::Lifecycle | Self::Destroy => {
                "everything but surveys: openers, code paths and exact ages are not known"
            }
            Self::Registers => "code paths",
            Self::Start => {
                "functions of an interpreter in the first code path of a program that starts"
            }
            Self::Follow => "tcpleak run",
            Self::Accept => FIRST_USE.misses,
            Self::Use => NO_USE.misses,
        }
    }

    /// What `TCPLEAK_FORCE_BACKEND` calls it.
    fn word(self) -> &'static str {
        match self {
            Self::SurveyHolders | Self::SurveySockets => "survey",
            Self::Registers => "registers",
            Self::Lifecycle | Self::Destroy | Self::Start | Self::Follow => "lifecycle",
            Self::Accept => "accept",
            Self::Use => "use",
        }
    }
}

/// How the programs capture stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacks {
    /// With the registers, as a copy.
    Copied,
    /// The same without the helpers of 5.15.
    CopiedByCalls,
    /// By frame pointers.
    Walked,
}

impl Stacks {
    /// The program that does the job of one in this way.
    fn program(self, ebpf: &Ebpf, name: &str) -> String {
        let walked = format!("{name}_walked");
        match self {
            Self::CopiedByCalls | Self::Walked if ebpf.program(&walked).is_some() => walked,
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::backends::{ACCEPT, LIFECYCLE};
    use super::*;

    fn hook(job: Job, backend: Option<&'static str>) -> Hook {
        Hook {
            backend,
            ..Hook::of(job)
        }
    }

    #[test]
    fn what_follows_a_function_to_its_return_may_miss_some() {
        for (job, word) in [(Job::Accept, "kretprobe"), (Job::Use, "kprobe")] {
            let backend = backends::of(job).find(|backend| backend.word == word);
            let caveat = hook(job, backend.map(|backend| backend.name)).caveat();
            assert!(caveat.unwrap().contains("uncounted"), "{word}");
        }
    }

    #[test]
    fn the_best_hooks_miss_nothing() {
        for job in [Job::SurveyHolders, Job::Lifecycle, Job::Use, Job::Registers] {
            let best = backends::of(job).next().map(|backend| backend.name);
            assert!(best.is_some());
            assert_eq!(hook(job, best).caveat(), None);
        }
    }

    #[test]
    fn what_may_be_interrupted_misses_something() {
        let interrupted = |job, name| Hook {
            interrupted: true,
            ..hook(job, Some(name))
        };
        let lifecycle = interrupted(Job::Lifecycle, LIFECYCLE[0].name).caveat();
        assert!(lifecycle.unwrap().contains("taken from it half-way"));
        let accept = interrupted(Job::Accept, ACCEPT[0].name).caveat().unwrap();
        assert!(accept.contains("taken from it half-way"), "{accept}");
        assert!(accept.contains("; calls that wait"), "{accept}");
    }

    #[test]
    fn what_is_passed_over_comes_before_what_was_refused() {
        let mut hook = hook(Job::Accept, Some("kretprobe inet_csk_accept"));
        hook.pass_over(&[&ACCEPT[1]], "b");
        hook.pass_over(&[&ACCEPT[0]], "a");
        let reasons = hook.refusals.iter().map(|refusal| &*refusal.reason);
        assert_eq!(reasons.collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_first_that_is_taken_does_the_job() {
        let mut hook = Hook::of(Job::Accept);
        hook.try_all(backends::of(Job::Accept), |backend| match backend.word {
            "kretprobe" => Ok(()),
            word => Err(format!("no {word}")),
        });
        assert_eq!(hook.backend, Some("kretprobe inet_csk_accept"));
        let reasons: Vec<_> = hook
            .refusals
            .iter()
            .map(|refusal| &*refusal.reason)
            .collect();
        assert_eq!(reasons, ["no fexit", "no kprobe"]);
    }
}
