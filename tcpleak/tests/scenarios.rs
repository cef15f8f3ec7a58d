//! Replays timelines of surveys through the tracker, the judge and the grouping.
//!
//! Each file in `tests/scenarios` is one story: sockets, what happens to them, when surveys look,
//! and the groups that the report must then show. To add a story, add a file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use tcpleak::{
    case::cases,
    code_path::Resolved,
    grouping::{Context, Grouping},
    judge::Rules,
    process::ProcessInfo,
    report::{AgeKind, Frame, Group, Incomplete, Qualifier, Report, TitlePath, Verdict},
    select::Select,
    survey::{
        Birth, Counts, Holder, Losses, ProcessId, Record, Sighting, Socket, State, Survey, Task,
        Use,
    },
    tracker::Tracker,
};

/// A story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What the story shows, in a sentence.
    about: String,
    /// The kernel lets nothing be traced.
    #[serde(default)]
    untraceable: bool,
    /// `snapshot` looks once without tracing.
    #[serde(default)]
    snapshot: bool,
    /// --min-age
    #[serde(default = "ten_seconds")]
    min_age: String,
    /// --open
    open: Option<String>,
    /// --all
    #[serde(default)]
    all: bool,
    /// --pid, --port, --remote, --comm
    #[serde(default)]
    only: Only,
    /// Code paths by fingerprint; one that is not given is a single function, `path N`.
    #[serde(default)]
    path: BTreeMap<String, Captured>,
    /// The sockets by name, as they are at first.
    socket: BTreeMap<String, Table>,
    /// The surveys, in order.
    survey: Vec<Look>,
}

type Table = toml::Table;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Only {
    pid: Vec<u32>,
    comm: Vec<String>,
    port: Vec<u16>,
    remote: Vec<String>,
}

/// A code path. Frames are innermost first: `function:line` of the program itself, `function@module`
/// of a library, `function@io_uring` of a worker of the kernel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Captured {
    frames: Vec<String>,
    incomplete: Option<Incomplete>,
}

/// One survey and what the report on it must show.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    at: String,
    /// The sockets that exist now.
    sees: Vec<String>,
    /// What has changed about sockets since the survey before; it stays so.
    #[serde(default)]
    changed: BTreeMap<String, Table>,
    /// Processes that have ended, as `comm/pid`.
    #[serde(default)]
    ended: Vec<String>,
    /// Every group of the report, in order; nothing is checked when absent.
    expect: Option<Vec<Expected>>,
    /// Host-wide counts that must be found in the report.
    #[serde(default)]
    totals: BTreeMap<String, u64>,
    /// Words that a note must hold.
    #[serde(default)]
    notes: Vec<String>,
    /// What the kernel side lost.
    #[serde(default)]
    losses: BTreeMap<String, u64>,
}

/// A socket at one moment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    #[serde(default = "close_wait")]
    state: State,
    #[serde(default = "local")]
    local: SocketAddr,
    #[serde(default = "remote")]
    remote: SocketAddr,
    #[serde(default = "one")]
    netns: u32,
    /// How many sockets like this there are: addresses, descriptors and the ports of the client count
    /// up.
    #[serde(default = "one")]
    number: u32,
    /// Holders as `comm/pid:fd`; none for a socket without a descriptor.
    #[serde(default)]
    holders: Vec<String>,
    #[serde(default)]
    unread: u32,
    #[serde(default)]
    copied_seq: u32,
    #[serde(default)]
    write_seq: u32,
    #[serde(default)]
    snd_una: u32,
    #[serde(default)]
    receive_window: u32,
    #[serde(default)]
    accept_queue: u32,
    #[serde(default)]
    backlog: u32,
    #[serde(default)]
    retransmits: u8,
    #[serde(default)]
    error: i32,
    #[serde(default = "yes")]
    fin_received: bool,
    #[serde(default = "yes")]
    has_owner: bool,
    #[serde(default = "yes")]
    has_file: bool,
    /// When the last acknowledgement, data, and own data went by.
    #[serde(default = "long_ago")]
    last_ack: String,
    #[serde(default = "long_ago")]
    last_data: String,
    #[serde(default = "long_ago")]
    last_sent: String,
    #[serde(default = "long_ago")]
    last_event: String,
    /// Address of the sock; by default from the name.
    address: Option<u64>,
    record: Option<Known>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    birth: Birth,
    opened_at: Option<String>,
    peer_gone_at: Option<String>,
    eof_read_at: Option<String>,
    closed_at: Option<String>,
    #[serde(default)]
    end_error: i32,
    origin: Option<u64>,
    /// `comm/pid` or `comm/pid/tid`
    opener: Option<String>,
    /// The same.
    closer: Option<String>,
    last_read: Option<Used>,
    last_write: Option<Used>,
}

