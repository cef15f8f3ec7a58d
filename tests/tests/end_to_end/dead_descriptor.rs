//! Descriptors of connections that are dead in the kernel: no tool that lists connections shows
//! them.

use std::{fs, process::Command};

use serde_json::json;

use crate::harness::{
    Fixture, NetworkNamespace, Server, Tracer, assert_passes_through, installed, reset,
};

#[test]
fn a_descriptor_whose_connection_the_peer_reset_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    let opened = client.go();
    reset(server.accept());
    reset(server.accept());

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(
        leak["evidence"],
        json!({"reset": 2, "fin_then_reset": 0, "shut_down_in_order": 0, "timed_out": 0})
    );
    assert_eq!(leak["age_kind"], "exact");
    assert_eq!(leak["endpoint"], server.address());
    assert_eq!(leak["holders"][0]["fds"], json!(opened.list::<u32>("fds")));
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    let connection = &leak["connections"][0];
    let locals: Vec<String> = opened
        .list::<u16>("ports")
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    assert_eq!(connection["state"], "CLOSE");
    assert_eq!(connection["remote"], server.address());
    assert!(
        locals.iter().any(|local| connection["local"] == *local),
        "{locals:?}: {connection}"
    );
}

#[test]
fn a_descriptor_whose_connection_a_keepalive_probe_ended_is_found() {
    let namespace = NetworkNamespace::new();
    let (server, mut client) = namespace.enter(|| {
        // The server's kernel forgets the connection soon, and answers the probe with a RST.
        fs::write("/proc/sys/net/ipv4/tcp_fin_timeout", "1").expect("root may set this");
        let server = Server::start();
        let client = Fixture::start(&["connect-with-keepalive", &server.address()]);
        (server, client)
    });
    let mut tracer = Tracer::of(&client);
    let opened = client.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_group("a dead descriptor", |group| {
        group["leak"] == true && group["verdict"] == "dead-fd"
    });
    assert_eq!(
        leak["evidence"],
        json!({"reset": 0, "fin_then_reset": 1, "shut_down_in_order": 0, "timed_out": 0})
    );
    assert_eq!(leak["holders"][0]["fds"], json!(opened.list::<u32>("fds")));
    assert_passes_through(&leak["origin"], "leaky::connect::with_keepalive");

    let ss = namespace.enter(|| {
        Command::new(installed("ss", "iproute2"))
            .arg("-tan")
            .output()
    });
    let ss = ss.expect("ss runs");
    let listed = String::from_utf8_lossy(&ss.stdout);
    assert!(ss.status.success() && listed.contains("State"), "{ss:?}");
    let port = opened.one::<String>("ports");
    assert!(
        !listed.contains(&port),
        "ss shows it, so it is not dead: {listed}"
    );
}
