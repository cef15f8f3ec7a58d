//! Which ports are in use in every network namespace, as sock_diag tells it, and how the kernel gives
//! them out.

use std::{collections::HashSet, fs, io, net::SocketAddr, str::FromStr, time::Duration};

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
const SOCKETS: usize = 1 << 20;

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
            taken_at: clock::now(),
            traced_since,
            closes_dropped: closes.dropped,
            closes: closes.closes,
            ..PortTable::default()
        };
        let mut room = SOCKETS;
        let mut failures = Vec::new();
        let jobs = self
            .namespaces
            .in_each(table.taken_at, || Ok(|| Ok((Netlink::open()?, settings()))))?;
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
                    table.namespaces.push(builder.namespace);
                }
                Err(error) => failures.push(error),
            }
        }
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
    listening: HashSet<u16>,
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
            listening: HashSet::new(),
            room,
            left_out: 0,
        }
    }

    fn listens(&mut self, diag: &Diag) {
        if self.listening.insert(diag.local.port()) {
            self.namespace.listening.push(diag.local.port());
        }
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
        let place = self.place(diag.local, diag.remote);
        self.namespace
            .sockets
            .entry(place)
            .or_default()
            .push(PortUse {
                port: diag.local.port(),
                state,
                age: diag
                    .time_wait_left
                    .map(|left| TIME_WAIT.saturating_sub(left)),
            });
    }

    /// Where a connection leads: what was counted knows best, then who listens, then the port.
    fn place(&self, local: SocketAddr, remote: SocketAddr) -> Place {
        let opened = Place::Opened {
            source: local.ip(),
            destination: remote,
        };
        let accepted = Place::Accepted { local };
        let is_given = |settings: &Settings| settings.range.contains(&local.port());
        match () {
            () if self.places.contains(&opened) => opened,
            () if self.places.contains(&accepted) => accepted,
            () if self.listening.contains(&local.port()) => accepted,
            () if self.namespace.settings.as_ref().is_none_or(is_given) => opened,
            () => accepted,
        }
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

    #[test]
    fn the_settings_of_this_namespace_can_be_read() {
        let settings = settings().expect("there is IPv4");
        assert!(settings.ports() > 0);
    }
}
