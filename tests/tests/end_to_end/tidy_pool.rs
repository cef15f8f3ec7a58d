//! A connection pool that looks after its connections.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::harness::{Fixture, Server, Tracer, leaks, patience};

/// Connections in the pool.
const SIZE: usize = 4;

/// Answers every `ping`, and closes a connection on which nothing happens for a while.
fn answer(mut connection: TcpStream) {
    connection
        .set_read_timeout(Some(patience() / 50))
        .expect("a read can have a time limit");
    let mut ping = [0; 4];
    while connection.read_exact(&mut ping).is_ok() && connection.write_all(b"pong").is_ok() {}
}

#[test]
fn a_pool_in_use_whose_idle_connections_the_server_closed_is_not_a_leak() {
    watch_a_pool(&[]);
}

/// Watches a pool in use, with these environment variables.
pub fn watch_a_pool(environment: &[(&str, &str)]) {
    let server = Server::start();
    let mut client = Fixture::start(&["pool", &server.address(), &SIZE.to_string()]);
    // Half of the time for which the idle ones lie there: long enough for a few surveys on a busy host.
    let age = "1500ms";
    let options = ["--pid", &client.pid_text(), "--all", "--min-age", age];
    let mut tracer = Tracer::watch_with(environment, &options);
    server.serve(answer);
    client.go();

    tracer.wait_for_group("a pool", |group| group["verdict"] == "pooled");
    tracer.watch_for(Duration::from_secs(5));
    client.dismiss();
    let replaced: usize = client.facts().one("replaced");
    assert!(
        replaced >= SIZE - 1,
        "the server closed no idle connection: {replaced} replaced"
    );
    for report in tracer.reports() {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
}
