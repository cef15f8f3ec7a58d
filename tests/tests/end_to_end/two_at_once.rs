//! Two people who look for the same leak.

use crate::harness::{Fixture, Server, Tracer, assert_passes_through};

#[test]
fn two_tcpleaks_at_once_find_the_same_and_neither_needs_the_other() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut first = Tracer::of(&client);
    let mut second = Tracer::of(&client);
    client.go();
    server.hang_up_on(2);
    for tracer in [&mut first, &mut second] {
        let leak = tracer.wait_for_leak_of(2);
        assert_eq!(leak["opener"]["pid"], client.pid());
        assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    }

    assert_eq!(first.interrupt().code, 3);
    client.go();
    server.hang_up_on(2);
    let leak = second.wait_for_leak_of(4);
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
}
