//! Node.js as found in Debian.

use std::{io::Write, process::Command};

use crate::harness::{
    Fixture, Server, Tracer, assert_complete, assert_passes_in_order, assert_runs_in, installed,
};

/// Half-open sockets: the program has to end its own half, and does not.
const NEVER_ENDS: &str = r#"
const net = require("net");
const [port] = process.argv.slice(1).map(Number);
process.stdin.on("end", () => process.exit());
process.stdin.once("data", () => {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.resume();
  socket.on("end", () => console.log("fds", socket._handle.fd));
});
console.log("pid", process.pid);
"#;

/// A paused socket: what the server sends stays in the kernel.
const IS_PAUSED: &str = r#"
const net = require("net");
const [port] = process.argv.slice(1).map(Number);
process.stdin.on("end", () => process.exit());
process.stdin.once("data", () => {
  const socket = net.connect({ port, host: "127.0.0.1" });
  socket.pause();
  socket.on("connect", () => console.log("fds", socket._handle.fd));
});
console.log("pid", process.pid);
"#;

fn start(script: &str, port: &str) -> Fixture {
    Fixture::start_program(Command::new(installed("node", "nodejs")).args(["-e", script, port]))
}

#[test]
fn a_node_program_that_never_ends_its_half_is_found() {
    let server = Server::start();
    let mut client = start(NEVER_ENDS, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    let fds = client.facts().list::<u32>("fds");

    // One connection: by frame pointers, which Node.js does not keep everywhere, the same call can
    // have two code paths and so make two groups.
    let leak = tracer.wait_for_leak_of(1);
    // Which of the two it is depends on whether reads are traced.
    let verdict = leak["verdict"].as_str();
    assert!(
        matches!(verdict, Some("eof-consumed" | "eof-ignored")),
        "{leak:#}"
    );
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_eq!(leak["holders"][0]["fds"], serde_json::json!(fds));
    assert_eq!(leak["origin"]["kind"], "connect");
}

#[test]
fn a_node_program_whose_socket_stays_paused_is_a_stuck_reader() {
    let server = Server::start();
    let mut client = start(IS_PAUSED, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    server
        .accept()
        .write_all(b"unheard")
        .expect("Node is there");
    let opened = client.facts();

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert_eq!(leak["evidence"]["unread_bytes"], 7);
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
}

#[test]
fn the_native_frames_of_node_reach_the_root() {
    let server = Server::start();
    let mut client = start(NEVER_ENDS, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();

    let leak = tracer.wait_for_group("a leak with its code path", |group| {
        group["leak"] == true && group["count"] == 1 && !group["origin"].is_null()
    });
    let origin = &leak["origin"];
    assert_complete(origin);
    assert_passes_in_order(origin, &["uv_run", "node::Start"]);
    assert_runs_in(origin, &installed("node", "nodejs"));
}
