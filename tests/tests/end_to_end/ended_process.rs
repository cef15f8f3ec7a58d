//! Processes that end while they are watched.

use crate::harness::{Fixture, Server, Tracer, has_qualifier};

#[test]
fn what_was_found_is_not_lost_when_the_process_ends() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "4"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(4);
    let leak = tracer.wait_for_leak_of(4);
    assert!(!has_qualifier(&leak, "process-ended"), "{leak:#}");

    client.kill();
    // The only process to watch is gone.
    let ended = tracer.end();
    assert_eq!(ended.code, 3);
    assert_eq!(ended.stderr, "");
    let last = &ended.last()["groups"][0];
    assert_eq!(last["count"], 4, "{:#}", ended.last());
    assert_eq!(last["process"]["pid"], client.pid());
    assert!(has_qualifier(last, "process-ended"), "{last:#}");
}

#[test]
fn a_process_that_ended_with_its_connections_in_order_is_not_reported() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "4"]);
    let tracer = Tracer::of(&client);
    client.go();
    client.kill();

    let ended = tracer.end();
    assert_eq!(ended.code, 0);
    assert_eq!(
        ended.last()["groups"].as_array().map(Vec::len),
        Some(0),
        "{:#}",
        ended.last()
    );
}
