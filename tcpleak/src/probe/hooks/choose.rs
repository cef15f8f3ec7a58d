//! Choosing hooks, by trying one after the other.

use aya::{Btf, Ebpf};

use super::{
    Hook, Job, Refusal, Stacks,
    attach::{attach, detach},
    backends::{
        self, ACCEPT, ACCEPT_CALLS, Backend, DESTROY, FIRST_USE, FOLLOW, LIFECYCLE, NO_USE, START,
        SURVEY_HOLDERS, SURVEY_SOCKETS, USE,
    },
};
use crate::probe::{ProbeError, error::refused, force::Forced};

/// Chooses how stacks are captured, and says why not better. `refusal` is the kernel's, of programs
/// that copy stacks without its helpers.
pub fn choose_stacks(
    types: &crate::btf::Btf,
    forced: &Forced,
    refusal: Option<String>,
) -> (Stacks, Hook) {
    let helper = match types.parameters("bpf_task_pt_regs") {
        Some(_) => None,
        None => Some("this kernel has no such helper (5.15 and later do)".to_owned()),
    };
    let of_kernel = [helper, refusal, None];
    let mut stacks = [Stacks::Copied, Stacks::CopiedByCalls, Stacks::Walked].into_iter();
    let mut chosen = Stacks::Walked;
    let mut of_kernel = of_kernel.into_iter();
    let mut hook = Hook::of(Job::Registers);
    hook.try_all(backends::of(Job::Registers), |backend| {
        chosen = stacks.next().unwrap_or(Stacks::Walked);
        let refusal = of_kernel.next().flatten();
        let left_out = forced.refusal(Job::Registers.word(), backend.word);
        left_out.or(refusal).map_or(Ok(()), Err)
    });
    (chosen, hook)
}

/// Whether a function that waits may be traced at its exit: a kernel that does not keep account of
/// who is on the way through a trampoline takes it away from under those that wait.
pub fn exits_are_safe(types: &crate::btf::Btf) -> bool {
    types.offset_of("bpf_tramp_image", "image").is_ok()
}

/// Whether a kernel of this release may take the processor from a program that a tracepoint called.
/// Before, tracepoints kept it; perf events, by which classic ones and kprobes call, still do.
pub fn tracepoints_are_interrupted(release: &str) -> bool {
    const FIRST: u32 = 7;
    let major = release.split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()) >= Some(FIRST)
}

/// Why a backend is not tried before the others on such a kernel.
const INTERRUPTED: &str = "from 7.0 on the kernel may take the processor from it half-way, and skips it for whoever comes next there";

/// What hooks are chosen by, beside trying them.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// How stacks are captured.
    pub stacks: Stacks,
    /// Whether functions that wait may be traced at their exit.
    pub exits: bool,
    /// Whether the processor may be taken from a program that a tracepoint called.
    pub interrupted: bool,
    /// What is asked for.
    pub forced: &'a Forced,
}

impl Choice<'_> {
    /// Why a backend is not even tried.
    fn excludes(&self, job: Job, backend: &Backend) -> Option<String> {
        let reason = self.forced.refusal(job.word(), backend.word);
        reason.or_else(|| {
            (backend.word == "fexit" && !self.exits).then(|| {
                "this kernel may crash when it is removed while a call waits (before 5.12)".into()
            })
        })
    }
}

/// Attaches hooks and keeps account of it.
pub struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    types: Btf,
    choice: Choice<'a>,
    hooks: Vec<Hook>,
}

impl<'a> Attacher<'a> {
    /// Reads the kernel's types, by which most hooks are found.
    pub fn new(ebpf: &'a mut Ebpf, choice: Choice<'a>) -> Result<Self, ProbeError> {
        let types = Btf::from_sys_fs().map_err(|error| refused("its type information", &error))?;
        Ok(Self {
            ebpf,
            types,
            choice,
            hooks: Vec::new(),
        })
    }

    /// The iterators. Says whether they do the survey.
    pub fn attach_survey(&mut self) -> bool {
        self.first_of(Job::SurveyHolders, SURVEY_HOLDERS, []);
        self.first_of(Job::SurveySockets, SURVEY_SOCKETS, []);
        self.is_done(Job::SurveyHolders) && self.is_done(Job::SurveySockets)
    }

    /// The hooks without which watching adds nothing. Says whether they are attached.
    pub fn attach_lifecycle(&mut self) -> bool {
        // The end first: a record made in between would outlive its socket.
        self.first_of(Job::Destroy, DESTROY, []);
        if self.is_done(Job::Destroy) {
            self.first_of(Job::Lifecycle, LIFECYCLE, []);
        }
        self.is_done(Job::Lifecycle)
    }

