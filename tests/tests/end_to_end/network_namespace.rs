//! Leaks in another network namespace, as in a container.

use std::net::TcpStream;

use crate::harness::{Fixture, NetworkNamespace, Server, Tracer, assert_passes_through, reset};

#[test]
fn a_leak_in_another_network_namespace_is_found_and_the_namespace_named() {
    let namespace = NetworkNamespace::new();
    let server = namespace.enter(Server::start);
    let mut client = namespace.enter(|| Fixture::start(&["connect", &server.address(), "2"]));
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(2);

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["process"]["netns"], namespace.inode());
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
}

#[test]
fn connections_that_nobody_accepted_in_another_network_namespace_are_found() {
    let namespace = NetworkNamespace::new();
    let listener = namespace.enter(|| Fixture::start(&["listen", "127.0.0.1:0"]));
    let mut tracer = Tracer::of(&listener);
    let address = listener.address();
    namespace.enter(|| {
        for _ in 0..3 {
            TcpStream::connect(address).expect("it listens");
        }
    });

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["verdict"], "not-accepted");
    assert_eq!(leak["process"]["pid"], listener.pid());
    assert_eq!(leak["process"]["netns"], namespace.inode());
    assert_eq!(leak["evidence"]["accept_queue"], 3);
}

#[test]
fn a_dead_descriptor_in_another_network_namespace_is_found() {
    let namespace = NetworkNamespace::new();
    let server = namespace.enter(Server::start);
    let mut client = namespace.enter(|| Fixture::start(&["connect", &server.address(), "1"]));
    let mut tracer = Tracer::of(&client);
    client.go();
    reset(server.accept());

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(leak["process"]["netns"], namespace.inode());
}

#[test]
fn the_same_addresses_in_two_network_namespaces_are_kept_apart() {
    let namespaces = [NetworkNamespace::new(), NetworkNamespace::new()];
    let listeners = namespaces
        .each_ref()
        .map(|namespace| namespace.enter(|| Fixture::start(&["listen", "127.0.0.1:7777"])));
    let pids = listeners.each_ref().map(Fixture::pid_text);
    let mut tracer = Tracer::watch(&["--pid", &pids[0], "--pid", &pids[1]]);
    for (namespace, visits) in namespaces.iter().zip([1, 2]) {
        namespace.enter(|| {
            for _ in 0..visits {
                TcpStream::connect("127.0.0.1:7777").expect("it listens");
            }
        });
    }

    for (listener, count) in listeners.iter().zip([1, 2]) {
        let leak = tracer.wait_for_leak_of(count);
        assert_eq!(leak["process"]["pid"], listener.pid());
        assert_eq!(leak["evidence"]["accept_queue"], count);
    }
}