/// The last use in one direction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    at: String,
    #[serde(default = "once")]
    count: u64,
    path: Option<u64>,
    /// By default it was the last use that was captured.
    captured_count: Option<u64>,
}

/// A group of the report; only what is given is compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdict: Verdict,
    leak: bool,
    count: u64,
    qualifiers: Option<Vec<Qualifier>>,
    comm: Option<String>,
    pids: Option<Vec<u32>>,
    opener: Option<u32>,
    holders: Option<Vec<u32>>,
    endpoint: Option<String>,
    remote: Option<String>,
    oldest_s: Option<f64>,
    age_kind: Option<AgeKind>,
    origin: Option<String>,
    no_origin: Option<bool>,
    unsampled: Option<u64>,
    /// The function that the group is named by; empty when there is none.
    title: Option<String>,
    title_path: Option<TitlePath>,
    /// Functions of the program on the paths that last read and wrote, `function:line`.
    last_read: Option<Vec<String>>,
    last_write: Option<Vec<String>>,
    /// Every other field of the last use that must be found in the report.
    last_use: Option<BTreeMap<String, serde_json::Value>>,
    evidence: Option<serde_json::Value>,
    growth_per_min: Option<f64>,
}

#[test]
fn every_scenario_ends_in_the_groups_it_expects() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut played = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        play(&path, scenario);
        played += 1;
    }
    assert!(
        played >= 20,
        "{played} scenarios in {}",
        directory.display()
    );
}

fn play(path: &Path, scenario: Scenario) {
    let select = Select {
        pid: scenario.only.pid.clone(),
        comm: scenario.only.comm.clone(),
        port: scenario.only.port.clone(),
        remote: scenario
            .only
            .remote
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        min_age: time(&scenario.min_age),
        open: scenario.open.as_deref().map(time),
        all: scenario.all,
    };
    let rules = Rules {
        min_age: select.min_age,
        open: select.open,
        watching: !scenario.snapshot,
        traceable: !scenario.untraceable,
    };
    let captured = scenario.path;
    let mut sockets = scenario.socket;
    let (mut tracker, mut grouping) = (Tracker::default(), Grouping::default());
    let mut ended: HashSet<u32> = HashSet::new();
    for look in scenario.survey {
        let place = format!("{} ({}) at {}", path.display(), scenario.about, look.at);
        for (name, changes) in look.changed {
            let socket = sockets
                .get_mut(&name)
                .unwrap_or_else(|| panic!("{place}: no socket {name}"));
            merge(socket, changes);
        }
        ended.extend(look.ended.iter().map(|process| task(process).process.pid));
        let now = time(&look.at);
        let mut sightings = Vec::new();
        for name in &look.sees {
            let table = sockets
                .get(name)
                .unwrap_or_else(|| panic!("{place}: no socket {name}"))
                .clone();
            let scene: Scene = table
                .try_into()
                .unwrap_or_else(|error| panic!("{place}: {name}: {error}"));
            sightings.extend(scene.sightings(name, now));
        }
        tracker.observe(Survey {
            taken_at: now,
            sightings,
            counts: Counts::default(),
            losses: losses(&look.losses),
        });
        let report = report(&tracker, &mut grouping, &select, rules, &ended, &captured);
        if let Some(expected) = look.expect {
            compare(&place, &report, &expected);
        }
        let totals = serde_json::to_value(&report.totals).unwrap();
        for (name, number) in look.totals {
            assert_eq!(totals[&name], number, "{place}: {name}");
        }
        for words in look.notes {
            assert!(
                report.notes.iter().any(|note| note.contains(&words)),
                "{place}: {:?}",
                report.notes
            );
        }
    }
}

