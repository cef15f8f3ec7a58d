//! Multipath TCP, whose listeners are sockets of another protocol.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::harness::{Fixture, Tracer};

/// A client of plain TCP.
fn visit(server: SocketAddr) -> TcpStream {
    TcpStream::connect(server).expect("the server listens")
}

/// A client of Multipath TCP.
fn visit_over_mptcp(server: SocketAddr) -> TcpStream {
    let setting = fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    assert_eq!(
        setting.trim(),
        "1",
        "this test needs Multipath TCP: sysctl net.mptcp.enabled=1"
    );
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(ipproto::MPTCP);
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, protocol);
    let socket = socket.expect("the kernel has Multipath TCP");
    rustix::net::connect(&socket, &server).expect("the server listens");
    TcpStream::from(socket)
}

#[test]
fn tcp_connections_that_nobody_accepted_are_blamed_on_the_mptcp_listener() {
    let listener = Fixture::start(&["listen-mptcp", "127.0.0.1:0"]);
    let mut tracer = Tracer::of(&listener);
    for _ in 0..3 {
        drop(visit(listener.address()));
    }

    let leak = tracer.wait_for_leak_of(3);
    assert_eq!(leak["verdict"], "not-accepted");
    assert_eq!(leak["process"]["pid"], listener.pid());
    assert_eq!(leak["evidence"]["accept_queue"], 3);
    assert_eq!(leak["evidence"]["backlog"], 16);
}

#[test]
fn a_tcp_connection_that_an_mptcp_server_forgets_is_found() {
    let mut server = Fixture::start(&["accept-mptcp", "127.0.0.1:0", "1"]);
    let mut tracer = Tracer::of(&server);
    server.tell();
    let client = visit(server.address());
    (&client).write_all(b"hello").expect("the server is there");
    let opened = server.facts();
    drop(client);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
}

#[test]
fn an_mptcp_connection_that_an_mptcp_server_forgets_is_found() {
    let mut server = Fixture::start(&["accept-mptcp", "127.0.0.1:0", "1"]);
    let mut tracer = Tracer::of(&server);
    server.tell();
    let client = visit_over_mptcp(server.address());
    (&client).write_all(b"hello").expect("the server is there");
    let opened = server.facts();
    drop(client);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
}

#[test]
fn an_mptcp_client_that_forgets_its_connection_is_found() {
    for server in [
        Fixture::start(&["accept-mptcp", "127.0.0.1:0", "1"]),
        Fixture::start(&["accept", "127.0.0.1:0", "1"]),
    ] {
        let mut server = server;
        let mut client = Fixture::start(&["connect-over-mptcp", &server.address().to_string()]);
        let mut tracer = Tracer::of(&client);
        let opened = client.go();
        // A killed server closes its connection.
        server.tell();
        server.kill();

        let leak = tracer.wait_for_leak_of(1);
        assert_eq!(leak["process"]["pid"], client.pid());
        assert_eq!(leak["opener"]["pid"], client.pid());
        assert_eq!(
            leak["holders"][0]["fds"],
            serde_json::json!(opened.list::<u32>("fds"))
        );
    }
}
