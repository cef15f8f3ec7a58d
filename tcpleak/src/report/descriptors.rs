//! Descriptors: how many a process has open, how many it may have, and when it will have no more.

use schemars::JsonSchema;
use serde::Serialize;

/// The descriptors of a process that holds connections whose peer is gone.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Descriptors {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Descriptors that are open, of any kind; null when they could not be counted.
    pub fds_open: Option<u64>,
    /// The soft limit (RLIMIT_NOFILE); null when there is none, or it could not be read.
    pub fd_limit: Option<u64>,
    /// More descriptors in each second; null when their counts are no rising line.
    pub fd_rate_per_s: Option<f64>,
    /// More connections whose peer is gone in each second; null before there are enough surveys.
    pub leak_rate_per_s: Option<f64>,
    /// Seconds until the limit is reached at that pace, zero when it is; null when there is no
    /// forecast.
    pub runs_out_in_s: Option<f64>,
    /// What the forecast rests on, or why there is none.
    pub basis: String,
    /// Whether the limit is close: ten minutes are left, or fewer. It stays so until it is clearly
    /// not close any more.
    pub close_to_limit: bool,
}

/// Open files of the whole host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileHandles {
    /// How many there are.
    pub open: u64,
    /// How many there may be (`/proc/sys/fs/file-max`).
    pub limit: u64,
}

impl FileHandles {
    /// Whether more than four fifths are in use.
    pub fn is_near_limit(&self) -> bool {
        self.open > self.limit - self.limit / 5
    }
}
