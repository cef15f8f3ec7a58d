//! A child process that inherited a connection.

use serde_json::json;

use crate::harness::{Fixture, Server, Tracer, assert_passes_through};

#[test]
fn a_child_that_inherited_a_connection_is_named_beside_its_parent_who_opened_it() {
    let server = Server::start();
    let mut parent = Fixture::start(&["pass-to-child", &server.address()]);
    let mut tracer = Tracer::of(&parent);
    let facts = parent.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_leak_of(1);
    let child: u32 = facts.one("child");
    assert_eq!(leak["verdict"], "inherited");
    assert_eq!(
        leak["evidence"],
        json!({"holding_processes": 1, "opener_holds": false})
    );
    assert_eq!(leak["opener"]["pid"], parent.pid());
    assert_eq!(leak["process"]["pid"], child);
    let holder =
        json!({"pid": child, "comm": "leaky", "fds": facts.list::<u32>("fds"), "fds_total": 1});
    assert_eq!(leak["holders"], json!([holder]));
    assert_passes_through(&leak["origin"], "leaky::hand_over::open_without_cloexec");
}

#[test]
fn a_connection_that_parent_and_child_hold_is_inherited_too() {
    let server = Server::start();
    let mut parent = Fixture::start(&["share-with-child", &server.address()]);
    let mut tracer = Tracer::of(&parent);
    let facts = parent.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "inherited");
    assert_eq!(
        leak["evidence"],
        json!({"holding_processes": 2, "opener_holds": true})
    );
    let holders = leak["holders"].as_array().expect("a group has holders");
    let mut pids: Vec<_> = holders
        .iter()
        .map(|holder| holder["pid"].as_u64())
        .collect();
    pids.sort_unstable();
    let mut expected = [parent.pid(), facts.one("child")].map(|pid| Some(u64::from(pid)));
    expected.sort_unstable();
    assert_eq!(pids, expected);
}

#[test]
fn a_connection_that_a_child_inherited_before_the_tracer_is_found_through_the_child() {
    let server = Server::start();
    let mut parent = Fixture::start(&["share-with-child", &server.address()]);
    let child = parent.go().one::<String>("child");
    server.hang_up_on(1);

    let mut tracer = Tracer::watch(&["--pid", &child]);
    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "inherited");
    assert_eq!(
        leak["evidence"],
        json!({"holding_processes": 2, "opener_holds": null})
    );
}
