//! Follows connections from survey to survey.
//!
//! Pure: a survey goes in with its own time, and what is known about each connection comes out.
//! What a single survey cannot show is kept here: bounds of the age, whether a connection moves,
//! and what becomes of its siblings.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    family::{Families, Family, FamilyKey},
    survey::{
        Birth, Counts, Holder, Losses, ProcessId, Record, Sighting, Socket, State, Survey, Task,
    },
};

/// What the surveys so far tell.
#[derive(Debug, Default)]
pub struct Tracker {
    connections: HashMap<Key, Connection>,
    families: Families,
    listeners: Vec<Listener>,
    counts: Counts,
    losses: Losses,
    now: Duration,
    surveys: u64,
}

/// Identity of a connection: a sock address is reused, by another connection at another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    address: u64,
    opened_at: Option<Duration>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Key {
    fn of(socket: &Socket, record: Option<&Record>) -> Self {
        Self {
            address: socket.address,
            opened_at: record.and_then(|record| record.opened_at),
            local: socket.local,
            remote: socket.remote,
        }
    }
}

/// A connection as known after the latest survey.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The socket as last seen.
    pub socket: Socket,
    /// Its lifecycle record.
    pub record: Option<Record>,
    /// Who holds it, by process and descriptor.
    pub holders: BTreeMap<(ProcessId, u32), Task>,
    /// When the peer went away; meaningful once the socket says that it did.
    pub gone: Gone,
    /// Last survey that found data sent since the one before, with the peer gone already.
    pub sent_at: Option<Duration>,
    /// Last survey that found data read since the one before, with more left to read.
    pub read_at: Option<Duration>,
    /// Survey since which nothing was read.
    pub unread_since: Duration,
    /// Survey since which the peer acknowledged nothing new.
    pub unacknowledged_since: Duration,
    /// First survey that found it in its state.
    pub state_since: Duration,
    /// Times between two surveys at which it was put to use, while its peer was there.
    pub exchanges: u32,
    /// Whether it lay idle between the latest two surveys, while its peer was there.
    pub rests: bool,
    /// Where the surveys count it among its siblings.
    pub family: FamilyKey,
    /// Surveys that have found it with its peer gone.
    pub times_gone: u64,
    survey: u64,
}

/// When the peer went away: bounds that close in from survey to survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Not before this.
    pub earliest: Duration,
    /// Not after this.
    pub latest: Duration,
    /// Whether the FIN or RST itself was seen.
    pub exact: bool,
}

/// A listening socket.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The socket; its `local` end is the address it listens on.
    pub socket: Socket,
    /// Who can accept from it.
    pub holders: BTreeMap<(ProcessId, u32), Task>,
}

impl Tracker {
    /// Takes in the next survey. Surveys must come in order of time.
    pub fn observe(&mut self, survey: Survey) {
        self.now = survey.taken_at;
        self.counts = survey.counts;
        self.losses = survey.losses;
        self.surveys += 1;
        self.listeners = listeners(&survey.sightings);
        let mut seen: HashMap<Key, Seen> = HashMap::with_capacity(survey.sightings.len());
        for sighting in survey.sightings {
            if sighting.socket.state != State::Listen {
                merge(&mut seen, sighting);
            }
        }
        for (key, seen) in seen {
            self.follow(key, seen);
        }
        self.forget_the_vanished();
        self.families.close_survey(self.now);
    }

    /// Takes in a connection that nothing but the end of its process closed, as it was right before.
    /// Gives what is known of it; `None` when the record does not say when that was.
    pub fn end(&mut self, sighting: Sighting) -> Option<Connection> {
        let record = sighting.record?;
        self.now = record.closed_at?;
        let key = Key::of(&sighting.socket, Some(&record));
        let last_write = record.last_write;
        // Its file and its descriptors are gone, and were those of the process.
        let socket = Socket {
            has_owner: true,
            has_file: false,
            ..sighting.socket
        };
        let seen = Seen {
            socket,
            record: Some(record),
            holders: BTreeMap::new(),
        };
        self.follow(key, seen);
        let mut connection = self.connections.remove(&key)?;
        // No survey may have come in between.
        if let Some(written) = last_write.filter(|last| last.at > connection.gone.latest) {
            connection.sent_at = connection.sent_at.max(Some(written.at));
        }
        Some(connection)
    }

    /// Every connection of the latest survey.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// What the siblings of a connection do.
    pub fn family(&self, connection: &Connection) -> Option<&Family> {
        self.families.get(&connection.family)
    }

