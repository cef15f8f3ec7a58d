//! The commonest story: a program opens connections in its first step, and its server hangs up.

use serde_json::Value;

use super::{Fixture, Server, Tracer};

/// Starts a program with the address of a server, watches it open `count` connections in its first
/// step, hangs up on each, and returns the leak of all of them.
#[track_caller]
pub fn watch_forgetting(start: impl FnOnce(&str) -> Fixture, count: usize) -> Value {
    let server = Server::start();
    let mut client = start(&server.address());
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(count);
    client.facts();
    let leak = tracer.wait_for_titled_leak_of(count);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_eq!(leak["origin"]["kind"], "connect");
    leak
}
