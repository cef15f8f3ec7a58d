//! What one look at the ports of the host finds: plain data.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    net::SocketAddr,
    ops::RangeInclusive,
    time::Duration,
};

use crate::survey::{ProcessId, State};

/// How long a socket stays in TIME_WAIT: a constant of the kernel.
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// The ports of the host, and who closed connections first.
#[derive(Clone, Debug, Default)]
pub struct PortTable {
    /// When it was taken, on the kernel's monotonic clock.
    pub taken_at: Duration,
    /// Since when closes are counted; `None` when nothing traces them.
    pub traced_since: Option<Duration>,
    /// The network namespaces.
    pub namespaces: Vec<Namespace>,
    /// Namespaces that could not be looked at.
    pub namespaces_missed: u64,
    /// Sockets that there was no room for.
    pub left_out: u64,
    /// Connections that were closed here first, in the last minute.
    pub closes: Vec<Closes>,
    /// Closes that were not counted, because there were too many kinds of them.
    pub closes_dropped: u64,
}

/// The sockets of a network namespace that have a port.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its inode number.
    pub inode: u32,
    /// How ports are given out in it; `None` when that could not be read.
    pub settings: Option<Settings>,
    /// Ports with a listener: no connection can be given one of these.
    pub listening: HashSet<u16>,
    /// The sockets of connections.
    pub sockets: HashMap<Place, Vec<PortUse>>,
}

/// What connections have in common that take ports from each other, or that come in at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Opened here: each has a local port of its own.
    Opened {
        /// Local address.
        source: IpAddr,
        /// Remote address and port.
        destination: SocketAddr,
    },
    /// Accepted here, or opened from a port that the kernel does not give out: they all have this end.
    Accepted {
        /// Local address and port.
        local: SocketAddr,
    },
}

/// A socket, as far as ports are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Local port.
    pub port: u16,
    /// TCP state.
    pub state: State,
    /// How long it has been in TIME_WAIT.
    pub age: Option<Duration>,
}

/// Connections of one place that a process closed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closes {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Where they led.
    pub place: Place,
    /// Who closed them.
    pub process: ProcessId,
    /// Its name; untrusted text.
    pub comm: String,
    /// Fingerprint of the code path.
    pub path: Option<u64>,
    /// Whether that path is the one that closed them, not the one that opened them.
    pub closing: bool,
    /// How many there were in the last minute.
    pub recent: u64,
    /// Whether most were bound to a port before they connected.
    pub bound: bool,
}

/// How the kernel gives out ports in a network namespace, and what it does with TIME_WAIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ip_local_port_range`
    pub range: RangeInclusive<u16>,
    /// `ip_local_reserved_ports`
    pub reserved: Vec<RangeInclusive<u16>>,
    /// `tcp_tw_reuse`: 0 never, 1 always, 2 on the loopback device.
    pub tw_reuse: u8,
    /// `tcp_tw_reuse_delay`; one second where the kernel does not let it be set.
    pub tw_reuse_delay: Duration,
    /// `tcp_timestamps`, without which nothing is reused.
    pub timestamps: bool,
    /// `tcp_fin_timeout`
    pub fin_timeout: Duration,
    /// `tcp_max_tw_buckets`
    pub max_time_wait: u64,
}

impl Settings {
    /// Whether the kernel gives out this port to connections that name none.
    pub fn gives_out(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|range| range.contains(&port))
    }

    /// How many ports the kernel gives out.
    pub fn ports(&self) -> u64 {
        self.range
            .clone()
            .filter(|port| self.gives_out(*port))
            .count() as u64
    }

    /// How long a socket in TIME_WAIT keeps its port from another connection between the same ends.
    pub fn port_is_kept_for(&self, place: &Place) -> Duration {
        let Place::Opened { destination, .. } = place else {
            return TIME_WAIT;
        };
        let reused = match self.tw_reuse {
            0 => false,
            2 => destination.ip().to_canonical().is_loopback(),
            _ => true,
        };
        match reused && self.timestamps {
            true => self.tw_reuse_delay.min(TIME_WAIT),
            false => TIME_WAIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            range: 1000..=1009,
            reserved: vec![1002..=1003, 1009..=2000],
            tw_reuse: 2,
            tw_reuse_delay: Duration::from_secs(1),
            timestamps: true,
            fin_timeout: Duration::from_secs(60),
            max_time_wait: 1,
        }
    }

    fn opened(destination: &str) -> Place {
        Place::Opened {
            source: "10.0.0.1".parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn reserved_ports_are_not_given_out() {
        assert_eq!(settings().ports(), 7);
        assert!(settings().gives_out(1008));
        assert!(!settings().gives_out(1009));
        assert!(!settings().gives_out(999));
    }

    #[test]
    fn on_loopback_a_port_is_free_again_after_a_second() {
        let second = Duration::from_secs(1);
        let settings = settings();
        assert_eq!(settings.port_is_kept_for(&opened("127.0.0.1:80")), second);
        assert_eq!(settings.port_is_kept_for(&opened("[::1]:80")), second);
        assert_eq!(settings.port_is_kept_for(&opened("10.0.0.2:80")), TIME_WAIT);
        let always = Settings {
            tw_reuse: 1,
            ..settings.clone()
        };
        assert_eq!(always.port_is_kept_for(&opened("10.0.0.2:80")), second);
        let without = Settings {
            timestamps: false,
            ..always
        };
        assert_eq!(without.port_is_kept_for(&opened("10.0.0.2:80")), TIME_WAIT);
    }

    #[test]
    fn a_server_waits_the_whole_time() {
        let always = Settings {
            tw_reuse: 1,
            ..settings()
        };
        let local = "127.0.0.1:80".parse().unwrap();
        assert_eq!(
            always.port_is_kept_for(&Place::Accepted { local }),
            TIME_WAIT
        );
    }
}
