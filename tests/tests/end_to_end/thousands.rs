//! Very many leaked connections.

use crate::harness::{Fixture, Server, Tracer, patience};

#[test]
fn five_thousand_leaked_connections_are_all_counted() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "5000"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(5000);
    client.facts();

    let leak = tracer.wait_for_group_within(3 * patience(), "5,000 connections", |group| {
        group["leak"] == true && group["count"] == 5000
    });
    assert_eq!(leak["connections_total"], 5000);
    assert_eq!(leak["connections"].as_array().map(Vec::len), Some(20));
    assert_eq!(leak["holders"][0]["fds_total"], 5000);
    assert_eq!(leak["holders"][0]["fds"].as_array().map(Vec::len), Some(64));
    assert_eq!(leak["opener"]["pid"], client.pid());
    let ended = tracer.interrupt();
    let totals = &ended.last()["totals"];
    assert!(
        totals["close_wait"]
            .as_u64()
            .is_some_and(|count| count >= 5000),
        "{totals}"
    );
    assert_eq!(totals["dropped"], 0);
}
