//! The edge to the kernel: loads the programs, attaches the best hook for each job, takes surveys.
//!
//! Nothing outside this module names aya. What comes out is plain data: [`Survey`]s and
//! [`RawPath`]s.

mod decode;
mod hooks;
mod iterate;
mod losses;
mod namespaces;
mod offsets;
mod tracefs;

use std::{collections::HashSet, os::fd::AsRawFd, time::Duration};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{HashMap, MapData, RingBuf},
};
use aya_log::EbpfLogger;
use rustix::time::ClockId;
use tokio::io::{Interest, unix::AsyncFd};

pub use self::hooks::{Hook, Job, Refusal};
use crate::{code_path::RawPath, survey::Survey};

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
    /// A survey could not be read.
    #[error("a survey could not be read: {0}")]
    Survey(#[from] std::io::Error),
}

/// What to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Attach the lifecycle hooks; without them only surveys work.
    pub trace: bool,
    /// Trace the accept() system calls where nothing cheaper works.
    pub accept_stacks: bool,
    /// Let the programs write log records.
    pub verbose: bool,
}

/// The loaded programs.
pub struct Probe {
    ebpf: Ebpf,
    hooks: Vec<Hook>,
    paths: Option<AsyncFd<RingBuf<MapData>>>,
    log: Option<AsyncFd<EbpfLogger<&'static dyn log::Log>>>,
    suspects: HashSet<u32>,
    tick: Duration,
    survey_costs: [Duration; 2],
    namespaces: namespaces::Namespaces,
    sweep: losses::Sweep,
}

impl Probe {
    /// Loads and attaches what the options ask for. Must be called within a tokio runtime.
    pub fn load(options: Options) -> Result<Self, ProbeError> {
        lift_memory_limit();
        let types = offsets::kernel_types()?;
        let offsets = offsets::resolve(&types)?;
        let level = if options.verbose {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut ebpf = EbpfLoader::new()
            .override_global("OFFSETS", &offsets, true)
            .override_global(aya_log::LEVEL, &level, true)
            .load(OBJECT)
            .map_err(|error| refused("its maps", &error))?;
        let log = options
            .verbose
            .then(|| reading_log(&mut ebpf))
            .transpose()?;
        let mut hooks = hooks::Attacher::new(&mut ebpf)?;
        hooks.attach_survey()?;
        let mut paths = None;
        if options.trace {
            hooks.attach_lifecycle()?;
            hooks.attach_accept(options.accept_stacks);
            hooks.attach_use();
        }
        let hooks = hooks.into_hooks();
        if options.trace {
            paths = Some(reading_paths(&mut ebpf)?);
        }
        Ok(Self {
            ebpf,
            hooks,
            paths,
            log,
            suspects: HashSet::new(),
            tick: tick(),
            survey_costs: [Duration::ZERO; 2],
            namespaces: namespaces::Namespaces::default(),
            sweep: losses::Sweep::default(),
        })
    }

    /// Which hook does each job, and why the better ones do not.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// CPU time that a survey takes: of the latest two the smaller, because the first one after
    /// something else pays for cold caches.
    pub fn survey_cost(&self) -> Duration {
        self.survey_costs[0].min(self.survey_costs[1])
    }

    /// Reads every TCP socket of the host.
    pub fn survey(&mut self) -> Result<Survey, ProbeError> {
        let taken_at = read_clock(ClockId::Monotonic);
        // The iterators run on this thread, in the kernel.
        let cpu_before = read_clock(ClockId::ThreadCPUTime);
        let losses = losses::read(&self.ebpf);
        self.sweep.begin(&mut self.ebpf, &losses, taken_at);
        let mut sightings = Vec::new();
        iterate::holders(&mut self.ebpf, |record| {
            sightings.extend(decode::sighting(record, self.tick));
        })?;
        let counts = self.namespaces.survey(&mut self.ebpf, taken_at, |record| {
            sightings.extend(decode::sighting(record, self.tick));
        })?;
        self.sweep.end(&mut self.ebpf);
        self.survey_costs = [
            self.survey_costs[1],
            read_clock(ClockId::ThreadCPUTime).saturating_sub(cpu_before),
        ];
        Ok(Survey {
            taken_at,
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
    /// whose code path nothing else has seen. Does nothing where a better hook is in place.
    pub fn trace_accept_calls(&mut self, wanted: bool) {
        hooks::trace_accept_calls(&mut self.ebpf, &mut self.hooks, wanted);
    }

    /// The code paths captured since the last call.
    pub fn captured_paths(&mut self) -> Vec<RawPath> {
        let mut captured = Vec::new();
        if let Some(ring) = &mut self.paths {
            while let Some(record) = ring.get_mut().next() {
                captured.extend(decode::path(&record));
            }
        }
        captured
    }

    /// Waits until the programs have something to say: a code path, or a log record, which is
    /// written at once.
    pub async fn wait(&mut self) {
        tokio::select! {
            () = readable(self.paths.as_mut()) => {}
            () = readable(self.log.as_mut()) => self.flush_log(),
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

fn reading_paths(ebpf: &mut Ebpf) -> Result<AsyncFd<RingBuf<MapData>>, ProbeError> {
    let map = ebpf
        .take_map("PATHS")
        .ok_or_else(|| refused_with("the map PATHS", "it is not in the object".into()))?;
    let ring = RingBuf::try_from(map).map_err(|error| refused("the map PATHS", &error))?;
    register(ring, "waiting for code paths")
}

fn reading_log(ebpf: &mut Ebpf) -> Result<AsyncFd<EbpfLogger<&'static dyn log::Log>>, ProbeError> {
    let logger =
        EbpfLogger::init(ebpf).map_err(|error| refused("the log of its programs", &error))?;
    register(logger, "waiting for log records")
}

fn register<T: AsRawFd + 'static>(ring: T, what: &str) -> Result<AsyncFd<T>, ProbeError> {
    // SAFETY: both callers pass a ring buffer, which owns its descriptor: it names the same open
    // file until the ring, and with it the registration, is dropped.
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
