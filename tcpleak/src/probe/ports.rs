//! Which ports are in use in every network namespace, as sock_diag tells it, and how the kernel gives
//! them out.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use tcpleak_ebpf::tcp_state;

use super::{
    clock, closes, decode,
    namespaces::Namespaces,
    sock_diag::{
        message::{self, Diag},
        netlink::Netlink,
    },
};
use crate::{
    ports::{Namespace, Place, PortTable, PortUse, Settings, TIME_WAIT},
    survey::State,
};

/// Most sockets that are kept of one look, over all namespaces.
const SOCKETS: usize = 262_144;

/// Takes looks at the ports of the host.
#[derive(Default)]
pub struct PortDump {
    namespaces: Namespaces,
}

impl PortDump {
    /// Takes a look. Fails when no network namespace can be looked at.
    pub fn take(
        &mut self,
        closes: closes::Taken,
        traced_since: Option<Duration>,
    ) -> io::Result<PortTable> {
        let mut table = PortTable {
            traced_since,
            closes_dropped: closes.dropped,
            closes: closes.closes,
            ..PortTable::default()
        };
        let mut room = SOCKETS;
        let mut failures = Vec::new();
        let jobs = self
            .namespaces
            .in_each(clock::now(), || Ok(|| Ok((Netlink::open()?, settings()))))?;
        for (inode, opened) in jobs {
            let namespace = opened.and_then(|(netlink, settings)| {
                let mut builder = Builder::new(inode, settings, &table, room);
                netlink.dump_ends(message::LISTENERS, |diag| builder.listens(&diag))?;
                netlink.dump_ends(message::EVERY_STATE & !message::LISTENERS, |diag| {
                    builder.add(&diag)
                })?;
                Ok(builder)
            });
            match namespace {
                Ok(builder) => {
                    room = builder.room;
                    table.left_out += builder.left_out;
                    table.namespaces.push(builder.finish());
                }
                Err(error) => failures.push(error),
            }
        }
        // After the sockets: none shows a greater age than it has now.
        table.taken_at = clock::now();
        table.namespaces_missed = failures.len() as u64;
        match failures.pop() {
            Some(error) if table.namespaces.is_empty() => Err(error),
            Some(_) => {
                self.namespaces.look_again();
                Ok(table)
            }
            None => Ok(table),
        }
    }
}

/// Puts a namespace together, socket by socket.
struct Builder {
    namespace: Namespace,
    /// Places of closes that were counted here: these are surely what they are.
    places: HashSet<Place>,
    /// Sockets of which nothing tells alone whether they were opened or accepted.
    unsure: Vec<(SocketAddr, SocketAddr, PortUse)>,
    room: usize,
    left_out: u64,
}

impl Builder {
    fn new(inode: u32, settings: Option<Settings>, table: &PortTable, room: usize) -> Self {
        let closes = table.closes.iter().filter(|closes| closes.netns == inode);
        Self {
            namespace: Namespace {
                inode,
                settings,
                ..Namespace::default()
            },
            places: closes.map(|closes| closes.place).collect(),
            unsure: Vec::new(),
            room,
            left_out: 0,
        }
    }

    fn listens(&mut self, diag: &Diag) {
        self.namespace.listening.insert(diag.local.port());
    }

    fn add(&mut self, diag: &Diag) {
        let state = match (diag.state, diag.time_wait_left) {
            // A small socket that waits for the peer's FIN.
            (tcp_state::TIME_WAIT, None) => Some(State::FinWait2),
            (state, _) => decode::state(state),
        };
        let Some(state) = state else {
            return;
        };
        if self.room == 0 {
            self.left_out += 1;
            return;
        }
        self.room -= 1;
        let socket = PortUse {
            port: diag.local.port(),
            state,
            age: diag
                .time_wait_left
                .map(|left| TIME_WAIT.saturating_sub(left)),
        };
        match self.place(diag.local, diag.remote) {
            Some(place) => self.put(place, socket),
            None => self.unsure.push((diag.local, diag.remote, socket)),
        }
    }

    fn put(&mut self, place: Place, socket: PortUse) {
        self.namespace
            .sockets
            .entry(place)
            .or_default()
            .push(socket);
    }

    /// Where a connection leads: what was counted knows best, then who listens, then the port.
    fn place(&self, local: SocketAddr, remote: SocketAddr) -> Option<Place> {
        let (opened, accepted) = (opened(local, remote), Place::Accepted { local });
        let is_given = |settings: &Settings| settings.range.contains(&local.port());
        match () {
            () if self.places.contains(&opened) => Some(opened),
            () if self.places.contains(&accepted) => Some(accepted),
            () if self.namespace.listening.contains(&local.port()) => Some(accepted),
            () if self.namespace.settings.as_ref().is_none_or(is_given) => None,
            () => Some(accepted),
        }
    }

