//! The ways to do each job, best first.

use super::Job;

/// One way to do a job.
pub struct Backend {
    /// What `TCPLEAK_FORCE_BACKEND` calls it.
    pub word: &'static str,
    /// What people read.
    pub name: &'static str,
    /// The programs in the object, and where they attach; none for a way that needs none.
    pub programs: &'static [(&'static str, Point)],
    /// What it may miss; empty for nothing.
    pub misses: &'static str,
}

impl Backend {
    /// Whether a kernel that interrupts what tracepoints call may take the processor from one of its
    /// programs half-way. It then skips that program for whoever comes next there.
    pub fn is_interruptible(&self) -> bool {
        let mut points = self.programs.iter().map(|(_, point)| point);
        points.any(|point| matches!(point, Point::Btf(_) | Point::Exit(_)))
    }
}

/// Where a program attaches.
#[derive(Clone, Copy)]
pub enum Point {
    /// An iterator.
    Iterator(&'static str),
    /// A BTF raw tracepoint.
    Btf(&'static str),
    /// A classic tracepoint: its category and its name.
    Classic(&'static str, &'static str),
    /// The exit of a function, by a trampoline.
    Exit(&'static str),
    /// The entry of a function, or its return: which, the program knows.
    Probe(&'static str),
}

const NOTHING: &str = "";

pub const SURVEY_HOLDERS: &[Backend] = &[Backend {
    word: "iterators",
    name: "iter/task_file",
    programs: &[("survey_holders", Point::Iterator("task_file"))],
    misses: NOTHING,
}];

pub const SURVEY_SOCKETS: &[Backend] = &[Backend {
    word: "iterators",
    name: "iter/tcp",
    programs: &[("survey_sockets", Point::Iterator("tcp"))],
    misses: NOTHING,
}];

/// Surveys without programs.
pub const SOCK_DIAG: &str = "sock_diag and /proc";

/// What finds descriptors without programs.
const SOCK_DIAG_HOLDERS: Backend = Backend {
    word: "sock_diag",
    name: SOCK_DIAG,
    programs: &[],
    misses: "sockets that no descriptor refers to, and connections of MPTCP",
};

/// What finds sockets without programs.
const SOCK_DIAG_SOCKETS: Backend = Backend {
    word: "sock_diag",
    name: SOCK_DIAG,
    programs: &[],
    misses: "descriptors that were dead before a survey saw them open",
};

pub const LIFECYCLE: &[Backend] = &[
    Backend {
        word: "tp_btf",
        name: "BTF tracepoint inet_sock_set_state",
        programs: &[("inet_sock_set_state", Point::Btf("inet_sock_set_state"))],
        misses: NOTHING,
    },
    Backend {
        word: "tracepoint",
        name: "tracepoint sock:inet_sock_set_state",
        programs: &[(
            "inet_sock_set_state_classic",
            Point::Classic("sock", "inet_sock_set_state"),
        )],
        misses: NOTHING,
    },
];

pub const DESTROY: &[Backend] = &[
    Backend {
        word: "tp_btf",
        name: "BTF tracepoint tcp_destroy_sock",
        programs: &[("tcp_destroy_sock", Point::Btf("tcp_destroy_sock"))],
        misses: NOTHING,
    },
    Backend {
        word: "tracepoint",
        name: "tracepoint tcp:tcp_destroy_sock",
        programs: &[(
            "tcp_destroy_sock_classic",
            Point::Classic("tcp", "tcp_destroy_sock"),
        )],
        misses: NOTHING,
    },
];

/// Programs that start.
pub const START: &[Backend] = &[
    Backend {
        word: "tp_btf",
        name: "BTF tracepoint sched_process_exec",
        programs: &[("sched_process_exec", Point::Btf("sched_process_exec"))],
        misses: NOTHING,
    },
    Backend {
        word: "tracepoint",
        name: "tracepoint sched:sched_process_exec",
        programs: &[(
            "sched_process_exec_classic",
            Point::Classic("sched", "sched_process_exec"),
        )],
        misses: NOTHING,
    },
];

/// Processes that are made, and that are over.
pub const FOLLOW: &[Backend] = &[
    Backend {
        word: "tp_btf",
        name: "BTF tracepoints sched_process_fork, sched_process_free",
        programs: &[
            ("sched_process_free", Point::Btf("sched_process_free")),
            ("sched_process_fork", Point::Btf("sched_process_fork")),
        ],
        misses: NOTHING,
    },
    Backend {
        word: "tracepoint",
        name: "tracepoints sched:sched_process_fork, sched_process_free",
        programs: &[
            (
                "sched_process_free_classic",
                Point::Classic("sched", "sched_process_free"),
            ),
            (
                "sched_process_fork_classic",
                Point::Classic("sched", "sched_process_fork"),
            ),
        ],
        misses: NOTHING,
    },
];

pub const ACCEPT: &[Backend] = &[
    Backend {
        word: "fexit",
        name: "fexit inet_csk_accept",
        programs: &[("inet_csk_accept", Point::Exit("inet_csk_accept"))],
        misses: "calls that wait while tcpleak starts",
    },
    Backend {
        word: "kprobe",
        name: "kprobe security_sock_graft",
        programs: &[("security_sock_graft", Point::Probe("security_sock_graft"))],
        misses: NOTHING,
    },
    Backend {
        word: "kretprobe",
        name: "kretprobe inet_csk_accept",
        programs: &[("inet_csk_accept_return", Point::Probe("inet_csk_accept"))],
        // The kernel follows a probed function to its return for so many callers only, and counts
        // the others nowhere that every kernel shows.
        misses: "calls that wait while tcpleak starts; some, uncounted, while dozens of threads wait in accept()",
    },
];

/// The system calls: only on request, because they slow down every system call of the host.
pub const ACCEPT_CALLS: Backend = Backend {
    word: "syscalls",
    name: "accept system calls",
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
    misses: "accept() by io_uring and by 32-bit programs: these are claimed by their first read or write; every system call of the host gets slower",
};

/// What is left when nothing sees accept().
pub const FIRST_USE: Backend = Backend {
    word: "first-use",
    name: "first read or write",
    programs: &[],
    misses: "who called accept(), and from where: the first to read or write counts as the opener; what is never used has no opener, only holders",
};

pub const USE: &[Backend] = &[
    Backend {
        word: "tp_btf",
        name: "BTF tracepoints sock_recv_length, sock_send_length",
        programs: &[
            ("sock_recv_length", Point::Btf("sock_recv_length")),
            ("sock_send_length", Point::Btf("sock_send_length")),
        ],
        misses: NOTHING,
    },
    Backend {
        word: "tracepoint",
        name: "tracepoints sock:sock_recv_length, sock_send_length",
        programs: &[
            (
                "sock_recv_length_classic",
                Point::Classic("sock", "sock_recv_length"),
            ),
            (
                "sock_send_length_classic",
                Point::Classic("sock", "sock_send_length"),
            ),
        ],
        misses: NOTHING,
    },
    Backend {
        word: "fexit",
        name: "fexit tcp_recvmsg, tcp_sendmsg",
        programs: &[
            ("tcp_recvmsg", Point::Exit("tcp_recvmsg")),
            ("tcp_sendmsg", Point::Exit("tcp_sendmsg")),
        ],
        misses: "calls that wait while tcpleak starts; Multipath TCP; TLS in the kernel",
    },
    Backend {
        word: "kprobe",
        name: "kprobes tcp_recvmsg, tcp_cleanup_rbuf, tcp_sendmsg",
        programs: &[
            ("tcp_cleanup_rbuf", Point::Probe("tcp_cleanup_rbuf")),
            ("tcp_recvmsg_entry", Point::Probe("tcp_recvmsg")),
            ("tcp_sendmsg_return", Point::Probe("tcp_sendmsg")),
            ("tcp_sendmsg_entry", Point::Probe("tcp_sendmsg")),
        ],
        misses: "calls that wait while tcpleak starts; Multipath TCP; TLS in the kernel; some writes, uncounted, while dozens of threads wait in one",
    },
];

/// What is left when nothing sees reads and writes.
pub const NO_USE: Backend = Backend {
    word: "none",
    name: "nothing",
    programs: &[],
    misses: "reads and writes: no last use, no eof-ignored, and no accepted connection is claimed by its first use",
};

pub const REGISTERS: &[Backend] = &[
    Backend {
        word: "helper",
        name: "copy of the stack, registers by bpf_task_pt_regs",
        programs: &[],
        misses: NOTHING,
    },
    Backend {
        word: "task-stack",
        name: "copy of the stack, registers from the kernel's stack",
        programs: &[],
        misses: NOTHING,
    },
    Backend {
        word: "frame-pointers",
        name: "frame pointers",
        programs: &[],
        misses: "code built without frame pointers, as most is, gives paths of a few frames",
    },
];

/// All ways to do a job that are known by name.
pub fn of(job: Job) -> impl Iterator<Item = &'static Backend> {
    let (listed, last): (_, &'static [Backend]) = match job {
        Job::SurveyHolders => (SURVEY_HOLDERS, const { &[SOCK_DIAG_HOLDERS] }),
        Job::SurveySockets => (SURVEY_SOCKETS, const { &[SOCK_DIAG_SOCKETS] }),
        Job::Lifecycle => (LIFECYCLE, &[]),
        Job::Destroy => (DESTROY, &[]),
        Job::Start => (START, &[]),
        Job::Follow => (FOLLOW, &[]),
        Job::Accept => (ACCEPT, const { &[ACCEPT_CALLS, FIRST_USE] }),
        Job::Use => (USE, const { &[NO_USE] }),
        Job::Registers => (REGISTERS, &[]),
    };
    listed.iter().chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_calls_directly_is_interruptible() {
        for (job, word, interruptible) in [
            (Job::Lifecycle, "tp_btf", true),
            (Job::Lifecycle, "tracepoint", false),
            (Job::Accept, "fexit", true),
            (Job::Accept, "kprobe", false),
            (Job::Accept, "first-use", false),
            (Job::SurveySockets, "iterators", false),
        ] {
            let backend = of(job).find(|backend| backend.word == word);
            assert_eq!(backend.unwrap().is_interruptible(), interruptible, "{word}");
        }
    }

    #[test]
    fn a_probe_at_an_entry_comes_before_the_one_that_hands_over_to_it() {
        // Should a call begin in between, it is not seen at all rather than half.
        let kprobes = USE.iter().find(|backend| backend.word == "kprobe");
        let kprobes = kprobes.unwrap().programs;
        let place = |name| kprobes.iter().position(|(program, _)| *program == name);
        assert!(place("tcp_cleanup_rbuf") < place("tcp_recvmsg_entry"));
        assert!(place("tcp_sendmsg_return") < place("tcp_sendmsg_entry"));
    }
}
