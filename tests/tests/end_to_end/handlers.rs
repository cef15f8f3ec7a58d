//! Handlers behind one accept loop: which of them forgets a connection, only its last use tells.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::harness::{
    Compiled, Fixture, Tracer, assert_complete, assert_passes_in_order, leaks, passes_through,
    title,
};

/// What a request begins with, and the function that serves it.
const HANDLERS: [(&[u8; 8], &str); 4] = [
    (b"page....", "handle_page"),
    (b"search..", "handle_search"),
    (b"status..", "handle_status"),
    (b"upload..", "handle_upload"),
];

/// How many requests each handler gets: few enough that each use of a connection can be captured.
const REQUESTS: usize = 8;

fn start(forgetful: &str) -> (Fixture, Tracer) {
    let server = Compiled::c("handlers", &["-g", "-pthread"]).start(&[forgetful]);
    let tracer = Tracer::of(&server);
    (server, tracer)
}

/// Sends requests to all handlers in turn, and leaves when each is answered.
fn visit(server: SocketAddr) {
    for _ in 0..REQUESTS {
        for (handler, _) in HANDLERS {
            let mut client = TcpStream::connect(server).expect("the server listens");
            client.write_all(handler).expect("the server is there");
            client.write_all(b"contents").expect("the server is there");
            let mut answer = [0; 8];
            client.read_exact(&mut answer).expect("the server answers");
        }
    }
}

/// Waits for the leak of a handler.
#[track_caller]
fn leak_of(tracer: &mut Tracer, handler: &str) -> Value {
    tracer.wait_for_group(handler, |group| {
        group["leak"] == true && group["count"] == REQUESTS && title(group) == handler
    })
}

/// Fails unless the last read and the last write of a leak are those of this handler, and no other
/// handler is on any of its paths.
#[track_caller]
fn assert_blames(leak: &Value, handler: &str) {
    for direction in ["read", "write"] {
        let path = &leak["last_use"][direction];
        assert_passes_in_order(path, &[handler, "serve", "work"]);
        assert_complete(path);
    }
    let innocent = HANDLERS.iter().filter(|(_, other)| *other != handler);
    for (_, other) in innocent {
        for path in [
            &leak["origin"],
            &leak["last_use"]["read"],
            &leak["last_use"]["write"],
        ] {
            assert!(!passes_through(path, other), "{leak:#}");
        }
    }
}

#[test]
fn one_of_four_handlers_in_200_threads_is_blamed_for_what_it_forgets() {
    let (server, mut tracer) = start("upload");
    visit(server.address());

    let leak = leak_of(&mut tracer, "handle_upload");
    assert_blames(&leak, "handle_upload");
    assert_eq!(leak["process"]["pid"], server.pid());
    assert_eq!(leak["endpoint"], server.address().to_string());
    assert_eq!(leak["opener"]["pid"], server.pid());
    let ended = tracer.interrupt();
    let titles: Vec<&str> = leaks(ended.last()).map(title).collect();
    assert_eq!(titles, ["handle_upload"], "{:#}", ended.last());
}

#[test]
fn two_forgetful_handlers_behind_one_accept_loop_come_apart() {
    let (server, mut tracer) = start("search,upload");
    visit(server.address());

    for handler in ["handle_search", "handle_upload"] {
        let leak = leak_of(&mut tracer, handler);
        assert_blames(&leak, handler);
        assert_eq!(leak["endpoint"], server.address().to_string());
    }
    let ended = tracer.interrupt();
    let mut titles: Vec<&str> = leaks(ended.last()).map(title).collect();
    titles.sort_unstable();
    assert_eq!(
        titles,
        ["handle_search", "handle_upload"],
        "{:#}",
        ended.last()
    );
}

#[test]
fn the_accept_loop_is_named_where_the_kernel_tells_who_accepts() {
    let server = Compiled::c("handlers", &["-g", "-pthread"]).start(&["upload"]);
    let mut tracer = Tracer::watch(&["--pid", &server.pid_text(), "--accept-stacks"]);
    visit(server.address());

    let leak = leak_of(&mut tracer, "handle_upload");
    assert_eq!(leak["origin"]["kind"], "accept");
    assert_passes_in_order(&leak["origin"], &["accept_loop"]);
    assert_complete(&leak["origin"]);
    assert!(!passes_through(&leak["origin"], "serve"), "{leak:#}");
}
