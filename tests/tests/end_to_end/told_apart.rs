//! Descriptors whose connection ended, and descriptors that never had one, look much alike.

use std::{net::Shutdown, process::Command, time::Duration};

use serde_json::json;

use crate::harness::{Fixture, NetworkNamespace, Server, Tracer, groups, installed, reset};

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
    // As long as it waits for an answer it is told as just that.
    let told = tracer.reports().iter().flat_map(groups);
    for group in told.filter(|group| group["verdict"] != "syn-sent") {
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

/// Leaks one connection, and has a socket that was never connected and one whose connection was refused.
const LEAKS_BESIDE_OTHERS: &str = r#"
import os, socket, sys
refusing = socket.socket()
refusing.bind(("127.0.0.1", 0))
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
leaked = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
fresh = socket.socket()
refused = socket.socket()
assert refused.connect_ex(refusing.getsockname()) != 0
print("fd", leaked.fileno(), flush=True)
sys.stdin.read()
"#;

#[test]
fn sockets_without_a_connection_in_a_process_that_leaks_are_no_dead_descriptors() {
    let server = Server::start();
    let python = installed("python3", "python3");
    let arguments = ["-c", LEAKS_BESIDE_OTHERS, &server.port()];
    let mut client = Fixture::start_program(Command::new(python).args(arguments));
    let mut tracer = Tracer::watch(&["--pid", &client.pid_text(), "--all"]);
    client.tell();
    server.hang_up_on(1);
    let fd: u32 = client.facts().one("fd");

    // From the survey after the first leak on, all sockets of the process are looked at.
    tracer.wait_for_leak_of(1);
    tracer.watch_for(Duration::from_secs(1));
    let leaks = tracer.reports().iter().flat_map(groups);
    for group in leaks.filter(|group| group["leak"] == true) {
        assert_eq!(group["holders"][0]["fds"], json!([fd]), "{group:#}");
    }
}
