//! With which status `tcpleak run` ends.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

/// tcpleak could not do its work.
const FAILURE: u8 = 1;
/// What shells say of a command that there is not, and of one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
/// What shells add to the number of a signal.
const BY_SIGNAL: i32 = 128;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        Self {
            status: status.code(),
            signal: status.signal(),
        }
    }
}

/// The command's own status when it failed, else what became of watching it.
pub fn exit_status(ended: Ended, failed: bool, leaks: bool, leak_exit_code: u8) -> u8 {
    let own = match (ended.status, ended.signal) {
        (Some(status), _) => status,
        (None, Some(signal)) => BY_SIGNAL + signal,
        (None, None) => i32::from(FAILURE),
    };
    match u8::try_from(own) {
        Ok(0) if leaks => leak_exit_code,
        Ok(0) if failed => FAILURE,
        Ok(own) => own,
        Err(_) => FAILURE,
    }
}

/// The status when the command cannot be started.
pub fn of_start(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_RUNNABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ended(status: i32) -> Ended {
        Ended {
            status: Some(status),
            signal: None,
        }
    }

    const TERMINATED: Ended = Ended {
        status: None,
        signal: Some(15),
    };

    #[test]
    fn a_command_that_fails_is_what_counts() {
        for leaks in [false, true] {
            for failed in [false, true] {
                assert_eq!(exit_status(ended(2), failed, leaks, 3), 2);
                assert_eq!(exit_status(TERMINATED, failed, leaks, 3), 143);
            }
        }
    }

    #[test]
    fn a_command_that_succeeds_and_leaks_has_the_status_of_a_leak() {
        assert_eq!(exit_status(ended(0), false, true, 3), 3);
        assert_eq!(exit_status(ended(0), false, true, 42), 42);
        assert_eq!(exit_status(ended(0), false, false, 3), 0);
    }

    #[test]
    fn a_run_that_could_not_be_watched_to_its_end_is_no_success() {
        assert_eq!(exit_status(ended(0), true, false, 3), 1);
        assert_eq!(exit_status(ended(0), true, true, 3), 3);
    }

    #[test]
    fn a_command_that_cannot_be_started_has_the_status_that_shells_give() {
        assert_eq!(of_start(&io::ErrorKind::NotFound.into()), 127);
        assert_eq!(of_start(&io::ErrorKind::PermissionDenied.into()), 126);
    }
}
