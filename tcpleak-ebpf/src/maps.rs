//! The maps, and the two values that user space sets before and between surveys.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tcpleak_ebpf::{
    CapturedPath, ChainPlan, Connection, Cost, Counters, Limits, ProcessCode, Sighting, Task,
    cost_slot, tcp_state,
};

use crate::{chain::Chain, walk::Walk};

/// What tracing knows about each connection, by sock address. Entries are allocated as they come:
/// preallocating room for all of them would take the memory of a busy host on every host.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Code paths that user space has already.
#[map]
pub static KNOWN_PATHS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// New code paths, as [`CapturedPath`].
#[map]
pub static PATHS: RingBuf = RingBuf::with_byte_size(PATHS_BYTES, 0);
/// How much of new code paths waits to be read at most.
pub const PATHS_BYTES: u32 = 4 << 20;

/// Where the code of each process lies, by process id.
#[map]
pub static PROCESS_CODE: HashMap<u32, ProcessCode> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// How to follow the frames that an interpreter keeps in memory, by process id. The children of a
/// process take after it.
#[map]
pub static PROCESS_CHAINS: HashMap<u32, ChainPlan> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Where the thread state of each thread was found, by thread id.
#[map]
pub static CHAIN_THREADS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);

/// Where a chain is followed, in the slots of [`PATH_SCRATCH`].
#[map]
pub static CHAIN_SCRATCH: PerCpuArray<Chain> = PerCpuArray::with_max_entries(4, 0);

/// How much capturing is allowed.
#[map]
pub static LIMITS: Array<Limits> = Array::with_max_entries(1, 0);

/// Until when each process has used up what it may capture, by process id.
#[map]
pub static PROCESS_BUCKETS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);

/// Until when the host has used up what it may capture.
#[map]
pub static HOST_BUCKET: Array<u64> = Array::with_max_entries(1, 0);

/// What the programs cost, by [`cost_slot`].
#[map]
pub static COSTS: PerCpuArray<Cost> = PerCpuArray::with_max_entries(cost_slot::COUNT, 0);

/// A path, and the walk over its stack.
#[repr(C)]
pub struct PathScratch {
    /// The walk.
    pub walk: Walk,
    /// The path.
    pub path: CapturedPath,
}

// The most that the kernel allocates for each CPU.
const _: () = assert!(size_of::<PathScratch>() <= 32 * 1024);

/// Where a path is put together. One slot for each program that captures: a program never
/// interrupts itself on one CPU, but it may interrupt another.
#[map]
pub static PATH_SCRATCH: PerCpuArray<PathScratch> = PerCpuArray::with_max_entries(4, 0);

/// Where a new record is put together, in the slots of [`PATH_SCRATCH`].
#[map]
pub static RECORD_SCRATCH: PerCpuArray<Connection> = PerCpuArray::with_max_entries(4, 0);

/// Where the running process is described, in the slots of [`PATH_SCRATCH`].
#[map]
pub static TASK_SCRATCH: PerCpuArray<Task> = PerCpuArray::with_max_entries(4, 0);

/// Where a survey record is put together; only one iterator runs at a time.
#[map]
pub static SIGHTING_SCRATCH: PerCpuArray<Sighting> = PerCpuArray::with_max_entries(1, 0);

/// What this CPU counted.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Processes that leak: the survey writes their healthy connections too.
#[map]
pub static SUSPECTS: HashMap<u32, u8> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Number of the survey that marks every lifecycle record it finds a socket for; zero: no marking.
#[map]
pub static SURVEY_MARK: Array<u32> = Array::with_max_entries(1, 0);

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: impl FnOnce(&mut Counters) -> &mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's own; a lost increment under preemption only undercounts.
        let counters = unsafe { &mut *counters };
        *counter(counters) += 1;
    }
}

/// Adds one to the count of sockets in a TCP state.
pub fn count_state(state: u8) {
    count(|counters| &mut counters.states[usize::from(state) & (tcp_state::SLOTS - 1)]);
}
