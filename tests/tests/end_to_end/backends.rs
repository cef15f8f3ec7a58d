//! Each way of doing a job that the running kernel takes, by itself.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::harness::{
    Fixture, Server, assert_passes_through, backends_of, command, finish, has_qualifier, with_empty,
};

#[test]
fn each_backend_of_the_lifecycle_and_of_call_stacks_finds_a_client_with_its_code() {
    for backend in [backends_of("lifecycle"), backends_of("registers")].concat() {
        let server = Server::start();
        let mut client = Fixture::start(&["connect", &server.address(), "3"]);
        let mut tracer = backend.watch(&["--pid", &client.pid_text()]);
        client.go();
        server.hang_up_on(3);
        let leak = tracer.wait_for_titled_leak_of(3);
        assert_eq!(leak["verdict"], "eof-unread", "{backend:?}");
        assert_eq!(leak["opener"]["pid"], client.pid(), "{backend:?}");
        assert_eq!(leak["origin"]["kind"], "connect", "{backend:?}");
        assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    }
}

#[test]
fn each_backend_of_accept_finds_a_server_with_its_code() {
    for backend in backends_of("accept") {
        let mut server = Fixture::start(&["accept", "127.0.0.1:0", "3"]);
        let mut tracer = backend.watch(&["--pid", &server.pid_text()]);
        server.tell();
        let clients: Vec<_> = (0..3).map(|_| speak_to(&server)).collect();
        server.facts();
        drop(clients);
        let leak = tracer.wait_for_leak_of(3);
        assert_eq!(leak["opener"]["pid"], server.pid(), "{backend:?}");
        let (kind, function) = match backend.word {
            "first-use" => ("first-use", "leaky::accept::read_request"),
            _ => ("accept", "leaky::accept::accept_connection"),
        };
        assert_eq!(leak["origin"]["kind"], kind, "{backend:?}");
        assert_passes_through(&leak["origin"], function);
    }
}

#[test]
fn each_backend_of_accept_knows_who_holds_what_is_never_used() {
    for backend in backends_of("accept") {
        let mut server = Fixture::start(&["accept-in-silence", "127.0.0.1:0", "1"]);
        let mut tracer = backend.watch(&["--pid", &server.pid_text()]);
        server.tell();
        let client = speak_to(&server);
        server.facts();
        drop(client);
        let leak = tracer.wait_for_leak_of(1);
        assert_eq!(leak["holders"][0]["pid"], server.pid(), "{backend:?}");
        if backend.word == "first-use" {
            assert!(has_qualifier(&leak, "owner-from-survey"), "{leak:#}");
            assert!(leak["opener"].is_null(), "{leak:#}");
        } else {
            assert_eq!(leak["opener"]["pid"], server.pid(), "{backend:?}");
        }
    }
}

#[test]
fn each_backend_of_reads_sees_the_end_of_a_file_while_many_threads_wait_in_a_read() {
    for backend in backends_of("use") {
        let server = Server::start();
        let mut client = Fixture::start(&["connect-and-read", &server.address()]);
        let mut tracer = backend.watch(&["--pid", &client.pid_text()]);
        let waiting = wait_in_reads(60);
        client.tell();
        server
            .accept()
            .write_all(b"all there is")
            .expect("the client is there");
        client.facts();
        let leak = tracer.wait_for_leak_of(1);
        drop(waiting);
        assert_eq!(leak["opener"]["pid"], client.pid(), "{backend:?}");
        if backend.word == "none" {
            assert_eq!(leak["verdict"], "eof-consumed", "{backend:?}");
        } else {
            assert_eq!(leak["verdict"], "eof-ignored", "{backend:?}");
            let read = &leak["last_use"]["read"];
            assert_passes_through(read, "leaky::connect::read_to_the_end");
        }
    }
}

/// Has threads of this test wait in a read each, until the value is dropped.
fn wait_in_reads(threads: usize) -> Vec<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = listener.local_addr().expect("it has an address");
    let wait = |_| {
        let mut waits = TcpStream::connect(address).expect("the listener is there");
        thread::spawn(move || waits.read(&mut [0]));
        listener.accept().expect("it was just connected").0
    };
    (0..threads).map(wait).collect()
}

/// A client that says something and stays.
fn speak_to(server: &Fixture) -> TcpStream {
    let mut client = TcpStream::connect(server.address()).expect("the server listens");
    client.write_all(b"hello").expect("the server is there");
    client
}

#[test]
fn the_doctor_says_what_a_backend_that_is_asked_for_may_miss() {
    let mut doctor = command(&["doctor"]);
    let doctor = doctor.env("TCPLEAK_FORCE_BACKEND", "accept=first-use,use=none");
    let finished = finish(doctor.spawn().expect("tcpleak can be started"));
    assert_eq!(finished.code(), 0, "{finished:?}");
    for words in ["first read or write", "no eof-ignored", "left out:"] {
        assert!(finished.stdout.contains(words), "{words}: {finished:?}");
    }
}

#[test]
fn a_backend_that_is_asked_for_and_refused_leaves_the_job_undone_and_says_so() {
    // Which number kprobes have the kernel says there: without it none can be attached.
    let finished = with_empty("/sys/bus/event_source/devices", || {
        let mut doctor = command(&["doctor"]);
        let doctor = doctor.env("TCPLEAK_FORCE_BACKEND", "accept=kprobe");
        finish(doctor.spawn().expect("tcpleak can be started"))
    });
    let row = finished
        .stdout
        .lines()
        .find(|line| line.starts_with("  accept() "));
    assert!(
        row.is_some_and(|row| row.contains(" none ")),
        "{finished:?}"
    );
    assert!(finished.stdout.contains("    kprobe "), "{finished:?}");
}
