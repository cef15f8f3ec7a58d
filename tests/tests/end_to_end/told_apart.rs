//! Descriptors whose connection ended, and descriptors that never had one, look much alike.

use std::{net::Shutdown, time::Duration};

use serde_json::json;

use crate::harness::{Fixture, NetworkNamespace, Server, Tracer, groups, reset};

/// Watches a program that must not be reported beside one that must, which proves that tcpleak was
/// awake. Both do their step here.
#[track_caller]
fn assert_is_not_reported(mut innocent: Fixture) {
    let server = Server::start();
    let mut guilty = Fixture::start(&["connect", &server.address(), "1"]);
    let pids = [innocent.pid_text(), guilty.pid_text()];
    let mut tracer = Tracer::watch(&["--pid", &pids[0], "--pid", &pids[1], "--all"]);
    innocent.go();
    guilty.go();
    reset(server.accept());

    tracer.wait_for_leak_of(1);
    tracer.watch_for(Duration::from_secs(1));
    for group in tracer.reports().iter().flat_map(groups) {
        assert_eq!(group["pids"], json!([guilty.pid()]), "{group:#}");
        assert_eq!(group["connections_total"], 1, "{group:#}");
    }
}

#[test]
fn a_refused_connection_is_no_dead_descriptor() {
    let nobody = Server::start().address();
    assert_is_not_reported(Fixture::start(&["refused", &nobody]));
}

#[test]
fn a_connection_that_nobody_answered_is_no_dead_descriptor() {
    let namespace = NetworkNamespace::new();
    namespace.swallow("10.99.0.2");
    let client = namespace.enter(|| Fixture::start(&["timed-out-connecting", "10.99.0.2:80"]));
    assert_is_not_reported(client);
}

#[test]
fn a_socket_that_dissolved_its_connection_is_no_dead_descriptor() {
    let server = Server::start();
    assert_is_not_reported(Fixture::start(&["disconnected", &server.address()]));
}

#[test]
fn a_connection_that_was_shut_down_in_order_and_never_closed_is_called_so() {
    let server = Server::start();
    let mut client = Fixture::start(&["shut-down-in-order", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.go();
    let connection = server.accept();
    connection
        .shutdown(Shutdown::Write)
        .expect("the client is there");
    client.facts();

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(
        leak["evidence"],
        json!({"reset": 0, "fin_then_reset": 0, "shut_down_in_order": 1, "timed_out": 0})
    );
}

#[test]
fn a_connection_whose_peer_stopped_answering_is_called_so() {
    let namespace = NetworkNamespace::new();
    let (server, mut client) = namespace.enter(|| {
        let server = Server::start();
        let client = Fixture::start(&["timed-out-sending", &server.address()]);
        (server, client)
    });
    let mut tracer = Tracer::of(&client);
    client.go();
    let _connection = server.accept();
    namespace.ip("link set lo down");
    client.go();

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(
        leak["evidence"],
        json!({"reset": 0, "fin_then_reset": 0, "shut_down_in_order": 0, "timed_out": 1})
    );
}
