//! Why the kernel cannot be probed.

use super::hooks::in_short;

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
        "this kernel has no type information at {path} ({reason}); tracing takes a kernel built with CONFIG_DEBUG_INFO_BTF=y"
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
    /// Neither root nor allowed to look into the processes of others.
    #[error("not allowed to look into other processes; run tcpleak as root: `sudo tcpleak`")]
    NotPrivileged,
    /// A backend is asked for that there is not.
    #[error("{0}")]
    Forced(String),
    /// A survey could not be read.
    #[error("a survey could not be read: {0}")]
    Survey(#[from] std::io::Error),
}

/// Turns a failure into an error that quotes the kernel's own words.
pub fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> ProbeError {
    refused_with(what, in_short(error))
}

/// The same, from the words.
pub fn refused_with(what: &str, reason: String) -> ProbeError {
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