fn report(
    tracker: &Tracker,
    grouping: &mut Grouping,
    select: &Select,
    rules: Rules,
    ended: &HashSet<u32>,
    captured: &BTreeMap<String, Captured>,
) -> Report {
    let cases = cases(tracker, select, rules);
    let processes: HashMap<ProcessId, ProcessInfo> = cases
        .iter()
        .filter_map(|case| case.owner)
        .map(|owner| {
            let exe = Some(format!("/usr/bin/{}", owner.comm));
            (
                owner.process,
                ProcessInfo {
                    comm: owner.comm.clone(),
                    exe,
                    ..ProcessInfo::default()
                },
            )
        })
        .collect();
    let paths: HashMap<u64, Resolved> = cases
        .iter()
        .filter_map(|case| case.connection.record.as_ref())
        .flat_map(Record::paths)
        .map(|fingerprint| (fingerprint, resolved(captured, fingerprint)))
        .collect();
    let context = Context {
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        kernel: "6.1.0",
        processes: &processes,
        paths: &paths,
        alive: &|process| !ended.contains(&process.pid),
        descriptors: Vec::new(),
        file_handles: None,
        notes: Vec::new(),
    };
    grouping.report(tracker, cases, context)
}

fn compare(place: &str, report: &Report, expected: &[Expected]) {
    let shown = || serde_json::to_string_pretty(&report.groups).unwrap();
    assert_eq!(report.groups.len(), expected.len(), "{place}: {}", shown());
    for (group, expected) in report.groups.iter().zip(expected) {
        assert_eq!(
            (group.verdict, group.leak, group.count),
            (expected.verdict, expected.leak, expected.count),
            "{place}: {}",
            shown()
        );
        compare_details(place, group, expected);
    }
}

fn compare_details(place: &str, group: &Group, expected: &Expected) {
    fn same<T: PartialEq + std::fmt::Debug>(
        place: &str,
        what: &str,
        found: T,
        expected: &Option<T>,
    ) {
        if let Some(expected) = expected {
            assert_eq!(found, *expected, "{place}: {what}");
        }
    }
    same(
        place,
        "qualifiers",
        group.qualifiers.clone(),
        &expected.qualifiers,
    );
    same(place, "comm", group.process.comm.clone(), &expected.comm);
    same(place, "pids", group.pids.clone(), &expected.pids);
    same(
        place,
        "opener",
        group.opener.as_ref().map_or(0, |opener| opener.pid),
        &expected.opener,
    );
    same(
        place,
        "holders",
        group.holders.iter().map(|holder| holder.pid).collect(),
        &expected.holders,
    );
    same(
        place,
        "endpoint",
        group.endpoint.clone(),
        &expected.endpoint,
    );
    same(
        place,
        "remote",
        group.remote.clone().unwrap_or_default(),
        &expected.remote,
    );
    same(place, "oldest_s", group.oldest_s, &expected.oldest_s);
    same(place, "age_kind", group.age_kind, &expected.age_kind);
    same(
        place,
        "no_origin",
        group.origin.is_none(),
        &expected.no_origin,
    );
    let origin = group
        .origin
        .as_ref()
        .and_then(|path| path.frames[0].function.clone());
    same(
        place,
        "origin",
        origin.unwrap_or_default(),
        &expected.origin,
    );
    same(place, "unsampled", group.unsampled, &expected.unsampled);
    let title = group.title.as_ref();
    same(
        place,
        "title",
        title
            .map(|title| title.function.clone())
            .unwrap_or_default(),
        &expected.title,
    );
    same(
        place,
        "title_path",
        title.map(|title| title.path),
        &expected.title_path.map(Some),
    );
    compare_last_use(place, group, expected);
    same(
        place,
        "evidence",
        serde_json::to_value(&group.evidence).unwrap(),
        &expected.evidence,
    );
    same(
        place,
        "growth_per_min",
        group.growth_per_min.unwrap_or(f64::NAN).round(),
        &expected.growth_per_min,
    );
}

