//! Watching only a part of the host.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Ended, Fixture, Server, Tracer, groups};

/// Two clients that leak to two servers, one connection each.
struct Two {
    servers: [Server; 2],
    clients: [Fixture; 2],
}

impl Two {
    /// The second server is at an address of its own, the clients have names of their own.
    fn start(names: [&str; 2]) -> Self {
        let servers = [Server::start(), Server::start_at("127.77.1.1:0")];
        let client = |which: usize| {
            let name = names[which];
            Fixture::start(&["--name", name, "connect", &servers[which].address(), "1"])
        };
        let clients = [client(0), client(1)];
        Self { servers, clients }
    }

    /// Lets both leak, waits for the leak of the second in what is watched, and returns all that
    /// was reported.
    #[track_caller]
    fn leak(&mut self, mut tracer: Tracer) -> Ended {
        for (client, server) in self.clients.iter_mut().zip(&self.servers) {
            client.go();
            server.hang_up_on(1);
        }
        tracer.wait_for_leak_of(1);
        tracer.watch_for(Duration::from_secs(1));
        tracer.interrupt()
    }

    /// Fails unless every group is one of the second client.
    #[track_caller]
    fn assert_only_second(&self, ended: &Ended) {
        let reported: Vec<&Value> = ended.reports.iter().flat_map(groups).collect();
        assert!(!reported.is_empty());
        for group in reported {
            assert_eq!(group["process"]["pid"], self.clients[1].pid(), "{group:#}");
            assert_eq!(group["endpoint"], self.servers[1].address());
        }
    }
}

#[test]
fn pid_shows_only_that_process() {
    let mut two = Two::start(["leaky", "leaky"]);
    let tracer = Tracer::watch(&["--pid", &two.clients[1].pid_text()]);
    let ended = two.leak(tracer);
    two.assert_only_second(&ended);
}

#[test]
fn comm_shows_only_processes_of_that_name() {
    let name = format!("second-{}", std::process::id());
    let mut two = Two::start(["first", &name]);
    let tracer = Tracer::watch(&["--comm", &name]);
    let ended = two.leak(tracer);
    two.assert_only_second(&ended);
    assert_eq!(ended.last()["groups"][0]["process"]["comm"], name);
}

#[test]
fn port_shows_only_connections_with_that_port() {
    let mut two = Two::start(["leaky", "leaky"]);
    let tracer = Tracer::watch(&["--port", &two.servers[1].port()]);
    let ended = two.leak(tracer);
    two.assert_only_second(&ended);
}

#[test]
fn remote_shows_only_connections_to_that_network() {
    let mut two = Two::start(["leaky", "leaky"]);
    let pids = two.clients.each_ref().map(Fixture::pid_text);
    let tracer = Tracer::watch(&[
        "--remote",
        "127.77.0.0/16",
        "--pid",
        &pids[0],
        "--pid",
        &pids[1],
    ]);
    let ended = two.leak(tracer);
    two.assert_only_second(&ended);
}

#[test]
fn several_pids_show_all_of_them() {
    let mut two = Two::start(["leaky", "leaky"]);
    let pids = two.clients.each_ref().map(Fixture::pid_text);
    let tracer = Tracer::watch(&["--pid", &pids[0], "--pid", &pids[1]]);
    let ended = two.leak(tracer);
    let mut found: Vec<u64> = groups(ended.last())
        .filter_map(|group| group["process"]["pid"].as_u64())
        .collect();
    found.sort_unstable();
    let mut expected = two.clients.each_ref().map(|client| u64::from(client.pid()));
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn what_is_younger_than_min_age_is_no_leak_and_shown_only_to_who_asks_for_all() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let pid = client.pid_text();
    let mut all = Tracer::watch(&["--pid", &pid, "--min-age", "1h", "--all"]);
    let mut leaks_only = Tracer::watch(&["--pid", &pid, "--min-age", "1h"]);
    client.go();
    server.hang_up_on(1);

    let group = all.wait_for_group("the connection", |group| group["count"] == 1);
    assert_eq!(group["leak"], false);
    assert_eq!(all.interrupt().code, 0);
    leaks_only.watch_for(Duration::from_secs(1));
    let ended = leaks_only.interrupt();
    assert_eq!(ended.code, 0);
    for report in &ended.reports {
        assert_eq!(groups(report).count(), 0, "{report:#}");
    }
}
