//! The edge to the kernel: loads the programs, attaches the best hook for each job, takes surveys.
//!
//! Nothing outside this module names aya. What comes out is plain data: [`Survey`]s and
//! [`Captures`].

mod captures;
mod decode;
mod force;
mod hooks;
mod iterate;
mod losses;
mod namespaces;
mod offsets;
mod tracefs;

use std::{collections::HashSet, os::fd::AsRawFd, time::Duration};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, HashMap},
};
use aya_log::EbpfLogger;
use rustix::time::ClockId;
use tcpleak_ebpf::{CodeRange, Limits, ProcessCode};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::{
    captures::Captures,
    hooks::{Hook, Job, Refusal},
};
use crate::{btf::Btf, code_path::CodeLayout, governor::Costs, survey::Survey};
use force::Forced;
use hooks::{Attacher, Choice, Stacks};

/// The kernel programs, compiled for this machine's register layout.
static OBJECT: &[u8] = include_bytes_aligned!(env!("TCPLEAK_EBPF_OBJECT_PATH"));

/// Most processes whose healthy connections a survey shows: the size of the kernel's map.
const SUSPECTS: usize = 4096;

/// Why the kernel cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Neither root nor the capabilities that stand in for it.
    #[error("not allowed to load BPF programs ({0}); run tcpleak as root: `sudo tcpleak`")]
    NotRoot(String),
    /// Root, and not allowed all the same.
    #[error(
        "root, and yet not allowed to load BPF programs ({0}); in a container it takes the capabilities BPF, PERFMON, SYS_PTRACE and SYS_ADMIN, and a kernel that is locked down for confidentiality (/sys/kernel/security/lockdown) allows nobody"
    )]
    NotAllowed(String),
    /// The kernel has no type information.
    #[error(
        "this kernel has no type information at {path} ({reason}); tcpleak needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoTypes {
        /// Where it was looked for.
        path: &'static str,
        /// What was found instead.
        reason: String,
    },
    /// The kernel refuses the programs.
    #[error("the kernel refused {what}: {reason}; `tcpleak doctor` shows what works here")]
    Refused {
        /// The map, the program or the step.
        what: String,
        /// The kernel's own words.
        reason: String,
    },
    /// A backend is asked for that there is not.
    #[error("{0}")]
    Forced(String),
    /// A survey could not be read.
    #[error("a survey could not be read: {0}")]
    Survey(#[from] std::io::Error),
}

/// Captures that the buckets hold for a process or the host, as seconds of their rate.
const BURST: f64 = 5.0;
/// Captures that the host's bucket holds at least: tests run in bursts.
const LEAST_BURST: f64 = 4000.0;

/// What to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Attach the lifecycle hooks; without them only surveys work.
    pub trace: bool,
    /// Trace the accept() system calls where nothing cheaper works.
    pub accept_stacks: bool,
    /// Most captures of one process in one second, over time.
    pub captures: u32,
    /// Let the programs write log records.
    pub verbose: bool,
}

/// What the programs are told before they are verified.
struct Settings {
    offsets: tcpleak_ebpf::Offsets,
    log_level: u8,
    receive_flags_at: u32,
}

impl Settings {
    fn of(types: &Btf, options: Options) -> Result<Self, ProbeError> {
        Ok(Self {
            offsets: offsets::resolve(types)?,
            log_level: if options.verbose {
                aya_log::Level::Debug as u8
            } else {
                0
            },
            receive_flags_at: match types.parameters("tcp_recvmsg") {
                Some(6) => 4,
                _ => 3,
            },
        })
    }
}

/// The loaded programs.
pub struct Probe {
    ebpf: Ebpf,
    hooks: Vec<Hook>,
    captures: Option<Captures>,
    log: Option<AsyncFd<EbpfLogger<&'static dyn log::Log>>>,
    suspects: HashSet<u32>,
    tick: Duration,
    namespaces: namespaces::Namespaces,
    sweep: losses::Sweep,
    captures_per_second: u32,
    stacks: Stacks,
    accept_calls_on_demand: bool,
    uses_traced: bool,
}

impl Probe {
    /// Loads and attaches what the options ask for. Must be called within a tokio runtime.
    pub fn load(options: Options) -> Result<Self, ProbeError> {
        lift_memory_limit();
        let types = offsets::kernel_types()?;
        let forced = Forced::from_environment().map_err(ProbeError::Forced)?;
        let (stacks, hook) = hooks::choose_stacks(&types, &forced, None);
        match Self::load_with(&types, &forced, options, (stacks, hook)) {
            // Only trying tells whether a verifier follows programs that copy stacks by themselves.
            Err(error) if stacks == Stacks::CopiedByCalls => {
                let choice = hooks::choose_stacks(&types, &forced, Some(error.to_string()));
                Self::load_with(&types, &forced, options, choice)
            }
            loaded => loaded,
        }
    }

