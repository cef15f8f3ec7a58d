//! Clients whose connect() does not wait: the kernel keeps calling their sockets "connecting".

use crate::harness::{Fixture, Server, Tracer, assert_passes_through, reset};

#[test]
fn a_leak_of_a_non_blocking_client_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect-without-blocking", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_passes_through(&leak["origin"], "leaky::connect::begin_connection");
}

#[test]
fn a_dead_descriptor_of_a_non_blocking_client_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect-without-blocking", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.go();
    reset(server.accept());

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(leak["evidence"]["reset"], 1);
}
