//! The part of the report that is about a command that tcpleak ran.

use schemars::JsonSchema;
use serde::Serialize;

use super::Group;

/// What came of the command of `tcpleak run`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Run {
    /// Exit status of the command; null when a signal ended it.
    pub command_status: Option<i32>,
    /// The signal that ended the command; null when it ended by itself.
    pub command_signal: Option<i32>,
    /// Leaks that do not count, because a suppression is about them.
    pub suppressed: Vec<Suppressed>,
    /// Suppressions that were about no leak of this run.
    pub unused_suppressions: Vec<UnusedSuppression>,
    /// Processes that descend from the command and ran on when it had ended. They are not watched any
    /// more.
    pub still_running: Vec<StillRunning>,
}

/// A leak that does not count.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Suppressed {
    /// Why, as the suppression says.
    pub reason: String,
    /// The line at which the reason stands, in the file of suppressions.
    pub line: u64,
    /// The leak.
    pub group: Group,
}

/// A suppression that was about no leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnusedSuppression {
    /// Its reason.
    pub reason: String,
    /// The line at which the reason stands, in the file of suppressions.
    pub line: u64,
    /// Whether it has expired, so that it was not asked.
    pub expired: bool,
}

/// A process that runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StillRunning {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
}