    /// Of those that are left, many to one remote end were opened here, and many at one local end were
    /// accepted, by a listener that is gone.
    fn finish(mut self) -> Namespace {
        let unsure = std::mem::take(&mut self.unsure);
        let mut locals: HashMap<SocketAddr, u64> = HashMap::new();
        let mut remotes: HashMap<SocketAddr, u64> = HashMap::new();
        for (local, remote, _) in &unsure {
            *locals.entry(*local).or_default() += 1;
            *remotes.entry(*remote).or_default() += 1;
        }
        for (local, remote, socket) in unsure {
            let place = match locals[&local] > remotes[&remote] {
                true => Place::Accepted { local },
                false => opened(local, remote),
            };
            self.put(place, socket);
        }
        self.namespace
    }
}

fn opened(local: SocketAddr, remote: SocketAddr) -> Place {
    Place::Opened {
        source: local.ip(),
        destination: remote,
    }
}

/// How ports are given out in the network namespace of this thread; `None` when that cannot be read.
fn settings() -> Option<Settings> {
    let (low, high) = two(&read("ip_local_port_range")?)?;
    Some(Settings {
        range: low..=high,
        reserved: ranges(&read("ip_local_reserved_ports").unwrap_or_default()),
        tw_reuse: number("tcp_tw_reuse").unwrap_or(0),
        // Kernels that do not let it be set wait for a second.
        tw_reuse_delay: Duration::from_millis(number("tcp_tw_reuse_delay").unwrap_or(1000)),
        timestamps: number::<u8>("tcp_timestamps").unwrap_or(1) != 0,
        fin_timeout: Duration::from_secs(number("tcp_fin_timeout").unwrap_or(60)),
        max_time_wait: number("tcp_max_tw_buckets").unwrap_or(0),
    })
}

fn read(name: &str) -> Option<String> {
    // What lies there is of the namespace of whoever opens it.
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    read(name)?.trim().parse().ok()
}

fn two(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// `8080,9100-9120`
fn ranges(text: &str) -> Vec<std::ops::RangeInclusive<u16>> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.parse().ok()?..=high.parse().ok()?)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(ranges("8080,9100-9120\n"), [8080..=8080, 9100..=9120]);
        assert!(ranges("\n").is_empty());
        assert_eq!(two("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(two("32768"), None);
    }

    /// The places of sockets with these ends, when nothing listens any more.
    fn places(ends: &[(&str, &str)]) -> Vec<(Place, usize)> {
        let mut builder = Builder::new(7, None, &PortTable::default(), 100);
        for (local, remote) in ends {
            let socket = PortUse {
                port: 0,
                state: State::TimeWait,
                age: None,
            };
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            builder.unsure.push((local, remote, socket));
        }
        let sockets = builder.finish().sockets.into_iter();
        let mut places: Vec<_> = sockets
            .map(|(place, sockets)| (place, sockets.len()))
            .collect();
        places.sort();
        places
    }

    #[test]
    fn what_a_listener_accepted_that_is_gone_has_its_own_end_in_common() {
        let ends = [
            ("10.0.0.1:40000", "10.0.0.9:50001"),
            ("10.0.0.1:40000", "10.0.0.9:50002"),
            ("10.0.0.1:40000", "10.0.0.8:50001"),
        ];
        let local = "10.0.0.1:40000".parse().unwrap();
        assert_eq!(places(&ends), [(Place::Accepted { local }, 3)]);
    }

    #[test]
    fn ports_that_are_used_for_two_destinations_were_opened() {
        let ends = [
            ("10.0.0.1:40000", "10.0.0.9:80"),
            ("10.0.0.1:40001", "10.0.0.9:80"),
            ("10.0.0.1:40000", "10.0.0.8:80"),
            ("10.0.0.1:40001", "10.0.0.8:80"),
        ];
        let places = places(&ends);
        assert_eq!(places.len(), 2);
        let is_opened = |(place, number): &(Place, usize)| {
            matches!(place, Place::Opened { .. }) && *number == 2
        };
        assert!(places.iter().all(is_opened), "{places:?}");
    }

    #[test]
    fn the_settings_of_this_namespace_can_be_read() {
        let settings = settings().expect("there is IPv4");
        assert!(settings.ports() > 0);
    }
}
