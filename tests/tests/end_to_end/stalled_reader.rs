//! A reader that does not read while its peer has more to send than the window allows.

use std::io::{ErrorKind, Write};

use crate::harness::{Fixture, Server, Tracer};

#[test]
fn a_reader_that_lets_its_window_close_is_reported_although_the_peer_is_there() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    let mut connection = server.accept();
    connection
        .set_write_timeout(Some(std::time::Duration::from_millis(500)))
        .expect("a write can have a time limit");
    let full = loop {
        if let Err(error) = connection.write(&[b'x'; 65_536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock, "{full}");

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "reader-stalled");
    assert_eq!(leak["evidence"]["window_bytes"], 0);
    assert!(
        leak["evidence"]["unread_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 65_536),
        "{leak:#}"
    );
    assert_eq!(leak["connections"][0]["state"], "ESTABLISHED");
    assert_eq!(leak["process"]["pid"], client.pid());
}
