//! Ports and TIME_WAIT: who uses them up, and when they run out.
//!
//! Pure: a [`PortTable`] goes in, and what a report says of it comes out.

pub mod advice;
mod forecast;
mod headroom;
mod rows;
mod table;
mod time_wait;

use std::{cmp::Reverse, time::Duration};

use self::headroom::{Taken, headroom, held, may_become_notable};
pub use self::{
    headroom::Headroom,
    rows::{Names, ports_of, time_wait_of},
    table::{Closes, Namespace, Place, PortTable, PortUse, Settings, TIME_WAIT},
    time_wait::{Closer, Share},
};
use crate::growth::Growth;

/// A destination is close to its limit when this part of its ports is in use.
const CLOSE_TO_LIMIT: f64 = 0.8;
/// Or when they run out that soon.
const SOON: Duration = Duration::from_secs(10 * 60);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Ports {
    growth: Growth<(u32, Place)>,
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
        let namespaces = table.namespaces.iter();
        let held: Vec<_> = namespaces.flat_map(held_in).collect();
        self.growth
            .sample(table.taken_at, held.iter().map(|(key, held)| (key, *held)));
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

    fn of_namespace(&self, namespace: &Namespace, closes: &[Closes]) -> Vec<Headroom> {
        let Some(settings) = &namespace.settings else {
            return Vec::new();
        };
        let taken = Taken::of(namespace, settings, closes);
        let found = namespace.sockets.iter().filter_map(|(place, sockets)| {
            let growth = self.growth.per_minute(&(namespace.inode, *place));
            let growth = growth.unwrap_or_default() / 60.0;
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
