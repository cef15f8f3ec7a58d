//! The edge to the kernel: loads the programs, attaches the best hook for each job, takes surveys.
//!
//! Nothing outside this module names aya. What comes out is plain data: [`Survey`]s and
//! [`Captures`].

mod captures;
mod clock;
mod closes;
mod decode;
mod error;
mod following;
mod force;
mod hooks;
mod iterate;
mod iterators;
mod losses;
mod namespaces;
mod offsets;
mod ports;
mod programs;
mod sock_diag;
mod source;
mod tracefs;

use std::{collections::HashSet, time::Duration};

use rustix::time::ClockId;

pub use self::{
    captures::Captures,
    error::ProbeError,
    following::Following,
    hooks::{Hook, Job, Refusal},
};
use self::{force::Forced, losses::Slot, ports::PortDump, source::Source};
use crate::{
    code_path::{ChainOf, CodeLayout},
    governor::{Costs, Effort},
    ports::PortTable,
    survey::Survey,
};

/// What to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Attach the lifecycle hooks; without them only surveys work.
    pub trace: bool,
    /// Follow a command that is to be started, and what descends from it.
    pub follow: bool,
    /// Capture nothing of processes that are not followed.
    pub only_followed: bool,
    /// Trace the accept() system calls where nothing cheaper works.
    pub accept_stacks: bool,
    /// Most captures of one process in one second, over time.
    pub captures: u32,
    /// Let the programs write log records.
    pub verbose: bool,
    /// Show open connections that are idle for this long, whoever holds them.
    pub open: Option<Duration>,
}

/// What is loaded, and the way to take surveys.
pub struct Probe {
    source: Source,
    hooks: Vec<Hook>,
    suspects: HashSet<u32>,
    caveats: Vec<String>,
    ports: PortDump,
    traced_since: Option<Duration>,
}

impl Probe {
    /// Loads and attaches what the options ask for, as far as the kernel takes it; surveys must be
    /// possible. Must be called within a tokio runtime.
    pub fn load(options: Options) -> Result<Self, ProbeError> {
        let forced = Forced::from_environment().map_err(ProbeError::Forced)?;
        let (source, hooks) = Source::open(options, &forced)?;
        let traced = options.trace && source.can_trace();
        Ok(Self {
            ports: PortDump::default(),
            traced_since: traced.then(clock::now),
            caveats: source.caveats(),
            source,
            hooks,
            suspects: HashSet::new(),
        })
    }

    /// Whether connections can be traced here: programs are loaded, and those that were asked for
    /// are attached.
    pub fn can_trace(&self) -> bool {
        self.source.can_trace()
    }

    /// What reports must say of this kernel, in sentences.
    pub fn caveats(&self) -> impl Iterator<Item = String> {
        self.caveats.iter().cloned().chain(self.source.forbidden())
    }

    /// Which hook does each job, and why the better ones do not.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// CPU time of the calling thread, the iterators that run on it included.
    pub fn thread_time(&self) -> Duration {
        clock::read(ClockId::ThreadCPUTime)
    }

    /// Reads every TCP socket of the host.
    pub fn survey(&mut self) -> Result<Survey, ProbeError> {
        Ok(self.source.survey(&self.suspects)?)
    }

    /// Reads which ports are in use in every network namespace, and who closed connections first.
    pub fn ports(&mut self) -> Result<PortTable, ProbeError> {
        let closes = match self.source.programs_mut() {
            Some(programs) if self.traced_since.is_some() => closes::take(&mut programs.ebpf),
            _ => closes::Taken::default(),
        };
        Ok(self.ports.take(closes, self.traced_since)?)
    }

    /// Names the processes whose healthy connections surveys show too: that helps to tell a pool
    /// from a leak.
    pub fn set_suspects(&mut self, suspects: HashSet<u32>) {
        if let Some(programs) = self.source.programs_mut() {
            programs.set_suspects(&suspects);
        }
        self.suspects = suspects;
    }

    /// Attaches or detaches the accept() system calls, for suspects that leak accepted connections
    /// whose code path nothing else has seen. Does nothing where accept() is traced from the start.
    pub fn trace_accept_calls(&mut self, wanted: bool) {
        if let Some(programs) = self.source.programs_mut() {
            programs.trace_accept_calls(&mut self.hooks, wanted);
        }
    }

    /// Takes the way by which captures come; there is one where connections are traced.
    pub fn take_captures(&mut self) -> Option<Captures> {
        self.source.programs_mut()?.take_captures()
    }

    /// Takes the way to follow a command; there is one where that was asked for and the kernel takes it.
    pub fn take_following(&mut self) -> Option<Following> {
        self.source.programs_mut()?.take_following()
    }

    /// Tells the kernel where the code of a process lies. Without, its paths are told apart at a
    /// higher cost: so it does no harm when the map is full.
    pub fn set_layout(&mut self, layout: &CodeLayout) {
        if let Some(programs) = self.source.programs_mut() {
            programs.set_layout(layout);
        }
    }

    /// Tells the kernel how to follow the frames that an interpreter keeps in the memory of a process.
    pub fn set_chain(&mut self, chain: &ChainOf) {
        if let Some(programs) = self.source.programs_mut() {
            programs.set_chain(chain);
        }
    }

    /// Sets how many captures there may be, for each second and on the whole host.
    pub fn set_capture_rate(&mut self, host: f64) {
        if let Some(programs) = self.source.programs_mut() {
            programs.set_capture_rate(host);
        }
    }

    /// Attaches or detaches the hooks of reads and writes.
    pub fn trace_uses(&mut self, wanted: bool) {
        if let Some(programs) = self.source.programs_mut() {
            programs.trace_uses(&mut self.hooks, wanted);
        }
    }

    /// What everything has cost since tracing began, but for the reader of code.
    pub fn costs(&self) -> Costs {
        let all = clock::read(ClockId::ProcessCPUTime);
        let surveys = self.thread_time();
        let effort = |slot| match self.source.programs() {
            Some(programs) => losses::effort(&programs.ebpf, slot),
            None => Effort::default(),
        };
        Costs {
            at: clock::now(),
            lifecycle: effort(Slot::Lifecycle),
            uses: effort(Slot::Use),
            surveys,
            paths: all.saturating_sub(surveys),
        }
    }

    /// Writes the log records of the programs as they come. Never ends.
    pub async fn log(&mut self) {
        match self.source.programs_mut() {
            Some(programs) => programs.log().await,
            None => std::future::pending().await,
        }
    }

    /// Writes the log records that wait.
    pub fn flush_log(&mut self) {
        if let Some(programs) = self.source.programs_mut() {
            programs.flush_log();
        }
    }
}