    fn load_with(
        types: &Btf,
        forced: &Forced,
        options: Options,
        (stacks, registers): (Stacks, Hook),
    ) -> Result<Self, ProbeError> {
        let settings = Settings::of(types, options)?;
        let copy_by_calls = u32::from(stacks == Stacks::CopiedByCalls);
        let mut ebpf = EbpfLoader::new()
            .override_global("OFFSETS", &settings.offsets, true)
            .override_global("RECEIVE_FLAGS_AT", &settings.receive_flags_at, true)
            .override_global("COPY_BY_CALLS", &copy_by_calls, true)
            .override_global(aya_log::LEVEL, &settings.log_level, true)
            .load(OBJECT)
            .map_err(|error| refused("its maps", &error))?;
        let log = options
            .verbose
            .then(|| reading_log(&mut ebpf))
            .transpose()?;
        let choice = Choice {
            stacks,
            exits: hooks::exits_are_safe(types),
            forced,
        };
        let mut hooks = Attacher::new(&mut ebpf, choice)?;
        hooks.attach_survey()?;
        let mut captures = None;
        if options.trace {
            hooks.attach_lifecycle()?;
            hooks.attach_accept(options.accept_stacks);
            hooks.attach_use();
        }
        let mut hooks = hooks.into_hooks();
        if options.trace {
            hooks.push(registers);
            captures = Some(Captures::of(&mut ebpf)?);
        }
        let traced = |hook: &Hook| hook.job == Job::Accept && hook.is_attached();
        Ok(Self {
            ebpf,
            accept_calls_on_demand: !hooks.iter().any(traced),
            hooks,
            captures,
            log,
            suspects: HashSet::new(),
            tick: tick(),
            namespaces: namespaces::Namespaces::default(),
            sweep: losses::Sweep::default(),
            captures_per_second: options.captures,
            stacks,
            uses_traced: options.trace,
        })
    }

    /// Which hook does each job, and why the better ones do not.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// CPU time of the calling thread, the iterators that run on it included.
    pub fn thread_time(&self) -> Duration {
        read_clock(ClockId::ThreadCPUTime)
    }

    /// Reads every TCP socket of the host.
    pub fn survey(&mut self) -> Result<Survey, ProbeError> {
        let begun_at = read_clock(ClockId::Monotonic);
        let losses = losses::read(&self.ebpf);
        self.sweep.begin(&mut self.ebpf, &losses, begun_at);
        let mut sightings = Vec::new();
        iterate::holders(&mut self.ebpf, |record| {
            sightings.extend(decode::sighting(record, self.tick));
        })?;
        let counts = self.namespaces.survey(&mut self.ebpf, begun_at, |record| {
            sightings.extend(decode::sighting(record, self.tick));
        })?;
        self.sweep.end(&mut self.ebpf);
        Ok(Survey {
            taken_at: read_clock(ClockId::Monotonic),
            sightings,
            counts,
            losses,
        })
    }

    /// Names the processes whose healthy connections surveys show too. Beyond the size of the
    /// kernel's map the rest is left out: it only helps to tell a pool from a leak.
    pub fn set_suspects(&mut self, suspects: HashSet<u32>) {
        let Some(mut map) = self
            .ebpf
            .map_mut("SUSPECTS")
            .and_then(|map| HashMap::<_, u32, u8>::try_from(map).ok())
        else {
            return;
        };
        for pid in self.suspects.difference(&suspects) {
            // Already gone is as good.
            let _ = map.remove(pid);
        }
        let known = std::mem::take(&mut self.suspects);
        for pid in suspects.into_iter().take(SUSPECTS) {
            if known.contains(&pid) || map.insert(pid, 1, 0).is_ok() {
                self.suspects.insert(pid);
            }
        }
    }

    /// Attaches or detaches the accept() system calls, for suspects that leak accepted connections
    /// whose code path nothing else has seen. Does nothing where accept() is traced from the start.
    pub fn trace_accept_calls(&mut self, wanted: bool) {
        if self.accept_calls_on_demand {
            hooks::trace_accept_calls(&mut self.ebpf, self.stacks, &mut self.hooks, wanted);
        }
    }

    /// Takes the way by which captures come; there is one.
    pub fn take_captures(&mut self) -> Option<Captures> {
        self.captures.take()
    }

