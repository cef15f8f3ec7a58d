//! How many ports are left for connections to each destination.
//!
//! A port is taken by a connection for its own destination only, unless the program bound it before it
//! connected, or listens on it: then no other connection is given that port, wherever it leads.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    forecast::{Forecast, Outlook, forecast},
    table::{Closes, Namespace, Place, PortUse, Settings},
};
use crate::survey::State;

/// Destinations that use fewer ports than this part of them are of no interest, nor those of whose
/// connections there are hardly any.
const NOTABLE: u64 = 20;
const FEW: u64 = 8;

/// The ports for connections from one address to one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address.
    pub source: IpAddr,
    /// Remote address and port.
    pub destination: SocketAddr,
    /// Ports of the range that a new connection cannot take.
    pub in_use: u64,
    /// Ports that it can take.
    pub available: u64,
    /// The connections with a port of the range, by state.
    pub by_state: BTreeMap<&'static str, u64>,
    /// Ports that are taken for every destination, by listeners and by connections that were bound.
    pub taken_for_all: u64,
    /// Sockets in TIME_WAIT that take no port any more, because the kernel reuses it.
    pub reusable: u64,
    /// Whether the connections of this destination were bound to a port before they connected.
    pub bound: bool,
    /// What will become of it.
    pub forecast: Forecast,
}

/// The ports of a namespace that no connection is given, and the destinations that cause it.
pub struct Taken {
    /// How many ports the kernel gives out in it at all.
    given_out: u64,
    ports: HashSet<u16>,
    bound: HashSet<Place>,
}

impl Taken {
    /// What listens, and what `closes` says was bound.
    pub fn of(namespace: &Namespace, settings: &Settings, closes: &[Closes]) -> Self {
        let of_namespace = closes
            .iter()
            .filter(|closes| closes.netns == namespace.inode);
        let bound: HashSet<Place> = of_namespace
            .filter(|closes| closes.bound)
            .map(|closes| closes.place)
            .collect();
        let connections = bound
            .iter()
            .filter_map(|place| namespace.sockets.get(place));
        let ports = connections.flatten().map(|socket| socket.port);
        let ports = ports.chain(namespace.listening.iter().copied());
        Self {
            given_out: settings.ports(),
            ports: ports.filter(|port| settings.gives_out(*port)).collect(),
            bound,
        }
    }
}

/// The ports for one destination; `None` for a place that takes none, or hardly any. `held_growth` is by
/// how much the connections that are not in TIME_WAIT grow in a second.
pub fn headroom(
    namespace: &Namespace,
    settings: &Settings,
    taken: &Taken,
    (place, sockets): (&Place, &[PortUse]),
    held_growth: f64,
) -> Option<Headroom> {
    let Place::Opened {
        source,
        destination,
    } = *place
    else {
        return None;
    };
    let given: Vec<&PortUse> = sockets
        .iter()
        .filter(|socket| settings.gives_out(socket.port))
        .collect();
    let ports = taken.given_out;
    if !is_notable(given.len(), ports, NOTABLE) {
        return None;
    }
    let bound = taken.bound.contains(place);
    let kept_for = match bound {
        // Whoever binds is not given a port that anything still has.
        true => super::table::TIME_WAIT,
        false => settings.port_is_kept_for(place),
    };
    let is_kept = |socket: &&&PortUse| socket.age.is_none_or(|age| age < kept_for);
    let own: HashSet<u16> = given
        .iter()
        .filter(is_kept)
        .map(|socket| socket.port)
        .collect();
    let in_use = own.union(&taken.ports).count() as u64;
    let waiting: Vec<Duration> = given.iter().filter_map(|socket| socket.age).collect();
    let kept_waiting = waiting.iter().filter(|age| **age < kept_for).count() as u64;
    let mut by_state = BTreeMap::new();
    for socket in &given {
        *by_state.entry(socket.state.word()).or_default() += 1;
    }
    Some(Headroom {
        netns: namespace.inode,
        source,
        destination,
        in_use,
        available: ports.saturating_sub(in_use),
        by_state,
        taken_for_all: taken.ports.len() as u64,
        reusable: waiting.len() as u64 - kept_waiting,
        bound,
        forecast: forecast(&Outlook {
            ports,
            held: in_use - kept_waiting.min(in_use),
            held_growth,
            waiting: &waiting,
            kept_for,
        }),
    })
}

/// Whether a place may soon use so many of these ports that it is of interest: only of such places it is
/// remembered how they grow, because there may be any number of others.
pub fn may_become_notable(sockets: usize, ports: u64) -> bool {
    is_notable(sockets, ports, 2 * NOTABLE)
}