fn compare_last_use(place: &str, group: &Group, expected: &Expected) {
    let found = serde_json::to_value(&group.last_use).unwrap();
    for (direction, expected) in [
        ("read", &expected.last_read),
        ("write", &expected.last_write),
    ] {
        let frames = found[direction]["frames"].as_array().into_iter().flatten();
        let own: Vec<String> = frames
            .filter(|frame| frame["own"] == true)
            .map(|frame| match frame["line"].as_u64() {
                Some(line) => format!("{}:{line}", frame["function"].as_str().unwrap()),
                None => frame["function"].as_str().unwrap().to_owned(),
            })
            .collect();
        if let Some(expected) = expected {
            assert_eq!(own, *expected, "{place}: last {direction}");
        }
    }
    for (field, value) in expected.last_use.iter().flatten() {
        assert_eq!(found[field], *value, "{place}: {field} of the last use");
    }
}

impl Scene {
    fn sightings(self, name: &str, now: Duration) -> Vec<Sighting> {
        (0..self.number)
            .flat_map(|index| self.sighting(name, index, now))
            .collect()
    }

    fn sighting(&self, name: &str, index: u32, now: Duration) -> Vec<Sighting> {
        let address = self.address.unwrap_or_else(|| {
            name.bytes()
                .fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_003)
        });
        let accepted = |known: &Known| known.birth.is_passive();
        let (mut local, mut remote) = (self.local, self.remote);
        let client = match self.record.as_ref().is_some_and(accepted) {
            true => &mut remote,
            false => &mut local,
        };
        client.set_port(client.port() + index as u16);
        let since = |moment: &str| {
            now.checked_sub(time(moment))
                .expect("a moment after the survey")
        };
        let socket = Socket {
            address: address * 100_000 + u64::from(index),
            inode: address + u64::from(index),
            local,
            remote,
            netns: self.netns,
            state: self.state,
            copied_seq: self.copied_seq,
            unread: self.unread,
            write_seq: self.write_seq,
            snd_una: self.snd_una,
            receive_window: self.receive_window,
            since_ack: since(&self.last_ack),
            since_data: since(&self.last_data),
            since_sent: since(&self.last_sent),
            last_event_at: time(&self.last_event),
            accept_queue: self.accept_queue,
            backlog: self.backlog,
            retransmits: self.retransmits,
            error: self.error,
            fin_received: self.fin_received,
            has_owner: self.has_owner,
            has_file: self.has_file,
        };
        let record = self.record.as_ref().map(Known::record);
        let holders: Vec<Option<Holder>> = match self.holders.is_empty() {
            true => vec![None],
            false => self
                .holders
                .iter()
                .map(|holder| Some(held(holder, index)))
                .collect(),
        };
        holders
            .into_iter()
            .map(|holder| Sighting {
                socket: socket.clone(),
                record: record.clone(),
                holder,
            })
            .collect()
    }
}

impl Known {
    fn record(&self) -> Record {
        let moment = |at: &Option<String>| at.as_deref().map(time);
        Record {
            birth: self.birth,
            opened_at: moment(&self.opened_at),
            peer_gone_at: moment(&self.peer_gone_at),
            eof_read_at: moment(&self.eof_read_at),
            closed_at: moment(&self.closed_at),
            end_error: self.end_error,
            followed: false,
            origin: self.origin,
            opener: self.opener.as_deref().map(task),
            closer: self.closer.as_deref().map(task),
            last_read: self.last_read.as_ref().map(Used::seen),
            last_write: self.last_write.as_ref().map(Used::seen),
        }
    }
}

