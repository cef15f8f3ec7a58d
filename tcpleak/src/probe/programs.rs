//! The kernel programs, loaded: what user space tells them, and what it takes from them.

use std::{collections::HashSet, os::fd::AsRawFd};

use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, HashMap},
};
use aya_log::EbpfLogger;
use tcpleak_ebpf::{CodeRange, Limits, ProcessCode};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Captures, Following, Hook, Job, Options, ProbeError, clock,
    error::refused,
    force::Forced,
    hooks::{self, Attacher, Choice, Stacks},
    offsets,
};
use crate::{
    btf::Btf,
    code_path::{ChainOf, CodeLayout},
};

/// The kernel programs, compiled for this machine's register layout.
static OBJECT: &[u8] = include_bytes_aligned!(env!("TCPLEAK_EBPF_OBJECT_PATH"));

/// Most processes whose healthy connections a survey shows: the size of the kernel's map.
const SUSPECTS: usize = 4096;

/// Bytes of a ring that nothing is sent through: the kernel takes whole pages.
const UNUSED_RING: u32 = 4096;

/// Captures that the buckets hold for a process or the host, as seconds of their rate.
const BURST: f64 = 5.0;
/// Captures that the host's bucket holds at least: tests run in bursts.
const LEAST_BURST: f64 = 4000.0;

/// What the programs are told before they are verified.
struct Settings {
    offsets: tcpleak_ebpf::Offsets,
    log_level: u8,
    receive_flags_at: u32,
    open_idle_jiffies: u32,
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
            open_idle_jiffies: options
                .open
                .map_or(0, |idle| clock::whole_ticks(idle, clock::tick())),
        })
    }
}

/// The loaded programs.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    captures: Option<Captures>,
    following: Option<Following>,
    log: Option<AsyncFd<EbpfLogger<&'static dyn log::Log>>>,
    suspects: HashSet<u32>,
    captures_per_second: u32,
    stacks: Stacks,
    accept_calls_on_demand: bool,
    uses_traced: bool,
    /// Whether they are to follow how connections are opened and end, and whether they do.
    wanted: bool,
    traced: bool,
}

/// What was attached.
pub struct Attached {
    /// Whether the iterators do the survey.
    pub survey: bool,
    /// Which hook does each job.
    pub hooks: Vec<Hook>,
}

impl Programs {
    /// Loads the programs, and attaches what the options ask for as far as the kernel takes it.
    pub fn load(options: Options, forced: &Forced) -> Result<(Self, Attached), ProbeError> {
        lift_memory_limit();
        let types = offsets::kernel_types()?;
        let choice = hooks::choose_stacks(&types, forced, None);
        let stacks = choice.0;
        match Self::load_with(&types, forced, options, choice) {
            // Only trying tells whether a verifier follows programs that copy stacks by themselves.
            Ok((programs, attached))
                if stacks == Stacks::CopiedByCalls && !programs.can_trace() =>
            {
                drop(programs);
                let refusals = attached.hooks.iter().flat_map(|hook| &hook.refusals);
                let last = refusals.last().map(|refusal| refusal.reason.clone());
                let choice = hooks::choose_stacks(&types, forced, last);
                Self::load_with(&types, forced, options, choice)
            }
            loaded => loaded,
        }
    }