fn is_notable(sockets: usize, ports: u64, part: u64) -> bool {
    let sockets = sockets as u64;
    sockets >= FEW && sockets * part >= ports
}

/// How many connections to a place are open, or in any state but TIME_WAIT.
pub fn held(sockets: &[PortUse]) -> u64 {
    let held = |socket: &&PortUse| socket.state != State::TimeWait;
    sockets.iter().filter(held).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ports::table::TIME_WAIT, survey::ProcessId};

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> Settings {
        Settings {
            range: 40_000..=40_099,
            reserved: Vec::new(),
            tw_reuse: 2,
            tw_reuse_delay: SECOND,
            timestamps: true,
            fin_timeout: TIME_WAIT,
            max_time_wait: 1000,
        }
    }

    fn place(destination: &str) -> Place {
        Place::Opened {
            source: "10.0.0.1".parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn sockets(ports: std::ops::Range<u16>, state: State, age: Option<Duration>) -> Vec<PortUse> {
        ports.map(|port| PortUse { port, state, age }).collect()
    }

    fn waiting(ports: std::ops::Range<u16>) -> Vec<PortUse> {
        sockets(ports, State::TimeWait, Some(20 * SECOND))
    }

    fn look(namespace: &Namespace, closes: &[Closes], place: Place) -> Option<Headroom> {
        let settings = settings();
        let taken = Taken::of(namespace, &settings, closes);
        headroom(
            namespace,
            &settings,
            &taken,
            (&place, &namespace.sockets[&place]),
            0.0,
        )
    }

    fn bound(place: Place) -> Closes {
        Closes {
            netns: 7,
            place,
            process: ProcessId {
                pid: 1,
                start_ns: 1,
            },
            comm: "client".into(),
            path: None,
            closing: false,
            recent: 10,
            bound: true,
        }
    }

    fn namespace(sockets: Vec<(Place, Vec<PortUse>)>) -> Namespace {
        Namespace {
            inode: 7,
            settings: Some(settings()),
            listening: HashSet::new(),
            sockets: sockets.into_iter().collect(),
        }
    }

    #[test]
    fn ports_of_one_destination_are_free_for_another() {
        let (near, far) = (place("10.0.0.2:80"), place("10.0.0.3:80"));
        let namespace = namespace(vec![
            (near, waiting(40_000..40_060)),
            (far, waiting(40_000..40_010)),
        ]);
        let near = look(&namespace, &[], near).unwrap();
        assert_eq!((near.in_use, near.available), (60, 40));
        assert_eq!(near.by_state["TIME_WAIT"], 60);
        assert_eq!(look(&namespace, &[], far).unwrap().available, 90);
    }

    #[test]
    fn ports_that_were_bound_are_taken_for_every_destination() {
        let (near, far) = (place("10.0.0.2:80"), place("10.0.0.3:80"));
        let namespace = namespace(vec![
            (near, waiting(40_000..40_060)),
            (far, waiting(40_060..40_070)),
        ]);
        let closes = [bound(near)];
        assert!(look(&namespace, &closes, near).unwrap().bound);
        let far = look(&namespace, &closes, far).unwrap();
        assert_eq!((far.in_use, far.available, far.taken_for_all), (70, 30, 60));
        assert!(!far.bound);
    }

    #[test]
    fn a_listener_takes_its_port_from_all() {
        let near = place("10.0.0.2:80");
        let mut namespace = namespace(vec![(near, waiting(40_000..40_010))]);
        namespace.listening = HashSet::from([40_050, 80]);
        assert_eq!(look(&namespace, &[], near).unwrap().in_use, 11);
    }

    #[test]
    fn a_port_that_is_reused_is_available() {
        let near = place("127.0.0.1:80");
        let namespace = namespace(vec![(near, waiting(40_000..40_060))]);
        let found = look(&namespace, &[], near).unwrap();
        assert_eq!((found.available, found.reusable), (100, 60));
        let found = look(&namespace, &[bound(near)], near).unwrap();
        assert_eq!(
            (found.available, found.reusable),
            (40, 0),
            "not to who binds"
        );
    }

    #[test]
    fn ports_outside_of_the_range_do_not_count() {
        let near = place("10.0.0.2:80");
        let namespace = namespace(vec![(near, waiting(39_990..40_010))]);
        assert_eq!(look(&namespace, &[], near).unwrap().in_use, 10);
    }

    #[test]
    fn a_few_connections_are_not_worth_a_word() {
        let near = place("10.0.0.2:80");
        let namespace = namespace(vec![(near, waiting(40_000..40_004))]);
        assert_eq!(look(&namespace, &[], near), None);
    }
}