    /// Tells the kernel where the code of a process lies. Without, its paths are told apart at a
    /// higher cost: so it does no harm when the map is full.
    pub fn set_layout(&mut self, layout: &CodeLayout) {
        let mut code = ProcessCode {
            image: layout.image,
            code_pages: layout.code_pages,
            window: layout.window,
            ..ProcessCode::default()
        };
        for (place, range) in code.ranges.iter_mut().zip(&layout.ranges) {
            *place = CodeRange {
                start: range.start,
                length: range.end.saturating_sub(range.start),
            };
        }
        if let Some(mut map) = self
            .ebpf
            .map_mut("PROCESS_CODE")
            .and_then(|map| HashMap::<_, u32, ProcessCode>::try_from(map).ok())
            && map.insert(layout.pid, code, 0).is_err()
        {
            // Full of processes that have ended, most likely: those that run are told again.
            let known: Vec<u32> = map.keys().filter_map(Result::ok).collect();
            for pid in known {
                let _ = map.remove(&pid);
            }
        }
    }

    /// Sets how many captures there may be, for each second and on the whole host.
    pub fn set_capture_rate(&mut self, host: f64) {
        let process = f64::from(self.captures_per_second.max(1));
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let limits = Limits {
            process_interval: nanoseconds(1.0 / process),
            process_burst: nanoseconds(BURST),
            host_interval: nanoseconds(1.0 / host),
            host_burst: nanoseconds(BURST.max(LEAST_BURST / host)),
        };
        if let Some(mut map) = self
            .ebpf
            .map_mut("LIMITS")
            .and_then(|map| Array::<_, Limits>::try_from(map).ok())
        {
            // The last rate stays in force when this one cannot be set.
            let _ = map.set(0, limits, 0);
        }
    }

    /// Attaches or detaches the hooks of reads and writes.
    pub fn trace_uses(&mut self, wanted: bool) {
        if wanted != self.uses_traced {
            hooks::trace_uses(&mut self.ebpf, self.stacks, &mut self.hooks, wanted);
            self.uses_traced = wanted;
        }
    }

    /// What everything has cost since tracing began, but for the reader of code.
    pub fn costs(&self) -> Costs {
        let all = read_clock(ClockId::ProcessCPUTime);
        let surveys = self.thread_time();
        Costs {
            at: read_clock(ClockId::Monotonic),
            lifecycle: losses::effort(&self.ebpf, losses::Slot::Lifecycle),
            uses: losses::effort(&self.ebpf, losses::Slot::Use),
            surveys,
            paths: all.saturating_sub(surveys),
        }
    }

    /// Writes the log records of the programs as they come. Never ends.
    pub async fn log(&mut self) {
        loop {
            readable(self.log.as_mut()).await;
            self.flush_log();
        }
    }

    /// Writes the log records that wait.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.get_mut().flush();
        }
    }
}

/// Ready when the descriptor is; never without one.
async fn readable<T: AsRawFd>(ring: Option<&mut AsyncFd<T>>) {
    match ring {
        Some(ring) => {
            if let Ok(mut ready) = ring.readable_mut().await {
                ready.clear_ready();
            }
        }
        None => std::future::pending().await,
    }
}

fn reading_log(ebpf: &mut Ebpf) -> Result<AsyncFd<EbpfLogger<&'static dyn log::Log>>, ProbeError> {
    let logger =
        EbpfLogger::init(ebpf).map_err(|error| refused("the log of its programs", &error))?;
    register(logger, "waiting for log records")
}

fn register<T: AsRawFd + 'static>(ring: T, what: &str) -> Result<AsyncFd<T>, ProbeError> {
    // SAFETY: the caller passes a logger, which owns its descriptor: it names the same open file
    // until the logger, and with it the registration, is dropped.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| refused(what, &error))
}

/// Before 5.11 maps count against the limit on locked memory, which is small. That raising it fails
/// shows when the maps are made.
fn lift_memory_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    );
}

/// Turns a failure into an error that quotes the kernel's own words.
fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> ProbeError {
    refused_with(what, hooks::in_short(error))
}

fn refused_with(what: &str, reason: String) -> ProbeError {
    let forbidden =
        reason.contains("Operation not permitted") || reason.contains("Permission denied");
    match (forbidden, rustix::process::geteuid().is_root()) {
        (true, false) => ProbeError::NotRoot(format!("{what}: {reason}")),
        (true, true) => ProbeError::NotAllowed(format!("{what}: {reason}")),
        (false, _) => ProbeError::Refused {
            what: what.into(),
            reason,
        },
    }
}

fn read_clock(clock: ClockId) -> Duration {
    duration(rustix::time::clock_gettime(clock))
}

/// The kernel's tick is the resolution of its coarse clocks.
fn tick() -> Duration {
    duration(rustix::time::clock_getres(ClockId::MonotonicCoarse))
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
