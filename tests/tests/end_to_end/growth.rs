//! A leak that grows while it is watched.

use std::time::Duration;

use crate::harness::{Fixture, Server, Tracer, has_qualifier};

#[test]
fn a_leak_that_grows_says_so_and_how_fast() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::of(&client);
    // Two in a second, ten seconds long: 120 in a minute.
    for _ in 0..20 {
        client.go();
        server.hang_up_on(1);
        tracer.watch_for(Duration::from_millis(500));
    }

    let leak = tracer.wait_for_group("a growing leak", |group| has_qualifier(group, "growing"));
    let growth = leak["growth_per_min"]
        .as_f64()
        .expect("it has been watched for long enough");
    assert!((60.0..240.0).contains(&growth), "{growth} a minute");
    assert_eq!(leak["leak"], true);
}

#[test]
fn a_leak_that_does_not_grow_does_not_say_so() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "5"]);
    client.go();
    server.hang_up_on(5);
    let mut tracer = Tracer::of(&client);
    tracer.watch_for(Duration::from_secs(5));

    let leak = tracer.wait_for_leak_of(5);
    assert!(!has_qualifier(&leak, "growing"), "{leak:#}");
    let counts = tracer.leaks_over_time();
    assert_eq!(leak["growth_per_min"], 0.0, "{counts:#?}");
}
