//! How tcpleak itself is doing: plain data.

use std::time::Duration;

/// What tcpleak has cost and lost since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Surveys that were taken.
    pub surveys: u64,
    /// CPU time that the latest one took.
    pub survey_time: Duration,
    /// CPU time of tcpleak's own threads.
    pub user_time: Duration,
    /// CPU time of the kernel programs, estimated as the governor does; surveys are not in it.
    pub kernel_time: Duration,
    /// Code paths that the kernel handed over.
    pub captures: u64,
    /// Resident memory in bytes, the reader of code included, pages of files not.
    pub resident_bytes: u64,
}
