//! What host this is, and what tcpleak may do on it.

use rustix::thread::CapabilitySet;

use super::line;
use crate::{plain::plain, rights};

/// Kernel, rights and types.
pub fn page() -> String {
    let name = rustix::system::uname();
    let kernel = format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    );
    let user = match rustix::process::geteuid().is_root() {
        true => "root",
        false => "not root",
    };
    let mut page = format!(
        "tcpleak {} on {kernel} ({})\n\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    line(&mut page, "rights", &format!("{user}, {}", capabilities()));
    let types = "/sys/kernel/btf/vmlinux";
    line(
        &mut page,
        "types",
        &match std::fs::metadata(types) {
            Ok(file) => format!("{types}, {} KiB", file.len() / 1024),
            Err(error) => {
                format!("{types}: {error}; tracing takes a kernel with CONFIG_DEBUG_INFO_BTF=y")
            }
        },
    );
    page
}

/// What is left of the rights once the programs are attached.
pub fn kept(given_up: anyhow::Result<()>) -> String {
    let mut page = String::from("\nrights kept once the programs are attached (tcpleak serve)\n");
    if let Err(error) = given_up {
        line(
            &mut page,
            "all",
            &format!("NOT GIVEN UP: {}", plain(&format!("{error:#}"))),
        );
        return page;
    }
    let user = rustix::process::geteuid().as_raw();
    line(&mut page, "user", &user.to_string());
    let effective = rustix::thread::capabilities(None).map(|sets| sets.effective);
    for (capability, name, reason) in rights::KEPT {
        match effective {
            Ok(effective) if effective.contains(capability) => line(&mut page, name, reason),
            Ok(_) => line(&mut page, name, &format!("not there: cannot {reason}")),
            Err(error) => line(&mut page, name, &format!("unknown: {error}")),
        }
    }
    page
}

/// The capabilities that tcpleak uses, and what each is for when it is missing.
fn capabilities() -> String {
    let needed = [
        (CapabilitySet::BPF, "BPF (load programs)"),
        (CapabilitySet::PERFMON, "PERFMON (trace)"),
        (
            CapabilitySet::SYS_PTRACE,
            "SYS_PTRACE (read other processes)",
        ),
        (
            CapabilitySet::SYS_ADMIN,
            "SYS_ADMIN (enter network namespaces)",
        ),
    ];
    let effective = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return format!("capabilities unknown: {error}"),
    };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, words)| *words)
        .collect();
    match missing.is_empty() {
        true => "every capability it needs".into(),
        false => format!("without {}", missing.join(", ")),
    }
}
