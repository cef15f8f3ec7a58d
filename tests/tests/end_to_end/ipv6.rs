//! IPv6, and IPv4 on IPv6 sockets.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::harness::{Fixture, Server, Tracer, assert_passes_through};

#[test]
fn a_leak_over_ipv6_is_found() {
    let server = Server::start_at("[::1]:0");
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    let opened = client.go();
    server.hang_up_on(2);

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["endpoint"], server.address());
    assert_eq!(leak["remote"], server.address());
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    let ports = opened.list::<u16>("ports");
    let local = address(&leak["connections"][0]["local"]);
    assert_eq!(local.ip(), server.socket_address().ip());
    assert!(
        ports.contains(&local.port()),
        "{local} is none of {ports:?}"
    );
}

#[test]
fn a_leak_over_ipv4_on_an_ipv6_socket_is_found() {
    let server = Server::start();
    let mapped = format!("[::ffff:127.0.0.1]:{}", server.port());
    let mut client = Fixture::start(&["connect", &mapped, "2"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(2);

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(canonical(&leak["remote"]), server.socket_address());
    assert_eq!(canonical(&leak["endpoint"]), server.socket_address());
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
}

#[test]
fn connections_over_ipv4_that_wait_at_an_ipv6_listener_are_blamed_on_it() {
    let listener = Fixture::start(&["listen", "[::]:0"]);
    let mut tracer = Tracer::of(&listener);
    for _ in 0..2 {
        TcpStream::connect(("127.0.0.1", listener.address().port())).expect("it listens");
    }

    let leak = tracer.wait_for_leak_of(2);
    assert_eq!(leak["verdict"], "not-accepted");
    assert_eq!(leak["process"]["pid"], listener.pid());
    assert_eq!(leak["evidence"]["accept_queue"], 2);
}

fn address(value: &Value) -> SocketAddr {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.unwrap_or_else(|| panic!("{value} is not an address and port"))
}

fn canonical(value: &Value) -> SocketAddr {
    let address = address(value);
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