    /// Programs that start.
    pub fn attach_start(&mut self) {
        self.first_of(Job::Start, START, []);
    }

    /// Processes that are made, and that are over.
    pub fn attach_follow(&mut self) {
        self.first_of(Job::Follow, FOLLOW, []);
    }

    /// accept(), by the best hook; by its system calls only when asked, because these slow every
    /// system call of the host.
    pub fn attach_accept(&mut self, by_call: bool) {
        let forced = self.choice.forced.names(Job::Accept.word());
        let calls = (by_call || forced).then_some(&ACCEPT_CALLS);
        self.first_of(Job::Accept, ACCEPT, calls.into_iter().chain([&FIRST_USE]));
    }

    /// Reads and writes.
    pub fn attach_use(&mut self) {
        self.first_of(Job::Use, USE, [&NO_USE]);
    }

    /// The account.
    pub fn into_hooks(self) -> Vec<Hook> {
        self.hooks
    }

    fn is_done(&self, job: Job) -> bool {
        let mut hooks = self.hooks.iter();
        hooks.any(|hook| hook.job == job && hook.backend.is_some())
    }

    /// Tries the backends of a job, best first, but those that may be interrupted after the others,
    /// and then what is left when none is taken.
    fn first_of<'b>(
        &mut self,
        job: Job,
        best_first: &'b [Backend],
        last: impl IntoIterator<Item = &'b Backend>,
    ) {
        let interrupted =
            |backend: &&Backend| self.choice.interrupted && backend.is_interruptible();
        let (later, sooner): (Vec<_>, Vec<_>) = best_first.iter().partition(interrupted);
        let mut hook = Hook::of(job);
        hook.try_all(sooner, |backend| self.attempt(job, backend));
        if hook.backend.is_some() {
            hook.pass_over(&later, INTERRUPTED);
        } else {
            hook.try_all(later, |backend| self.attempt(job, backend));
            hook.interrupted = hook.backend.is_some();
            hook.try_all(last, |backend| self.attempt(job, backend));
        }
        self.hooks.push(hook);
    }

    fn attempt(&mut self, job: Job, backend: &Backend) -> Result<(), String> {
        match self.choice.excludes(job, backend) {
            Some(reason) => Err(reason),
            None => attach(self.ebpf, Some(&self.types), self.choice.stacks, backend),
        }
    }
}

/// Attaches the accept() system calls where nothing better is in place, or detaches them again.
pub fn trace_accept_calls(ebpf: &mut Ebpf, stacks: Stacks, hooks: &mut [Hook], wanted: bool) {
    let Some(hook) = hooks.iter_mut().find(|hook| hook.job == Job::Accept) else {
        return;
    };
    let is = |backend: &Backend| hook.backend == Some(backend.name);
    let refused = |refusal: &Refusal| refusal.backend == ACCEPT_CALLS.name;
    if wanted && is(&FIRST_USE) && !hook.refusals.iter().any(refused) {
        match attach(ebpf, None, stacks, &ACCEPT_CALLS) {
            Ok(()) => hook.backend = Some(ACCEPT_CALLS.name),
            Err(reason) => hook.refusals.push(Refusal {
                backend: ACCEPT_CALLS.name,
                reason,
            }),
        }
    } else if !wanted && is(&ACCEPT_CALLS) {
        detach(ebpf, stacks, &ACCEPT_CALLS);
        hook.backend = Some(FIRST_USE.name);
    }
}

/// Attaches the hooks of reads and writes again, or takes them out of the kernel.
pub fn trace_uses(ebpf: &mut Ebpf, stacks: Stacks, hooks: &mut [Hook], wanted: bool) {
    let Some(hook) = hooks.iter_mut().find(|hook| hook.job == Job::Use) else {
        return;
    };
    let Some(backend) = USE
        .iter()
        .find(|backend| hook.backend == Some(backend.name))
    else {
        return;
    };
    if wanted {
        // It was taken before; should it be refused now, reads and writes stay untraced.
        if let Ok(types) = Btf::from_sys_fs() {
            let _ = attach(ebpf, Some(&types), stacks, backend);
        }
    } else {
        detach(ebpf, stacks, backend);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracepoints_are_interrupted_from_7_0_on() {
        for release in ["7.0.0-rc1", "7.2.3-cloud-amd64", "10.1"] {
            assert!(tracepoints_are_interrupted(release), "{release}");
        }
        for release in ["5.10.0-46-cloud-amd64", "6.19.14", "", "next-20260108"] {
            assert!(!tracepoints_are_interrupted(release), "{release}");
        }
    }
}
