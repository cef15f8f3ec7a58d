//! Which hook does each job: the best one that the running kernel takes.
//!
//! The choice is made by trying. Every refusal is kept with the kernel's own words, for
//! `tcpleak doctor`.

use std::error::Error;

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FExit, Iter, KProbe, Program, ProgramError, TracePoint},
};

use super::{ProbeError, error::refused, tracefs};

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Every holder of every socket.
    SurveyHolders,
    /// Sockets without a holder, and counts.
    SurveySockets,
    /// Connections opened, and peers going away.
    Lifecycle,
    /// The end of a socket.
    Destroy,
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
    /// The better ones that the kernel refused, best first.
    pub refusals: Vec<Refusal>,
}

/// The survey without programs.
pub const SOCK_DIAG: &str = "sock_diag and /proc";

impl Hook {
    /// A job that nothing does, for one reason.
    pub fn none(job: Job, backend: &'static str, reason: String) -> Self {
        Self {
            job,
            backend: None,
            refusals: vec![Refusal { backend, reason }],
        }
    }

    /// What the hook in use may miss.
    pub fn caveat(&self) -> Option<&'static str> {
        match (self.backend, self.job) {
            (Some(SOCK_DIAG), Job::SurveyHolders) => {
                return Some(
                    "which misses sockets that no descriptor refers to, and connections of MPTCP",
                );
            }
            (Some(SOCK_DIAG), _) => {
                return Some(
                    "which misses descriptors that were dead before a survey saw them open",
                );
            }
            _ => {}
        }
        // The kernel follows a probed function to its return for so many callers only, and counts
        // the others nowhere that every kernel shows.
        let follows_returns = |name: &str| name.contains("kretprobe") || name.contains("kprobes");
        self.backend.filter(|name| follows_returns(name)).map(
            |_| "which misses calls, uncounted, while a few dozen threads of the host wait in one",
        )
    }
}

/// Why the kernel did not take a hook.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The hook.
    pub backend: &'static str,
    /// The kernel's words.
    pub reason: String,
}

impl Job {
    /// What the job is, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::SurveyHolders => "survey of descriptors",
            Self::SurveySockets => "survey of sockets",
            Self::Lifecycle => "opened, peer gone",
            Self::Destroy => "end of a socket",
            Self::Accept => "accept()",
            Self::Use => "read and write",
        }
    }

    /// What is lost without any hook for it.
    pub fn lost(self) -> &'static str {
        match self {
            Self::SurveyHolders | Self::SurveySockets => "tcpleak cannot work",
            Self::Lifecycle | Self::Destroy => {
                "nothing is traced: openers, code paths and exact ages are not known"
            }
            Self::Accept => {
                "accepted connections get their owner and code path at their first read or write"
            }
            Self::Use => {
                "reads of end of file are not seen, and accepted connections are not claimed by their first use"
            }
        }
    }
}

const ACCEPT_CALLS: &str = "accept system calls";

/// One way to do a job: its name, the program in the object, and where that attaches.
struct Backend {
    name: &'static str,
    programs: &'static [(&'static str, Point)],
}

