//! Who a process is to the people who run it: its systemd unit, and its container.
//!
//! Which unit and which container it is stands in the path of its control group: [`of_cgroup`] is pure.
//! What a container is called is known to what started it alone: [`Names`] reads the files that runtimes
//! and the kubelet leave on the host. No socket is asked, and nothing is changed.

mod container;
mod names;
mod records;
mod tree;
mod unit;

pub use names::Names;

use crate::report::Container;

/// What the path of a control group says about its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Systemd unit: the innermost service or scope. The scope that a runtime makes for a container is
    /// none, and a unit around a container neither, unless it was made for this container alone.
    pub unit: Option<String>,
    /// The innermost container, without the names that are not in the path.
    pub container: Option<Container>,
}

/// Reads the path of a control group, as `/proc/PID/cgroup` shows it.
///
/// Whoever may make control groups may give them any name: what comes of this is as true as they are.
pub fn of_cgroup(path: &str) -> Identity {
    // Seen from within a namespace of control groups, others begin with steps out of it.
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "..");
    let parts: Vec<&str> = parts.collect();
    let Some(found) = container::innermost(&parts) else {
        return Identity {
            unit: unit::innermost(&parts),
            container: None,
        };
    };
    let (around, inside) = parts.split_at(found.position);
    let unit = unit::innermost(inside.get(1..).unwrap_or_default());
    Identity {
        unit: unit.or_else(|| found.is_of_unit.then(|| unit::innermost(around)).flatten()),
        container: Some(found.container),
    }
}

#[cfg(test)]
mod tests;