    /// The listeners that a passive connection can have come through: those on its port whose
    /// address fits and, of several that share the port, those with connections waiting.
    pub fn listeners_of<'a>(&'a self, socket: &'a Socket) -> impl Iterator<Item = &'a Listener> {
        let fitting = move |listener: &&Listener| listens_for(&listener.socket, socket);
        let any_waiting = self
            .listeners
            .iter()
            .filter(fitting)
            .any(Listener::has_waiting);
        self.listeners
            .iter()
            .filter(fitting)
            .filter(move |listener| !any_waiting || listener.has_waiting())
    }

    /// The processes whose healthy connections the next survey must show too: those that hold one
    /// whose peer is gone.
    pub fn suspects(&self) -> HashSet<u32> {
        self.connections
            .values()
            .filter(|connection| connection.socket.peer_gone())
            .flat_map(|connection| connection.holders.keys())
            .map(|(process, _)| process.pid)
            .collect()
    }

    /// Time of the latest survey, or of the latest end after it.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// How many surveys were taken in.
    pub fn surveys(&self) -> u64 {
        self.surveys
    }

    /// Socket counts of the latest survey.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was lost until the latest survey.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn follow(&mut self, key: Key, seen: Seen) {
        let now = self.now;
        let family = family_key(&seen, &self.listeners);
        let bounds = bounds(&seen, now);
        let connection = self.connections.entry(key).or_insert_with(|| Connection {
            socket: seen.socket.clone(),
            record: None,
            holders: BTreeMap::new(),
            gone: bounds,
            sent_at: None,
            read_at: None,
            unread_since: now,
            unacknowledged_since: now,
            state_since: now,
            exchanges: 0,
            rests: false,
            family: family.clone(),
            times_gone: 0,
            survey: 0,
        });
        let before = &connection.socket;
        let sent =
            before.write_seq != seen.socket.write_seq || before.snd_una != seen.socket.snd_una;
        let read = before.copied_seq != seen.socket.copied_seq;
        if before.peer_gone() && seen.socket.state == State::CloseWait {
            if sent {
                connection.sent_at = Some(now);
            }
            // Reading the rest, or the FIN itself, is no use of the connection: nothing can follow.
            if read && seen.socket.unread > 0 {
                connection.read_at = Some(now);
            }
        }
        if read {
            connection.unread_since = now;
        }
        if before.snd_una != seen.socket.snd_una {
            connection.unacknowledged_since = now;
        }
        if before.state != seen.socket.state {
            connection.state_since = now;
        }
        // The end of a handshake moves the numbers too, and is no use.
        if before.state == State::Established {
            // One long answer, or one long upload, moves it at many surveys and is one use.
            if sent && (read || connection.rests) {
                connection.exchanges += 1;
                // A pool is the client's: which connections come in again, no server decides.
                if connection.exchanges > 1 && !family.passive {
                    self.families.reused(&family, now);
                }
            }
            connection.rests = !sent && !read;
        }
        if seen.socket.peer_gone() {
            connection.gone = match before.peer_gone() {
                true => connection.gone.narrowed(bounds),
                false => bounds,
            };
            connection.times_gone += 1;
            self.families.count_gone(&family);
        }
        connection.socket = seen.socket;
        connection.record = seen.record;
        connection.holders = seen.holders;
        connection.family = family;
        connection.survey = self.surveys;
    }

    fn forget_the_vanished(&mut self) {
        let (surveys, now) = (self.surveys, self.now);
        let families = &mut self.families;
        self.connections.retain(|_, connection| {
            let present = connection.survey == surveys;
            // Whoever reads an answer to its end and closes is seen without a peer for a moment too.
            let was_idle = connection.socket.state == State::CloseWait
                && connection.socket.unread == 1
                && connection.times_gone > 1;
            if !present && was_idle {
                families.evicted(&connection.family, now);
            }
            present
        });
    }
}

impl Connection {
    /// The process the connection is put down to: its opener if that still holds it, else a holder,
    /// else the opener all the same, else who closed it.
    pub fn owner(&self) -> Option<&Task> {
        let opener = self.opener();
        let closer = || self.record.as_ref()?.closer.as_ref();
        opener
            .filter(|opener| self.held_by(opener.process))
            .or_else(|| self.holders.values().next())
            .or(opener)
            .or_else(closer)
    }

    /// Who opened it, when that was seen.
    pub fn opener(&self) -> Option<&Task> {
        self.record
            .as_ref()
            .and_then(|record| record.opener.as_ref())
    }

    /// Whether a process holds it.
    pub fn held_by(&self, process: ProcessId) -> bool {
        self.holders.keys().any(|(holder, _)| *holder == process)
    }

    /// Number of processes that hold it.
    pub fn holding_processes(&self) -> usize {
        let mut processes: Vec<_> = self.holders.keys().map(|(process, _)| process).collect();
        processes.dedup();
        processes.len()
    }

