//! On loopback the FIN arrives while the peer's process runs, and must not be blamed on it.

use std::net::TcpStream;

use crate::harness::{Fixture, Server, Tracer, groups, reset};

#[test]
fn the_client_owns_a_leak_although_the_fin_arrives_in_the_servers_context() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    let this = std::process::id();
    let mut tracer = Tracer::watch(&[
        "--pid",
        &client.pid_text(),
        "--pid",
        &this.to_string(),
        "--port",
        &server.port(),
    ]);
    client.go();
    server.hang_up_on(3);

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["opener"]["pid"], client.pid());
    for group in tracer.reports().iter().flat_map(groups) {
        assert_eq!(
            group["pids"],
            serde_json::json!([client.pid()]),
            "the peer is blamed: {group:#}"
        );
    }
}

#[test]
fn the_client_owns_a_dead_descriptor_although_the_rst_arrives_in_the_servers_context() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::watch(&["--port", &server.port()]);
    client.go();
    reset(server.accept());

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["opener"]["pid"], client.pid());
}

#[test]
fn the_server_owns_a_leak_although_the_fin_arrives_in_the_clients_context() {
    let mut server = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "3"]);
    let port = server.address().port().to_string();
    let mut tracer = Tracer::watch(&["--port", &port]);
    server.tell();
    for _ in 0..3 {
        TcpStream::connect(server.address()).expect("the server listens");
    }
    server.facts();

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["process"]["pid"], server.pid());
    for group in tracer.reports().iter().flat_map(groups) {
        assert_ne!(
            group["process"]["pid"],
            std::process::id(),
            "the peer is blamed: {group:#}"
        );
        assert_ne!(
            group["opener"]["pid"],
            std::process::id(),
            "the peer is blamed: {group:#}"
        );
    }
}
