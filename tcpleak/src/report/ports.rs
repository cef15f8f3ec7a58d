//! Ports and TIME_WAIT, as the report shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{CodePath, Process};

/// Most rows that are listed of each; `totals.time_wait` has the full number of sockets.
pub const ROWS_LISTED: usize = 50;

/// Most processes that are listed in one row; `pids_total` has the full number.
pub const PIDS_LISTED: usize = 64;

/// Sockets in TIME_WAIT that have one cause.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TimeWait {
    /// The program that closed the connections first; null when that was not seen.
    pub process: Option<Process>,
    /// Its processes, at most 64.
    pub pids: Vec<u32>,
    /// How many processes there were, listed or not.
    pub pids_total: u64,
    /// The code path that opened the connections; null when it is not known, and for accepted ones.
    pub origin: Option<CodePath>,
    /// The code path that closed them; null when it is not known, and where `origin` is.
    pub close: Option<CodePath>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address of connections that were opened here; the local address and port of accepted ones.
    pub local: String,
    /// Remote address and port; null for accepted connections, whose clients differ.
    pub remote: Option<String>,
    /// Number of sockets.
    pub count: u64,
    /// How many of these have a code path that was not captured, or not read before the process was gone:
    /// they are put down to the paths of the others.
    pub unsampled: u64,
    /// How many more there were in each second, lately; null when there are too few to tell.
    pub rate_per_s: Option<f64>,
    /// How many of these are older than tcpleak, so that nobody knows who closed them.
    pub older_than_tracer: u64,
}

/// The ports for connections from one address to one destination.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PortHeadroom {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address.
    pub source: String,
    /// Remote address and port.
    pub destination: String,
    /// Ports of the range that a new connection cannot take.
    pub in_use: u64,
    /// Ports that it can take.
    pub available: u64,
    /// The connections with a port of the range, by TCP state.
    pub by_state: BTreeMap<&'static str, u64>,
    /// Ports that are taken for every destination: by listeners, and by connections whose program bound
    /// them before it connected.
    pub taken_for_all: u64,
    /// Sockets in TIME_WAIT that take no port any more, because the kernel reuses it (tcp_tw_reuse).
    pub reusable: u64,
    /// Whether the program binds before it connects, so that its ports are taken for every destination.
    pub bound: bool,
    /// Ports taken in each second, lately.
    pub rate_per_s: f64,
    /// Seconds until there is none left, when that is to be expected; zero when there is none.
    pub runs_out_in_s: Option<f64>,
    /// What the forecast rests on, or why there is none.
    pub basis: String,
    /// Whether this is worth a warning: 80 % are in use, or they run out within ten minutes.
    pub close_to_limit: bool,
}

impl PortHeadroom {
    /// Both ends, as one text.
    pub fn place(&self) -> String {
        format!("{} -> {}", self.source, self.destination)
    }
}

/// What would help against TIME_WAIT, and what would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Advice {
    /// Whether it helps.
    pub kind: AdviceKind,
    /// One sentence or two, with the reason.
    pub text: String,
}

/// Whether an advice helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdviceKind {
    /// It helps here.
    Helps,
    /// It does not help, or does harm.
    DoesNotHelp,
    /// It is often told, and never was true or is no more.
    Myth,
}