#[derive(Clone, Copy)]
enum Point {
    Iterator(&'static str),
    Btf(&'static str),
    Classic(&'static str, &'static str),
    Exit(&'static str),
    /// The entry of a function, or its return: which, the program knows.
    Probe(&'static str),
}

const SURVEY_HOLDERS: &[Backend] = &[Backend {
    name: "iter/task_file",
    programs: &[("survey_holders", Point::Iterator("task_file"))],
}];
const SURVEY_SOCKETS: &[Backend] = &[Backend {
    name: "iter/tcp",
    programs: &[("survey_sockets", Point::Iterator("tcp"))],
}];
const LIFECYCLE: &[Backend] = &[
    Backend {
        name: "BTF tracepoint inet_sock_set_state",
        programs: &[("inet_sock_set_state", Point::Btf("inet_sock_set_state"))],
    },
    Backend {
        name: "tracepoint sock:inet_sock_set_state",
        programs: &[(
            "inet_sock_set_state_classic",
            Point::Classic("sock", "inet_sock_set_state"),
        )],
    },
];
const DESTROY: &[Backend] = &[
    Backend {
        name: "BTF tracepoint tcp_destroy_sock",
        programs: &[("tcp_destroy_sock", Point::Btf("tcp_destroy_sock"))],
    },
    Backend {
        name: "tracepoint tcp:tcp_destroy_sock",
        programs: &[(
            "tcp_destroy_sock_classic",
            Point::Classic("tcp", "tcp_destroy_sock"),
        )],
    },
];
const ACCEPT: &[Backend] = &[
    Backend {
        name: "fexit inet_csk_accept",
        programs: &[("inet_csk_accept", Point::Exit("inet_csk_accept"))],
    },
    Backend {
        name: "kretprobe inet_csk_accept",
        programs: &[("inet_csk_accept_return", Point::Probe("inet_csk_accept"))],
    },
];
const ACCEPT_BY_CALL: &[Backend] = &[Backend {
    name: ACCEPT_CALLS,
    programs: &[
        (
            "sys_exit_accept",
            Point::Classic("syscalls", "sys_exit_accept"),
        ),
        (
            "sys_exit_accept4",
            Point::Classic("syscalls", "sys_exit_accept4"),
        ),
    ],
}];
const USE: &[Backend] = &[
    Backend {
        name: "BTF tracepoints sock_recv_length, sock_send_length",
        programs: &[
            ("sock_recv_length", Point::Btf("sock_recv_length")),
            ("sock_send_length", Point::Btf("sock_send_length")),
        ],
    },
    Backend {
        name: "fexit tcp_recvmsg, tcp_sendmsg",
        programs: &[
            ("tcp_recvmsg", Point::Exit("tcp_recvmsg")),
            ("tcp_sendmsg", Point::Exit("tcp_sendmsg")),
        ],
    },
    Backend {
        name: "kprobes tcp_recvmsg, tcp_sendmsg",
        programs: &[
            ("tcp_recvmsg_entry", Point::Probe("tcp_recvmsg")),
            ("tcp_recvmsg_return", Point::Probe("tcp_recvmsg")),
            ("tcp_sendmsg_entry", Point::Probe("tcp_sendmsg")),
            ("tcp_sendmsg_return", Point::Probe("tcp_sendmsg")),
        ],
    },
];

/// How the programs capture stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacks {
    /// With the registers, as a copy.
    Copied,
    /// By frame pointers.
    Walked,
}

impl Stacks {
    /// The program that does the job of one in this way.
    fn program(self, ebpf: &Ebpf, name: &str) -> String {
        let walked = format!("{name}_walked");
        match self {
            Self::Walked if ebpf.program(&walked).is_some() => walked,
            _ => name.to_owned(),
        }
    }
}

/// Attaches hooks and keeps account of it.
pub struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    types: Btf,
    stacks: Stacks,
    hooks: Vec<Hook>,
}

impl<'a> Attacher<'a> {
    /// Reads the kernel's types, by which most hooks are found.
    pub fn new(ebpf: &'a mut Ebpf, stacks: Stacks) -> Result<Self, ProbeError> {
        let types = Btf::from_sys_fs().map_err(|error| refused("its type information", &error))?;
        Ok(Self {
            ebpf,
            types,
            stacks,
            hooks: Vec::new(),
        })
    }

    /// The iterators, unless there is a reason to leave them out. Says whether they do the survey.
    pub fn attach_survey(&mut self, left_out: Option<&str>) -> bool {
        for (job, backends) in [
            (Job::SurveyHolders, SURVEY_HOLDERS),
            (Job::SurveySockets, SURVEY_SOCKETS),
        ] {
            match left_out {
                None => self.first_of(job, backends),
                Some(reason) => {
                    let refused =
                        |backend: &Backend| Hook::none(job, backend.name, reason.to_owned());
                    self.hooks.extend(backends.iter().map(refused));
                }
            }
        }
        self.is_done(Job::SurveyHolders) && self.is_done(Job::SurveySockets)
    }

    /// The hooks without which watching adds nothing. Says whether they are attached.
    pub fn attach_lifecycle(&mut self) -> bool {
        // The end first: a record made in between would outlive its socket.
        self.first_of(Job::Destroy, DESTROY);
        if self.is_done(Job::Destroy) {
            self.first_of(Job::Lifecycle, LIFECYCLE);
        }
        self.is_done(Job::Lifecycle)
    }

    /// accept(), by the best hook; by its system calls only when asked, because these slow every
    /// system call of the host.
    pub fn attach_accept(&mut self, by_call: bool) {
        self.first_of(Job::Accept, ACCEPT);
        if by_call {
            self.fall_back(Job::Accept, ACCEPT_BY_CALL);
        }
    }

    /// Reads and writes.
    pub fn attach_use(&mut self) {
        self.first_of(Job::Use, USE);
    }

    /// The account.
    pub fn into_hooks(self) -> Vec<Hook> {
        self.hooks
    }

    fn is_done(&self, job: Job) -> bool {
        let mut hooks = self.hooks.iter();
        hooks.any(|hook| hook.job == job && hook.backend.is_some())
    }

    fn first_of(&mut self, job: Job, backends: &'static [Backend]) {
        self.hooks.push(Hook {
            job,
            backend: None,
            refusals: Vec::new(),
        });
        self.fall_back(job, backends);
    }

    fn fall_back(&mut self, job: Job, backends: &'static [Backend]) {
        let Some(hook) = self.hooks.iter_mut().find(|hook| hook.job == job) else {
            return;
        };
        for backend in backends {
            if hook.backend.is_some() {
                return;
            }
            match attach(self.ebpf, Some(&self.types), self.stacks, backend) {
                Ok(()) => hook.backend = Some(backend.name),
                Err(reason) => hook.refusals.push(Refusal {
                    backend: backend.name,
                    reason,
                }),
            }
        }
    }
}

/// Attaches the accept() system calls where nothing better is in place, or detaches them again.
pub fn trace_accept_calls(ebpf: &mut Ebpf, stacks: Stacks, hooks: &mut [Hook], wanted: bool) {
    let Some(hook) = hooks.iter_mut().find(|hook| hook.job == Job::Accept) else {
        return;
    };
    match (hook.backend, wanted) {
        (None, true)
            if hook
                .refusals
                .iter()
                .all(|refusal| refusal.backend != ACCEPT_CALLS) =>
        {
            match attach(ebpf, None, stacks, &ACCEPT_BY_CALL[0]) {
                Ok(()) => hook.backend = Some(ACCEPT_CALLS),
                Err(reason) => hook.refusals.push(Refusal {
                    backend: ACCEPT_CALLS,
                    reason,
                }),
            }
        }
        (Some(ACCEPT_CALLS), false) => {
            detach(ebpf, stacks, &ACCEPT_BY_CALL[0]);
            hook.backend = None;
        }
        _ => {}
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

/// Attaches all programs of a backend, or none.
fn attach(
    ebpf: &mut Ebpf,
    types: Option<&Btf>,
    stacks: Stacks,
    backend: &Backend,
) -> Result<(), String> {
    for (name, point) in backend.programs {
        let program = stacks.program(ebpf, name);
        if let Err(reason) = attach_one(ebpf, types, &program, *point) {
            detach(ebpf, stacks, backend);
            return Err(reason);
        }
    }
    Ok(())
}

fn attach_one(
    ebpf: &mut Ebpf,
    types: Option<&Btf>,
    name: &str,
    point: Point,
) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("it is not in the object")?;
    let words = |error: ProgramError| in_short(&error);
    let types = || types.ok_or("no type information");
    match point {
        Point::Iterator(kind) => {
            let program: &mut Iter = program.try_into().map_err(words)?;
            program.load(kind, types()?).map_err(words)
        }
        Point::Btf(function) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(words)?;
            program
                .load(function, types()?)
                .and_then(|()| program.attach())
                .map(drop)
                .map_err(words)
        }
        Point::Exit(function) => {
            let program: &mut FExit = program.try_into().map_err(words)?;
            program
                .load(function, types()?)
                .and_then(|()| program.attach())
                .map(drop)
                .map_err(words)
        }
        Point::Probe(function) => {
            let program: &mut KProbe = program.try_into().map_err(words)?;
            program
                .load()
                .and_then(|()| program.attach(function, 0))
                .map(drop)
                .map_err(words)
        }
        Point::Classic(category, event) => {
            let program: &mut TracePoint = program.try_into().map_err(words)?;
            program.load().map_err(words)?;
            tracefs::with(|| program.attach(category, event).map(drop))
                .map_err(|error| error.to_string())?
                .map_err(words)
        }
    }
}

/// Takes the programs of a backend out of the kernel.
fn detach(ebpf: &mut Ebpf, stacks: Stacks, backend: &Backend) {
    for (name, _) in backend.programs {
        let program = stacks.program(ebpf, name);
        unload(ebpf, &program);
    }
}

/// Takes a program out of the kernel; its links go with it.
fn unload(ebpf: &mut Ebpf, name: &str) {
    // A program that was never loaded cannot be unloaded, which is as good.
    let _ = match ebpf.program_mut(name) {
        Some(Program::TracePoint(program)) => program.unload(),
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        _ => Ok(()),
    };
}

/// An error and its causes in one line.
pub fn in_short(error: &(dyn Error + 'static)) -> String {
    let mut words = shorten(&error.to_string());
    let mut cause = error.source();
    // The depth is bounded, should an error be its own cause.
    for _ in 0..8 {
        let Some(deeper) = cause else { break };
        let more = shorten(&deeper.to_string());
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = deeper.source();
    }
    words
}

/// Of a verifier log, which may be long, the last words before its statistics.
fn shorten(words: &str) -> String {
    let (message, log) = words.split_once("Verifier output:").unwrap_or((words, ""));
    let message = message
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.');
    let statistics = |line: &str| {
        ["processed ", "verification time", "stack depth"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let last = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics(line));
    match last {
        Some(last) => format!("{message}: {last}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_quotes_the_last_words_of_the_verifier() {
        let words = "the BPF_PROG_LOAD syscall returned Permission denied (os error 13). Verifier output: 0: R1=ctx()\n\
                     7: (79) r1 = *(u64 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
                     verification time 18 usec\nprocessed 8 insns (limit 1000000)\n";
        assert_eq!(
            shorten(words),
            "the BPF_PROG_LOAD syscall returned Permission denied (os error 13): R1 invalid mem access 'scalar'"
        );
        assert_eq!(shorten("plain"), "plain");
    }

    #[test]
    fn what_follows_a_function_to_its_return_may_miss_some() {
        let hook = |backend| Hook {
            job: Job::Use,
            backend,
            refusals: Vec::new(),
        };
        assert!(hook(Some(ACCEPT[1].name)).caveat().is_some());
        assert!(hook(Some(USE[2].name)).caveat().is_some());
        for backend in [
            Some(ACCEPT[0].name),
            Some(USE[0].name),
            Some(USE[1].name),
            None,
        ] {
            assert_eq!(hook(backend).caveat(), None);
        }
    }

    #[test]
    fn a_refusal_names_its_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("`/sys/bus/event_source`")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(
            in_short(&Outer(std::io::Error::other("not there"))),
            "`/sys/bus/event_source`: not there"
        );
    }
}