    fn load_with(
        types: &Btf,
        forced: &Forced,
        options: Options,
        (stacks, registers): (Stacks, Hook),
    ) -> Result<(Self, Attached), ProbeError> {
        let settings = Settings::of(types, options)?;
        let copy_by_calls = u32::from(stacks == Stacks::CopiedByCalls);
        let follows = u32::from(options.follow);
        let only_followed = u32::from(options.only_followed);
        let mut loader = EbpfLoader::new();
        if !options.follow {
            loader.map_max_entries("ENDS", UNUSED_RING);
        }
        let mut ebpf = loader
            .override_global("OFFSETS", &settings.offsets, true)
            .override_global("RECEIVE_FLAGS_AT", &settings.receive_flags_at, true)
            .override_global("OPEN_IDLE_JIFFIES", &settings.open_idle_jiffies, true)
            .override_global("FOLLOWS", &follows, true)
            .override_global("ONLY_FOLLOWED", &only_followed, true)
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
            interrupted: hooks::tracepoints_are_interrupted(
                &rustix::system::uname().release().to_string_lossy(),
            ),
            forced,
        };
        let mut attacher = Attacher::new(&mut ebpf, choice)?;
        let survey = attacher.attach_survey();
        let traced = options.trace && attacher.attach_lifecycle();
        if traced {
            attacher.attach_start();
            attacher.attach_accept(options.accept_stacks);
            attacher.attach_use();
        }
        if traced && options.follow {
            attacher.attach_follow();
        }
        let mut hooks = attacher.into_hooks();
        if traced {
            hooks.push(registers);
        }
        let follows = |hook: &Hook| hook.job == Job::Follow && hook.is_attached();
        let following = hooks
            .iter()
            .any(follows)
            .then(|| Following::of(&mut ebpf))
            .transpose()?;
        let captures = traced.then(|| Captures::of(&mut ebpf)).transpose()?;
        let accepts = |hook: &Hook| hook.job == Job::Accept && hook.is_attached();
        let programs = Self {
            ebpf,
            captures,
            following,
            log,
            suspects: HashSet::new(),
            captures_per_second: options.captures,
            stacks,
            accept_calls_on_demand: traced && !hooks.iter().any(accepts),
            uses_traced: traced,
            traced,
            wanted: options.trace,
        };
        Ok((programs, Attached { survey, hooks }))
    }

    /// Whether they follow how connections are opened and end.
    pub fn trace(&self) -> bool {
        self.traced
    }

    /// Whether the kernel lets them do so, as far as it was asked to.
    pub fn can_trace(&self) -> bool {
        self.traced || !self.wanted
    }

    /// Names the processes that leak. Beyond the size of the kernel's map the rest is left out.
    pub fn set_suspects(&mut self, suspects: &HashSet<u32>) {
        let Some(mut map) = self
            .ebpf
            .map_mut("SUSPECTS")
            .and_then(|map| HashMap::<_, u32, u8>::try_from(map).ok())
        else {
            return;
        };
        for pid in self.suspects.difference(suspects) {
            // Already gone is as good.
            let _ = map.remove(pid);
        }
        let known = std::mem::take(&mut self.suspects);
        for pid in suspects.iter().take(SUSPECTS) {
            if known.contains(pid) || map.insert(pid, 1, 0).is_ok() {
                self.suspects.insert(*pid);
            }
        }
    }

    /// Attaches or detaches the accept() system calls.
    pub fn trace_accept_calls(&mut self, hooks: &mut [Hook], wanted: bool) {
        if self.accept_calls_on_demand {
            hooks::trace_accept_calls(&mut self.ebpf, self.stacks, hooks, wanted);
        }
    }

    /// Takes the way by which captures come; there is one.
    pub fn take_captures(&mut self) -> Option<Captures> {
        self.captures.take()
    }

    /// Takes the way to follow a command, where there is one.
    pub fn take_following(&mut self) -> Option<Following> {
        self.following.take()
    }

    /// Tells the kernel where the code of a process lies. Without, its paths are told apart at a
    /// higher cost: so it does no harm when the map is full.
    pub fn set_layout(&mut self, layout: &CodeLayout) {
        let mut code = ProcessCode {
            image: layout.image,
            code_pages: layout.code_pages,
            window: layout.window,
            asked_elsewhere: layout.asked_elsewhere.into(),
            ..ProcessCode::default()
        };
        for (place, range) in code.ranges.iter_mut().zip(&layout.ranges) {
            *place = CodeRange {
                start: range.start,
                length: range.end.saturating_sub(range.start),
            };
        }
        self.tell("PROCESS_CODE", layout.pid, code);
    }

    /// Tells the kernel how to follow the frames that an interpreter keeps in the memory of a process.
    pub fn set_chain(&mut self, chain: &ChainOf) {
        self.tell(
            "PROCESS_CHAINS",
            chain.pid,
            chain.plan.of_image(chain.image),
        );
    }

    /// Tells the kernel something of a process.
    fn tell<T: Pod>(&mut self, map: &str, pid: u32, value: T) {
        if let Some(mut map) = self
            .ebpf
            .map_mut(map)
            .and_then(|map| HashMap::<_, u32, T>::try_from(map).ok())
            && map.insert(pid, value, 0).is_err()
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
    pub fn trace_uses(&mut self, hooks: &mut [Hook], wanted: bool) {
        if self.traced && wanted != self.uses_traced {
            hooks::trace_uses(&mut self.ebpf, self.stacks, hooks, wanted);
            self.uses_traced = wanted;
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

pub(super) fn register<T: AsRawFd + 'static>(
    ring: T,
    what: &str,
) -> Result<AsyncFd<T>, ProbeError> {
    // SAFETY: the caller passes a logger or a ring, which owns its descriptor: it names the same open
    // file until it, and with it the registration, is dropped.
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
