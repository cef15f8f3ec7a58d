//! A descriptor on its way between two processes.

use serde_json::json;

use crate::harness::{Fixture, Server, Tracer, assert_passes_through, has_qualifier};

#[test]
fn a_connection_whose_only_descriptor_is_in_flight_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["send-away", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_leak_of(1);
    assert!(has_qualifier(&leak, "held-without-descriptor"), "{leak:#}");
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["holders"], json!([]));
    assert_eq!(leak["process"]["pid"], client.pid(), "its opener");
    assert_eq!(leak["connections"][0]["fds"], json!([]));
    assert_ne!(leak["connections"][0]["inode"], 0);
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_passes_through(&leak["origin"], "leaky::hand_over::into_flight");
}
