//! A server that forgets the connections that it accepted.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use crate::harness::{Fixture, Tracer, assert_passes_through, functions, has_qualifier};

/// Lets clients come and say something. They leave when the value is dropped.
fn visit(server: SocketAddr, visits: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..visits {
        let mut client = TcpStream::connect(server).expect("the server listens");
        client.write_all(b"hello").expect("the server is there");
        clients.push(client);
    }
    clients
}

#[test]
fn a_server_that_forgets_its_connections_is_found_with_its_own_function() {
    let mut server = Fixture::start(&["accept", "127.0.0.1:0", "5"]);
    let mut tracer = Tracer::of(&server);
    server.tell();
    let clients = visit(server.address(), 5);
    let opened = server.facts();
    drop(clients);

    let leak = tracer.wait_for_leak_of(5);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(leak["opener"]["pid"], server.pid());
    assert_eq!(leak["endpoint"], server.address().to_string());
    assert_eq!(leak["remote"], "127.0.0.1");
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    // Which of the two it is depends on what the kernel offers.
    match leak["origin"]["kind"].as_str() {
        Some("accept") => {
            assert_passes_through(&leak["origin"], "leaky::accept::accept_connection")
        }
        Some("first-use") => assert_passes_through(&leak["origin"], "leaky::accept::read_request"),
        _ => panic!("an accepted connection has another origin: {leak:#}"),
    };
    assert_passes_through(&leak["origin"], "leaky::accept::and_forget");
}

#[test]
fn with_accept_stacks_the_code_path_is_that_of_the_accept() {
    let mut server = Fixture::start(&["accept", "127.0.0.1:0", "3"]);
    let mut tracer = Tracer::watch(&["--pid", &server.pid_text(), "--accept-stacks"]);
    server.tell();
    let clients = visit(server.address(), 3);
    server.facts();
    drop(clients);

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["origin"]["kind"], "accept");
    assert_eq!(leak["opener"]["pid"], server.pid());
    assert_passes_through(&leak["origin"], "leaky::accept::accept_connection");
    let functions = functions(&leak["origin"]);
    assert!(
        !functions.contains(&"leaky::accept::read_request"),
        "{functions:?}"
    );
}

#[test]
fn with_accept_stacks_a_server_that_never_reads_is_found_with_its_function() {
    let mut server = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "3"]);
    let mut tracer = Tracer::watch(&["--pid", &server.pid_text(), "--accept-stacks"]);
    server.tell();
    let clients = visit(server.address(), 3);
    server.facts();
    drop(clients);

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert_eq!(leak["opener"]["pid"], server.pid());
    assert_eq!(leak["origin"]["kind"], "accept");
    assert_passes_through(&leak["origin"], "leaky::accept::accept_connection");
}

#[test]
fn a_server_whose_accept_nothing_saw_is_known_by_its_descriptors() {
    let mut server = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "3"]);
    let mut tracer = Tracer::of(&server);
    server.tell();
    let clients = visit(server.address(), 3);
    let opened = server.facts();
    drop(clients);

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(leak["holders"][0]["pid"], server.pid());
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    assert_eq!(leak["endpoint"], server.address().to_string());
    if leak["origin"].is_null() {
        assert!(has_qualifier(&leak, "owner-from-survey"), "{leak:#}");
    } else {
        assert_passes_through(&leak["origin"], "leaky::accept::accept_connection");
    }
}

#[test]
fn the_code_path_of_a_server_that_goes_on_leaking_becomes_that_of_its_accept() {
    let mut first = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "2"]);
    let mut second = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "2"]);
    let mut tracer = Tracer::watch(&["--pid", &first.pid_text(), "--pid", &second.pid_text()]);
    first.tell();
    let clients = visit(first.address(), 2);
    first.facts();
    drop(clients);
    tracer.wait_for_leak_of(2);

    // Now that a server is known to leak, accept() is watched.
    second.tell();
    let clients = visit(second.address(), 2);
    second.facts();
    drop(clients);
    let endpoint = second.address().to_string();
    let leak = tracer.wait_for_group("the leak of the second server", |group| {
        group["leak"] == true && group["endpoint"] == endpoint
    });
    assert_eq!(leak["origin"]["kind"], "accept");
    assert_passes_through(&leak["origin"], "leaky::accept::accept_connection");
}
