//! Connections that io_uring opens, reads and closes.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use serde_json::{Value, json};

use crate::harness::{
    Fixture, Server, Tracer, assert_complete, assert_passes_through, functions, has_qualifier,
    passes_through, title,
};

/// What the code path of a thread that enters io_uring is like: proven to its root, and marked.
#[track_caller]
fn assert_in_ring_call(path: &Value, function: &str) {
    assert_eq!(path["frames"][0]["runtime"], "io_uring", "{path:#}");
    assert_passes_through(path, function);
    assert_complete(path);
}

/// What the code path of something is like that io_uring does by itself: it names nobody.
#[track_caller]
fn assert_by_itself(path: &Value) {
    assert_eq!(path["complete"], false, "{path:#}");
    assert_eq!(path["incomplete"], "io-uring");
    assert_eq!(path["frames"][0]["runtime"], "io_uring");
    assert_eq!(path["frames"].as_array().map(Vec::len), Some(1), "{path:#}");
}

/// Leaks a connection that io_uring has opened, and lets io_uring read its end. Returns the leak
/// before and after that.
fn connect_and_read(way: &str) -> (Value, Value) {
    let server = Server::start();
    let mut client = Fixture::start(&["ring-connect", way, &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();
    let forgotten = tracer.wait_for_group("a leak with its origin", |group| {
        group["leak"] == true && !group["origin"].is_null()
    });
    assert_eq!(forgotten["process"]["pid"], client.pid());
    assert_eq!(forgotten["opener"]["pid"], client.pid());
    assert_eq!(forgotten["origin"]["kind"], "connect");
    assert_eq!(client.go().one::<u32>("length"), 0);
    let ignored = tracer.wait_for_group("the path that read the end", |group| {
        group["verdict"] == "eof-ignored" && !group["last_use"]["read"].is_null()
    });
    assert_eq!(ignored["process"]["pid"], client.pid());
    (forgotten, ignored)
}

/// Connects and has something to say.
fn greet(server: &Fixture) -> TcpStream {
    let mut client = TcpStream::connect(server.address()).expect("the server listens");
    client.write_all(b"hello").expect("the server is there");
    client
}

/// Leaks a connection that io_uring accepts: one that waits already, or one that it has to wait for.
fn accept(way: &str, waits: bool) -> Value {
    let mut server = Fixture::start(&["ring-accept", way, "127.0.0.1:0"]);
    let mut tracer = Tracer::of(&server);
    let early = waits.then(|| greet(&server));
    server.tell();
    let client = early.unwrap_or_else(|| {
        // Now io_uring waits for somebody to come.
        thread::sleep(Duration::from_millis(200));
        greet(&server)
    });
    server.facts();
    drop(client);
    let leak = tracer.wait_for_group("a leak with its origin", |group| {
        group["leak"] == true && !group["origin"].is_null()
    });
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(leak["opener"]["pid"], server.pid());
    leak
}

#[test]
fn what_is_done_as_io_uring_is_entered_is_named_and_marked() {
    let (forgotten, ignored) = connect_and_read("here");
    assert_in_ring_call(&forgotten["origin"], "leaky::ring::open_by_ring");
    assert_in_ring_call(&ignored["last_use"]["read"], "leaky::ring::read_by_ring");
    assert!(
        title(&forgotten).starts_with("leaky::ring::"),
        "{forgotten:#}"
    );
}

#[test]
fn a_worker_of_io_uring_is_named_as_such_and_never_to_blame() {
    let (forgotten, ignored) = connect_and_read("worker");
    assert_by_itself(&forgotten["origin"]);
    assert_by_itself(&ignored["last_use"]["read"]);
    assert_eq!(ignored["title"], Value::Null);
}

#[test]
fn the_thread_that_looks_for_work_of_io_uring_is_its_processs_and_never_to_blame() {
    let (forgotten, ignored) = connect_and_read("poller");
    assert_by_itself(&forgotten["origin"]);
    assert_by_itself(&ignored["last_use"]["read"]);
    assert_eq!(ignored["title"], Value::Null);
}

#[test]
fn a_connection_that_io_uring_accepted_belongs_to_the_process_that_asked() {
    let leak = accept("here", false);
    // Where the kernel has no hook for accept(), it is the first read that tells.
    let asked = ["accept_by_ring", "read_by_ring"];
    let mut asked = asked
        .map(|function| format!("leaky::ring::{function}"))
        .into_iter();
    let origin = &leak["origin"];
    assert!(
        asked.any(|function| passes_through(origin, &function)),
        "{origin:#}"
    );
    assert_eq!(origin["frames"][0]["runtime"], "io_uring");
    assert_complete(origin);
}

#[test]
fn a_connection_that_a_worker_accepted_belongs_to_the_process_that_asked() {
    // A worker that would have to wait leaves the rest to the thread that asked.
    assert_by_itself(&accept("worker", true)["origin"]);
}

#[test]
fn a_connection_that_the_thread_that_looks_for_work_accepted_belongs_to_the_process_that_asked() {
    assert_by_itself(&accept("poller", false)["origin"]);
}

#[test]
fn a_connection_that_io_uring_holds_without_a_descriptor_is_found() {
    let mut server = Fixture::start(&["ring-accept-direct", "127.0.0.1:0"]);
    let mut tracer = Tracer::of(&server);
    server.tell();
    let client = greet(&server);
    server.facts();
    drop(client);

    let leak = tracer.wait_for_leak_of(1);
    assert!(has_qualifier(&leak, "held-without-descriptor"), "{leak:#}");
    assert_eq!(leak["holders"], json!([]));
    assert_eq!(leak["process"]["pid"], server.pid(), "{leak:#}");
    assert_eq!(leak["connections"][0]["fds"], json!([]));
}

#[test]
fn what_io_uring_does_in_between_is_not_put_down_to_the_code_that_runs_then() {
    let server = Server::start();
    let mut client = Fixture::start(&["ring-read-in-between", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    let connection = server.accept();
    client.facts();
    // Now it calculates.
    thread::sleep(Duration::from_millis(200));
    drop(connection);
    assert_eq!(client.facts().one::<u32>("length"), 0);

    let leak = tracer.wait_for_group("the path that read the end", |group| {
        group["verdict"] == "eof-ignored" && !group["last_use"]["read"].is_null()
    });
    let read = &leak["last_use"]["read"];
    assert!(
        !functions(read)
            .iter()
            .any(|function| function.contains("calculate")),
        "{read:#}"
    );
    assert_by_itself(read);
    assert_passes_through(&leak["origin"], "leaky::connect::open_connection");
    assert_ne!(leak["origin"]["frames"][0]["runtime"], "io_uring");
    assert_complete(&leak["origin"]);
}

#[test]
fn a_connection_that_io_uring_closed_is_no_leak() {
    let server = Server::start();
    let mut client = Fixture::start(&["ring-close", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    let fds = client.facts().list::<u32>("fds");

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["holders"][0]["fds"], json!(fds));
    assert_eq!(leak["process"]["pid"], client.pid());
}