impl Used {
    fn seen(&self) -> Use {
        Use {
            at: time(&self.at),
            count: self.count,
            path: self.path,
            captured_count: self.captured_count.unwrap_or(self.count),
        }
    }
}

fn losses(named: &BTreeMap<String, u64>) -> Losses {
    let mut losses = Losses::default();
    for (name, number) in named {
        *match name.as_str() {
            "connections_dropped" => &mut losses.connections_dropped,
            "paths_dropped" => &mut losses.paths_dropped,
            "paths_unreadable" => &mut losses.paths_unreadable,
            "origins_unsampled" => &mut losses.origins_unsampled,
            "uses_unsampled" => &mut losses.uses_unsampled,
            "recursion_misses" => &mut losses.recursion_misses,
            "stale_records" => &mut losses.stale_records,
            other => panic!("no loss is called {other}"),
        } = *number;
    }
    losses
}

fn merge(socket: &mut Table, changes: Table) {
    for (name, value) in changes {
        match (socket.get_mut(&name), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(changes)) => merge(inner, changes),
            (_, value) => {
                socket.insert(name, value);
            }
        }
    }
}

/// `comm/pid:fd`
fn held(text: &str, index: u32) -> Holder {
    let (name, fd) = text.split_once(':').expect("comm/pid:fd");
    Holder {
        task: task(name),
        fd: fd.parse::<u32>().unwrap() + index,
    }
}

/// `comm/pid` or `comm/pid/tid`
fn task(text: &str) -> Task {
    let mut parts = text.split('/');
    let comm = parts.next().unwrap().to_owned();
    let pid = parts.next().expect("comm/pid").parse().unwrap();
    let tid = parts.next().map_or(pid, |tid| tid.parse().unwrap());
    Task {
        process: ProcessId {
            pid,
            start_ns: u64::from(pid),
        },
        tid,
        comm,
    }
}

fn resolved(captured: &BTreeMap<String, Captured>, fingerprint: u64) -> Resolved {
    match captured.get(&fingerprint.to_string()) {
        Some(path) => Resolved {
            frames: path.frames.iter().map(|text| frame(text)).collect(),
            incomplete: path.incomplete,
            unreadable: None,
            requested_by: None,
        },
        None => Resolved {
            frames: vec![frame(&format!("path {fingerprint}"))],
            incomplete: None,
            unreadable: None,
            requested_by: None,
        },
    }
}

/// `function`, `function:line`, `function@module`
fn frame(text: &str) -> Frame {
    let (function, module) = match text.split_once('@') {
        Some((function, module)) => (function, Some(module)),
        None => (text, None),
    };
    let (function, line) = match function.split_once(':') {
        Some((function, line)) => (function, Some(line.parse().unwrap())),
        None => (function, None),
    };
    let worker = module == Some("io_uring");
    Frame {
        function: Some(function.to_owned()),
        file: line.map(|_| "server.c".to_owned()),
        line,
        module: module.filter(|_| !worker).map(str::to_owned),
        offset: None,
        runtime: if worker { "io_uring" } else { "native" }.into(),
        inlined: false,
        // Whoever labels the frames of a worker does not judge whose they are.
        own: module.is_none() || worker,
    }
}

fn time(text: &str) -> Duration {
    Duration::try_from(text.parse::<jiff::SignedDuration>().unwrap()).unwrap()
}

fn ten_seconds() -> String {
    "10s".into()
}

fn long_ago() -> String {
    "1s".into()
}

fn close_wait() -> State {
    State::CloseWait
}

fn local() -> SocketAddr {
    "10.0.0.1:40000".parse().unwrap()
}

fn remote() -> SocketAddr {
    "10.0.0.5:80".parse().unwrap()
}

fn one() -> u32 {
    1
}

fn once() -> u64 {
    1
}

fn yes() -> bool {
    true
}
