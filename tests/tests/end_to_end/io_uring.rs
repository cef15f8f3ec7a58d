//! Connections that io_uring opens.

use crate::harness::{Fixture, Server, Tracer};

#[test]
fn a_worker_of_io_uring_is_named_as_such_and_never_to_blame() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect-in-worker", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();

    let leak = tracer.wait_for_group("a leak with its origin", |group| {
        group["leak"] == true && !group["origin"].is_null()
    });
    assert_eq!(leak["process"]["pid"], client.pid());
    let origin = &leak["origin"];
    assert_eq!(origin["complete"], false);
    assert_eq!(origin["incomplete"], "io-uring-worker");
    assert_eq!(origin["frames"][0]["runtime"], "io_uring");
    assert_eq!(origin["frames"].as_array().map(Vec::len), Some(1));
    assert_eq!(leak["title"], serde_json::Value::Null);
}
