//! The kernel uses addresses of closed sockets again, as programs use descriptor numbers again.

use crate::harness::{Fixture, Server, Tracer, assert_passes_through, functions};

#[test]
fn a_connection_at_a_used_address_has_its_own_code_path() {
    const CLOSED: usize = 2000;
    let server = Server::start();
    let mut client =
        Fixture::start(&["connect-after-many", &server.address(), &CLOSED.to_string()]);
    // Each connect() counts: none may be left out.
    let pid = client.pid_text();
    let mut tracer = Tracer::watch(&["--pid", &pid, "--captures", "10000"]);
    client.tell();
    server.hang_up_on(CLOSED + 1);
    let opened = client.facts();

    let leak = tracer.wait_for_leak_of(1);
    assert_passes_through(&leak["origin"], "leaky::connect::open_the_last");
    let functions = functions(&leak["origin"]);
    assert!(
        !functions.contains(&"leaky::connect::open_and_close"),
        "stale: {functions:?}"
    );
    let local = format!("127.0.0.1:{}", opened.one::<u16>("ports"));
    assert_eq!(leak["connections"][0]["local"], local);
    let ended = tracer.interrupt();
    assert_eq!(
        ended.last()["groups"].as_array().map(Vec::len),
        Some(1),
        "{:#}",
        ended.last()
    );
}
