//! A client that forgets its connections.

use crate::harness::{Fixture, Server, Tracer, assert_passes_through, fixture_binary};

#[test]
fn a_client_that_forgets_its_connections_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "20"]);
    let mut tracer = Tracer::of(&client);
    let opened = client.go();
    server.hang_up_on(20);

    let leak = tracer.wait_for_leak_of(20);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(
        leak["evidence"],
        serde_json::json!({"unread_bytes": 0, "fin_unread": true})
    );
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["process"]["comm"], "leaky");
    assert_eq!(
        leak["process"]["exe"].as_str(),
        fixture_binary("leaky").to_str()
    );
    assert_eq!(leak["process"]["cmdline"][1], "connect");
    assert_eq!(leak["pids"], serde_json::json!([client.pid()]));
    assert_eq!(leak["endpoint"], server.address());
    assert_eq!(leak["remote"], server.address());
    assert_eq!(leak["qualifiers"].as_array().map(Vec::len), Some(0));

    let mut fds = opened.list::<u32>("fds");
    fds.sort_unstable();
    let holder =
        serde_json::json!({"pid": client.pid(), "comm": "leaky", "fds": fds, "fds_total": 20});
    assert_eq!(leak["holders"], serde_json::json!([holder]));
}

#[test]
fn the_report_says_who_opened_a_leaked_connection_and_where() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(3);

    let leak = tracer.wait_for_titled_leak_of(3);
    let opener = serde_json::json!({"pid": client.pid(), "tid": client.pid(), "comm": "leaky"});
    assert_eq!(leak["opener"], opener);
    assert_eq!(leak["origin"]["kind"], "connect");
    let frame = assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    assert_eq!(frame["own"], true);
    assert_eq!(frame["runtime"], "native");
    let file = frame["file"]
        .as_str()
        .expect("the fixture has debug information");
    assert!(file.ends_with("leaky/connect.rs"), "{file}");
    assert!(
        frame["line"].as_u64().is_some_and(|line| line > 0),
        "{frame}"
    );
    assert_passes_through(&leak["origin"], "leaky::main");
}

#[test]
fn the_age_of_a_leak_counts_from_the_moment_the_peer_went_away() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    let connection = server.accept();
    tracer.watch_for(std::time::Duration::from_secs(2));
    drop(connection);
    let gone = std::time::Instant::now();

    let leak = tracer.wait_for_leak_of(1);
    let age = leak["oldest_s"].as_f64().expect("a group has an age");
    assert_eq!(leak["age_kind"], "exact");
    assert!(age >= 0.5, "it counted as a leak after {age} s, too early");
    assert!(
        age <= gone.elapsed().as_secs_f64(),
        "it is {age} s old, which it cannot be"
    );
}

#[test]
fn each_connection_is_listed_with_its_ends_its_descriptor_and_its_inode() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    let opened = client.go();
    server.hang_up_on(2);

    let leak = tracer.wait_for_leak_of(2);
    let connections = leak["connections"]
        .as_array()
        .expect("a group lists connections");
    assert_eq!(leak["connections_total"], 2);
    assert_eq!(connections.len(), 2);
    for (fd, port) in opened
        .list::<u32>("fds")
        .iter()
        .zip(opened.list::<u16>("ports"))
    {
        let local = format!("127.0.0.1:{port}");
        let listed = connections
            .iter()
            .find(|connection| connection["local"] == local);
        let listed = listed.unwrap_or_else(|| panic!("{local} is not listed: {leak:#}"));
        assert_eq!(listed["remote"], server.address());
        assert_eq!(listed["state"], "CLOSE_WAIT");
        assert_eq!(listed["fds"], serde_json::json!([fd]));
        let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", client.pid()));
        let link = link.expect("the client holds its descriptors");
        assert_eq!(
            link.to_str(),
            Some(&*format!("socket:[{}]", listed["inode"]))
        );
    }
}

#[test]
fn a_client_that_closes_its_connections_is_not_reported() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect-after-many", &server.address(), "50"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(50);
    // The peer of the last one stays.
    let _connection = server.accept();
    client.facts();

    tracer.watch_for(std::time::Duration::from_secs(2));
    let ended = tracer.interrupt();
    for report in &ended.reports {
        assert_eq!(report["groups"], serde_json::json!([]));
    }
    assert_eq!(ended.code, 0);
}
