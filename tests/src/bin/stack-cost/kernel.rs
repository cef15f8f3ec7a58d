//! The maps of a running tcpleak, found by their names among those that it holds.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use aya::maps::{HashMap, Map, MapData, MapInfo, PerCpuArray};
use rustix::time::{ClockId, clock_gettime};
use tcpleak_ebpf::{ChainPlan, Cost, ProcessCode};

/// The maps of a running tcpleak.
pub struct Kernel {
    costs: PerCpuArray<MapData, Cost>,
    known_paths: HashMap<MapData, u64, u8>,
    process_code: HashMap<MapData, u32, ProcessCode>,
    process_chains: HashMap<MapData, u32, ChainPlan>,
    process_buckets: HashMap<MapData, u32, u64>,
}

/// Captures so far, and what they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captures {
    /// How many there were.
    pub count: u64,
    /// What they took.
    pub nanoseconds: u64,
}

impl Captures {
    /// What came after.
    pub fn until(self, later: Self) -> Self {
        Self {
            count: later.count - self.count,
            nanoseconds: later.nanoseconds - self.nanoseconds,
        }
    }

    /// What one of them took.
    pub fn each(self) -> f64 {
        self.nanoseconds as f64 / self.count.max(1) as f64
    }
}

impl Kernel {
    /// Finds the maps that a process holds.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            costs: map(pid, "COSTS")?.try_into()?,
            known_paths: map(pid, "KNOWN_PATHS")?.try_into()?,
            process_code: map(pid, "PROCESS_CODE")?.try_into()?,
            process_chains: map(pid, "PROCESS_CHAINS")?.try_into()?,
            process_buckets: map(pid, "PROCESS_BUCKETS")?.try_into()?,
        })
    }

    /// The captures of all programs on all CPUs.
    pub fn captures(&self) -> anyhow::Result<Captures> {
        let mut captures = Captures::default();
        for slot in 0..self.costs.len() {
            for cost in self.costs.get(&slot, 0)?.iter() {
                captures.count += cost.captures;
                captures.nanoseconds += cost.capture_ns;
            }
        }
        Ok(captures)
    }

    /// How many paths were sent to user space. Those that were forgotten since are not counted.
    pub fn known_paths(&self) -> usize {
        self.known_paths.keys().filter(Result::is_ok).count()
    }

    /// Has the paths of a process told apart by so much of its stack. Fails while the process is not
    /// known.
    pub fn set_window(&mut self, pid: u32, bytes: u32) -> anyhow::Result<()> {
        let known = self.process_code.get(&pid, 0);
        let mut code = known.context("the kernel was not told of the process")?;
        code.window = bytes;
        Ok(self.process_code.insert(pid, code, 0)?)
    }

    /// How the functions that an interpreter keeps in the memory of a process are followed, if they are.
    pub fn chain(&self, pid: u32) -> Option<ChainPlan> {
        self.process_chains.get(&pid, 0).ok()
    }

    /// Has them followed.
    pub fn set_chain(&mut self, pid: u32, plan: ChainPlan) -> anyhow::Result<()> {
        Ok(self.process_chains.insert(pid, plan, 0)?)
    }

    /// Has them not followed.
    pub fn forget_chain(&mut self, pid: u32) -> anyhow::Result<()> {
        Ok(self.process_chains.remove(&pid)?)
    }

    /// Has no path of a process captured: its time for captures is used up for an hour.
    pub fn leave_out(&mut self, pid: u32) -> anyhow::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let later = u64::try_from(now.tv_sec)? + 3600;
        Ok(self.process_buckets.insert(pid, later * 1_000_000_000, 0)?)
    }
}

fn map(pid: u32, name: &str) -> anyhow::Result<Map> {
    // The kernel keeps 15 bytes of a name.
    let kept = &name.as_bytes()[..name.len().min(15)];
    for entry in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        let Some(id) = id.and_then(|id| id.trim().parse().ok()) else {
            continue;
        };
        if MapInfo::from_id(id)?.name() == kept {
            return Ok(Map::from_map_data(MapData::from_id(id)?)?);
        }
    }
    bail!("tcpleak holds no map {name}")
}
