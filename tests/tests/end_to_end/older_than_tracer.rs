//! What was there before tcpleak.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Fixture, Server, Tracer, has_qualifier, leaks, patience};

#[test]
fn a_leak_that_is_older_than_the_tracer_is_in_the_first_report() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "4"]);
    let before = Instant::now();
    let opened = client.go();
    server.hang_up_on(4);
    let gone = Instant::now();
    thread::sleep(Duration::from_millis(1500));

    let tracer = Tracer::of(&client);
    let first = tracer.first_report();
    let found: Vec<_> = leaks(first).collect();
    let [leak] = found[..] else {
        panic!("not one leak in the first report: {first:#}")
    };
    assert_eq!(leak["count"], 4);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    assert!(has_qualifier(leak, "before-tracer"), "{leak:#}");
    assert!(leak["opener"].is_null());
    assert!(leak["origin"].is_null());

    let age = leak["oldest_s"].as_f64().expect("a group has an age");
    assert_eq!(leak["age_kind"], "at_least");
    assert!(age >= 1.4, "the peer went away more than {age} s ago");
    assert!(
        age <= before.elapsed().as_secs_f64(),
        "it is younger than {age} s"
    );
    assert!(
        gone.elapsed() < patience() / 2,
        "the first report took too long"
    );
}

#[test]
fn a_peer_that_leaves_while_tcpleak_watches_is_seen_to_leave() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();
    let connection = server.accept();
    let mut tracer = Tracer::of(&client);
    drop(connection);

    let leak = tracer.wait_for_leak_of(1);
    assert!(has_qualifier(&leak, "before-tracer"), "{leak:#}");
    assert!(leak["origin"].is_null());
    assert_eq!(leak["age_kind"], "exact");
}

#[test]
fn a_dead_descriptor_that_is_older_than_the_tracer_is_found() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let opened = client.go();
    crate::harness::reset(server.accept());
    thread::sleep(Duration::from_secs(1));

    let mut tracer = Tracer::of(&client);
    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(leak["evidence"]["reset"], 1);
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    assert!(has_qualifier(&leak, "before-tracer"), "{leak:#}");
}

#[test]
fn unaccepted_connections_that_are_older_than_the_tracer_are_found() {
    let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
    for _ in 0..3 {
        std::net::TcpStream::connect(listener.address()).expect("it listens");
    }
    thread::sleep(Duration::from_secs(1));

    let mut tracer = Tracer::of(&listener);
    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["verdict"], "not-accepted");
    assert_eq!(leak["process"]["pid"], listener.pid());
}