    /// In an accept queue: nothing owns the socket yet.
    pub fn is_unaccepted(&self) -> bool {
        !self.socket.has_owner && self.holders.is_empty() && !self.socket.is_closing()
    }

    /// Closed for good: nothing owns the socket any more, and the kernel has not finished with it.
    pub fn is_orphaned(&self) -> bool {
        !self.socket.has_owner && self.holders.is_empty() && self.socket.is_closing()
    }
}

impl Gone {
    fn narrowed(self, other: Self) -> Self {
        if self.exact || other.exact {
            return if self.exact { self } else { other };
        }
        let latest = self.latest.min(other.latest);
        Self {
            earliest: self.earliest.max(other.earliest).min(latest),
            latest,
            exact: false,
        }
    }
}

impl Listener {
    fn has_waiting(&self) -> bool {
        self.socket.accept_queue > 0
    }
}

/// A socket of one survey, with all its holders.
struct Seen {
    socket: Socket,
    record: Option<Record>,
    holders: BTreeMap<(ProcessId, u32), Task>,
}

/// Puts the sightings of one socket together. One descriptor may be sighted several times: a
/// process whose first thread has ended shows its descriptors once for each thread.
fn merge(seen: &mut HashMap<Key, Seen>, sighting: Sighting) {
    let Sighting {
        socket,
        record,
        holder,
    } = sighting;
    // The kernel's own sockets have an owner and no file, and no program can leak them.
    if holder.is_none() && socket.has_owner && !socket.has_file {
        return;
    }
    let key = Key::of(&socket, record.as_ref());
    let entry = seen.entry(key).or_insert(Seen {
        socket,
        record,
        holders: BTreeMap::new(),
    });
    if let Some(Holder { task, fd }) = holder {
        entry.holders.insert((task.process, fd), task);
    }
}

fn listeners(sightings: &[Sighting]) -> Vec<Listener> {
    let mut listeners: BTreeMap<u64, Listener> = BTreeMap::new();
    for sighting in sightings
        .iter()
        .filter(|sighting| sighting.socket.state == State::Listen)
    {
        let listener = listeners
            .entry(sighting.socket.address)
            .or_insert_with(|| Listener {
                socket: sighting.socket.clone(),
                holders: BTreeMap::new(),
            });
        if let Some(Holder { task, fd }) = &sighting.holder {
            listener.holders.insert((task.process, *fd), task.clone());
        }
    }
    listeners.into_values().collect()
}

fn listens_for(listener: &Socket, socket: &Socket) -> bool {
    let (listening, local) = (
        listener.local.ip().to_canonical(),
        socket.local.ip().to_canonical(),
    );
    listener.netns == socket.netns
        && listener.local.port() == socket.local.port()
        && (listening.is_unspecified() || listening == local)
}

/// The bounds that one survey sets to the moment at which the peer went away.
///
/// A FIN came with or after the last data and is itself the last thing acknowledged, unless
/// keepalive answers followed it. A RST acknowledges nothing: it came after the last acknowledgement,
/// and it was the last event of the connection.
fn bounds(seen: &Seen, now: Duration) -> Gone {
    let record = seen.record.as_ref();
    if let Some(exact) = record.and_then(|record| record.peer_gone_at) {
        return Gone {
            earliest: exact,
            latest: exact,
            exact: true,
        };
    }
    let before_now = |time: Duration| now.saturating_sub(time);
    let last_ack = before_now(seen.socket.since_ack);
    let (earliest, latest) = match seen.socket.fin_received {
        true => (before_now(seen.socket.since_data), last_ack),
        // The kernel has not looked at a dead connection since.
        false => (last_ack, seen.socket.last_event_at.min(now)),
    };
    Gone {
        earliest: earliest.min(latest),
        latest,
        exact: false,
    }
}

fn family_key(seen: &Seen, listeners: &[Listener]) -> FamilyKey {
    let record = seen.record.as_ref();
    let birth = record.map_or(Birth::BeforeTracer, |record| record.birth);
    let opener = record
        .and_then(|record| record.opener.as_ref())
        .map(|task| task.process);
    let listener = match birth {
        Birth::Connected => None,
        _ => listeners
            .iter()
            .find(|listener| listens_for(&listener.socket, &seen.socket)),
    };
    let passive = birth.is_passive() || listener.is_some();
    FamilyKey {
        process: seen
            .holders
            .keys()
            .next()
            .map(|(process, _)| *process)
            .or(opener),
        // The listener may be gone: then the local end tells where the connection came in.
        endpoint: match listener {
            Some(listener) => listener.socket.local,
            None if passive => seen.socket.local,
            None => seen.socket.remote,
        },
        passive,
        origin: record.and_then(|record| record.origin),
    }
}
