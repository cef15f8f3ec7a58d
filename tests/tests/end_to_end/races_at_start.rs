//! What is under way while tcpleak starts: found all the same, with its true owner or with none.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::Value;

use crate::harness::{Fixture, Server, backends_of, has_qualifier, wait_until};

/// System calls by number: accept4, recvfrom, connect.
#[cfg(target_arch = "x86_64")]
const CALLS: [u32; 3] = [288, 45, 42];
#[cfg(target_arch = "aarch64")]
const CALLS: [u32; 3] = [242, 207, 203];

/// Waits until a program waits in a system call.
#[track_caller]
fn wait_until_it_waits_in(call: u32, program: &Fixture) {
    let path = format!("/proc/{}/syscall", program.pid());
    wait_until("the program waits in a call", || {
        let words = std::fs::read_to_string(&path).unwrap_or_default();
        words.split(' ').next() == Some(&call.to_string())
    });
}

/// Fails unless a leak is held by this program, and has this one as its opener or says that it has
/// none.
#[track_caller]
fn assert_owned_by(program: &Fixture, leak: &Value, unknown: &str) {
    assert_eq!(leak["holders"][0]["pid"], program.pid(), "{leak:#}");
    if leak["opener"].is_null() {
        assert!(has_qualifier(leak, unknown), "{leak:#}");
        assert!(leak["origin"].is_null(), "{leak:#}");
    } else {
        assert_eq!(leak["opener"]["pid"], program.pid(), "{leak:#}");
    }
}

#[test]
fn an_accept_that_waits_already_gets_its_true_owner() {
    for oddity in ["accept", "accept-in-silence"] {
        for backend in backends_of("accept") {
            let mut server = Fixture::start(&[oddity, "127.0.0.1:0", "1"]);
            server.tell();
            wait_until_it_waits_in(CALLS[0], &server);
            let mut tracer = backend.watch(&["--pid", &server.pid_text()]);
            let mut client = TcpStream::connect(server.address()).expect("the server listens");
            client.write_all(b"hello").expect("the server is there");
            server.facts();
            drop(client);
            let leak = tracer.wait_for_leak_of(1);
            assert_owned_by(&server, &leak, "owner-from-survey");
            // Whatever did not see the call sees the read that follows it.
            let seen = oddity == "accept" || backend.word == "kprobe";
            assert!(!seen || !leak["opener"].is_null(), "{backend:?}: {leak:#}");
        }
    }
}

#[test]
fn a_connection_that_waits_to_be_accepted_already_gets_its_true_owner() {
    for backend in backends_of("accept") {
        let mut server = Fixture::start(&["accept", "127.0.0.1:0", "1"]);
        let mut client = TcpStream::connect(server.address()).expect("the server listens");
        client.write_all(b"hello").expect("the server is there");
        let mut tracer = backend.watch(&["--pid", &server.pid_text()]);
        server.go();
        drop(client);
        let leak = tracer.wait_for_leak_of(1);
        assert_owned_by(&server, &leak, "before-tracer");
        let is_first_use = backend.word == "first-use";
        assert_eq!(
            leak["opener"].is_null(),
            is_first_use,
            "{backend:?}: {leak:#}"
        );
    }
}

#[test]
fn a_client_that_is_connecting_already_is_found_without_an_opener() {
    for backend in backends_of("lifecycle") {
        let (listener, address) = listener_with_room_for_one();
        let filler = TcpStream::connect(address).expect("there is room for one");
        let mut client = Fixture::start(&["connect", &address.to_string(), "1"]);
        client.tell();
        wait_until_it_waits_in(CALLS[2], &client);
        let mut tracer = backend.watch(&["--pid", &client.pid_text()]);
        drop(rustix::net::accept(&listener).expect("the filler waits"));
        drop(filler);
        client.facts();
        drop(rustix::net::accept(&listener).expect("the client came through"));
        let leak = tracer.wait_for_leak_of(1);
        assert!(leak["opener"].is_null(), "{backend:?}: {leak:#}");
        assert_owned_by(&client, &leak, "before-tracer");
    }
}

/// A listening socket that lets one connection wait. Others that come are not answered.
fn listener_with_room_for_one() -> (OwnedFd, SocketAddr) {
    let flags = SocketFlags::CLOEXEC;
    let listener = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        .expect("there are sockets");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
    rustix::net::bind(&listener, &any).expect("there are free ports");
    rustix::net::listen(&listener, 0).expect("it is bound");
    let address = rustix::net::getsockname(&listener).expect("it is bound");
    (listener, address.try_into().expect("it is of IPv4"))
}

#[test]
fn a_read_that_waits_already_and_ends_with_the_file_is_no_false_owner() {
    for backend in backends_of("use") {
        let server = Server::start();
        let mut client = Fixture::start(&["connect-and-read", &server.address()]);
        client.tell();
        let connection = server.accept();
        wait_until_it_waits_in(CALLS[1], &client);
        let mut tracer = backend.watch(&["--pid", &client.pid_text()]);
        drop(connection);
        client.facts();
        let leak = tracer.wait_for_leak_of(1);
        assert!(leak["opener"].is_null(), "{backend:?}: {leak:#}");
        assert_owned_by(&client, &leak, "before-tracer");
        // Only a hook at the end of the call can see it.
        let verdict = match backend.word {
            "tp_btf" | "tracepoint" => "eof-ignored",
            _ => "eof-consumed",
        };
        assert_eq!(leak["verdict"], verdict, "{backend:?}: {leak:#}");
    }
}
