//! A reader that does not read.

use std::io::Write;

use serde_json::json;

use crate::harness::{Fixture, Server, Tracer};

#[test]
fn data_that_waits_unread_after_the_peer_left_is_a_stuck_reader() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    for length in [100, 50] {
        server
            .accept()
            .write_all(&vec![b'x'; length])
            .expect("the client is there");
    }

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert_eq!(
        leak["evidence"],
        json!({"unread_bytes": 100, "unread_bytes_total": 150})
    );
    assert_eq!(leak["process"]["pid"], client.pid());
}

#[test]
fn one_unread_byte_is_not_taken_for_the_end_of_the_stream() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server
        .accept()
        .write_all(b"x")
        .expect("the client is there");

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert_eq!(leak["evidence"]["unread_bytes"], 1);
}
