//! Ports and TIME_WAIT: who uses them up, and when they run out.
//!
//! Pure: a [`PortTable`] goes in, and what a report says of it comes out.

pub mod advice;
mod forecast;
mod headroom;
mod rows;
mod table;
mod time_wait;

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use self::headroom::{Taken, headroom, held, may_become_notable};
pub use self::{
    headroom::Headroom,
    rows::{Names, ports_of, time_wait_of},
    table::{Closes, Namespace, Place, PortTable, PortUse, Settings, TIME_WAIT},
    time_wait::{Closer, Share},
};
use crate::trend::{Counts, Trend};

/// A destination is close to its limit when this part of its ports is in use.
const CLOSE_TO_LIMIT: f64 = 0.8;
/// Or when they run out that soon.
const SOON: Duration = Duration::from_secs(10 * 60);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Ports {
    /// How many connections to each place were open.
    held: HashMap<(u32, Place), Counts>,
}

/// What one look finds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The sockets in TIME_WAIT, most first.
    pub shares: Vec<Share>,
    /// The destinations that take a notable part of the ports, the fullest first.
    pub headroom: Vec<Headroom>,
    /// How ports are given out, in the namespaces of these destinations; at least in one.
    pub settings: Vec<(u32, Settings)>,
}

impl Ports {
    /// Takes in the next look.
    pub fn observe(&mut self, table: &PortTable) -> Found {
        self.count_held(table);
        let mut headroom = Vec::new();
        for namespace in &table.namespaces {
            headroom.extend(self.of_namespace(namespace, &table.closes));
        }
        headroom.sort_by_key(|ports| (ports.available, Reverse(ports.in_use)));
        let mut shares = time_wait::shares(table);
        shares.sort_by(|left, right| {
            (right.count, &left.by, left.place).cmp(&(left.count, &right.by, right.place))
        });
        Found {
            settings: settings(table, &headroom),
            shares,
            headroom,
        }
    }

    /// What is not there any more is forgotten.
    fn count_held(&mut self, table: &PortTable) {
        let mut before = std::mem::take(&mut self.held);
        for (key, held) in table.namespaces.iter().flat_map(held_in) {
            let mut counts = before.remove(&key).unwrap_or_default();
            counts.push(table.taken_at, held);
            self.held.insert(key, counts);
        }
    }

    /// How many more connections to a place are open in each second. Those that are just about to close
    /// are no growth: only a line is.
    fn held_growth(&self, key: &(u32, Place)) -> f64 {
        match self.held.get(key).map(Counts::trend) {
            Some(Trend::Rises { per_second, .. }) => per_second,
            _ => 0.0,
        }
    }

    fn of_namespace(&self, namespace: &Namespace, closes: &[Closes]) -> Vec<Headroom> {
        let Some(settings) = &namespace.settings else {
            return Vec::new();
        };
        let taken = Taken::of(namespace, settings, closes);
        let found = namespace.sockets.iter().filter_map(|(place, sockets)| {
            let growth = self.held_growth(&(namespace.inode, *place));
            headroom(namespace, settings, &taken, (place, sockets), growth)
        });
        found.collect()
    }
}

impl Found {
    /// The destinations whose ports run out, or nearly have.
    pub fn close_to_limit(&self) -> impl Iterator<Item = &Headroom> {
        self.headroom
            .iter()
            .filter(|ports| ports.is_close_to_limit())
    }
}

impl Headroom {
    /// Whether the ports run out, or nearly have.
    pub fn is_close_to_limit(&self) -> bool {
        let ports = (self.in_use + self.available) as f64;
        let soon = self.forecast.runs_out_in.is_some_and(|left| left <= SOON);
        soon || self.in_use as f64 >= ports * CLOSE_TO_LIMIT
    }
}

/// How many connections to each place of a namespace are open.
fn held_in(namespace: &Namespace) -> impl Iterator<Item = ((u32, Place), u64)> {
    let ports = namespace.settings.as_ref().map_or(0, Settings::ports);
    let places = namespace.sockets.iter();
    places
        .filter(move |(_, sockets)| may_become_notable(sockets.len(), ports))
        .map(|(place, sockets)| ((namespace.inode, *place), held(sockets)))
}

/// Of the namespaces of these destinations; of the fullest one where there are none.
fn settings(table: &PortTable, headroom: &[Headroom]) -> Vec<(u32, Settings)> {
    let read = || {
        let namespaces = table.namespaces.iter();
        namespaces.filter_map(|namespace| Some((namespace, namespace.settings.as_ref()?)))
    };
    let wanted = |(namespace, _): &(&Namespace, &Settings)| {
        headroom.iter().any(|ports| ports.netns == namespace.inode)
    };
    let waiting =
        |namespace: &Namespace| -> usize { namespace.sockets.values().map(Vec::len).sum() };
    let mut found: Vec<_> = read().filter(wanted).collect();
    if found.is_empty() {
        found.extend(read().max_by_key(|(namespace, _)| waiting(namespace)));
    }
    let found = found.into_iter();
    found
        .map(|(namespace, settings)| (namespace.inode, settings.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::State;

    /// What is foretold after looks in each second, which found so many open ones beside a few in TIME_WAIT.
    fn foretold(open: impl IntoIterator<Item = u16>) -> Headroom {
        let place = Place::Opened {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
        };
        let mut ports = Ports::default();
        let mut found = Found::default();
        for (second, open) in (1..).zip(open) {
            let socket = |number, state, age| PortUse {
                port: 40_000 + number,
                state,
                age,
            };
            let waiting =
                (0..9).map(|number| socket(number, State::TimeWait, Some(20 * TIME_WAIT / 60)));
            let open = (9..9 + open).map(|number| socket(number, State::Established, None));
            found = ports.observe(&PortTable {
                taken_at: Duration::from_secs(second),
                namespaces: vec![Namespace {
                    inode: 7,
                    settings: Some(Settings {
                        range: 40_000..=40_099,
                        reserved: Vec::new(),
                        tw_reuse: 0,
                        tw_reuse_delay: Duration::from_secs(1),
                        timestamps: true,
                        fin_timeout: TIME_WAIT,
                        max_time_wait: 1000,
                    }),
                    sockets: [(place, waiting.chain(open).collect())].into(),
                    ..Namespace::default()
                }],
                ..PortTable::default()
            });
        }
        found.headroom.remove(0)
    }

    #[test]
    fn connections_that_stay_take_ports_for_good() {
        let ports = foretold((0..10).map(|second| 2 * second));
        assert_eq!(ports.forecast.rate, 2.0);
        assert!(ports.forecast.runs_out_in.is_some(), "{ports:?}");
    }

    #[test]
    fn connections_that_are_just_about_to_close_are_no_growth() {
        for open in [vec![0, 0, 1], vec![0, 1, 0, 0, 1, 0, 2, 1]] {
            let ports = foretold(open);
            assert_eq!(ports.forecast.runs_out_in, None, "{ports:?}");
            assert!(ports.forecast.basis.starts_with("withheld"), "{ports:?}");
        }
    }
}
