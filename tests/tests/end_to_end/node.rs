//! Node.js as found in Debian, or a later one, without any flag.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{
    Fixture, Server, Tracer, answer_http_request, assert_complete, assert_passes_in_order,
    assert_runs_in, functions, installed, read_http_request, repository, title, with_others,
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
    let leak = tracer.wait_for_leak_with_origin();
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

    let leak = tracer.wait_for_leak_with_origin();
    let origin = &leak["origin"];
    assert_complete(origin);
    assert_passes_in_order(origin, &["uv_run", "node::Start"]);
    assert_runs_in(origin, &installed("node", "nodejs"));
}

/// The program of the tests that are about names.
fn requests() -> PathBuf {
    repository().join("tests/fixtures/javascript/requests.js")
}

/// Starts it by this Node, with these options; HOW says what it leaks.
fn start_requests(node: &Path, options: &[&str], how: &str, port: &str) -> Fixture {
    let mut command = Command::new(node);
    Fixture::start_program(command.args(options).arg(requests()).args([how, port]))
}

/// Those in the directory that `TCPLEAK_TEST_NODES` names, see `.ci/nodes`, and that of the host.
fn nodes() -> Vec<PathBuf> {
    with_others(
        installed("node", "nodejs"),
        "TCPLEAK_TEST_NODES",
        "bin/node",
    )
}

/// The only line of the program with this text.
#[track_caller]
fn line_of(text: &str) -> u64 {
    let source = fs::read_to_string(requests()).expect("the fixture is there");
    let mut lines = (1..)
        .zip(source.lines())
        .filter(|(_, line)| line.contains(text));
    let (number, _) = lines.next().expect("some line has the text");
    assert!(lines.next().is_none(), "more than one line has {text:?}");
    number
}

/// The frame of a function of the program.
#[track_caller]
fn own_frame<'a>(path: &'a Value, function: &str) -> &'a Value {
    let frames = path["frames"].as_array().expect("a path has frames");
    let found = frames.iter().find(|frame| frame["function"] == function);
    let frame = found.unwrap_or_else(|| panic!("no {function} in {path:#}"));
    assert_eq!(frame["runtime"], "javascript", "{frame:#}");
    assert_eq!(frame["own"], true, "{frame:#}");
    assert_eq!(
        frame["file"].as_str().map(Path::new),
        Some(&*requests()),
        "{frame:#}"
    );
    frame
}

/// Whether a path has a function of Node's own file.
fn has_internal(path: &Value, function: &str, file: &str) -> bool {
    let frames = path["frames"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let is_it = |frame: &&Value| frame["function"] == function && frame["file"] == file;
    let mut found = frames.iter().filter(is_it);
    found
        .next()
        .is_some_and(|frame| frame["own"] == false && frame["runtime"] == "javascript")
}

/// Has the program leak a connection that the server answers and hangs up on, while it is watched.
fn leak_by_requests(node: &Path, options: &[&str], how: &str) -> (Fixture, Tracer) {
    let server = Server::start();
    let mut client = start_requests(node, options, how, &server.port());
    server.serve(|connection| {
        if read_http_request(&connection) {
            // What went wrong is seen by what is not found.
            let _ = answer_http_request(&connection, &[b'a'; 300]);
        }
    });
    let tracer = Tracer::of(&client);
    client.tell();
    client.facts();
    (client, tracer)
}

/// The leak of that connection.
#[track_caller]
fn watch_requests(node: &Path, how: &str) -> Value {
    let (_client, mut tracer) = leak_by_requests(node, &[], how);
    tracer.wait_for_group("a leak with a title", |group| {
        group["leak"] == true && group["count"] == 1 && !title(group).is_empty()
    })
}

#[test]
fn the_function_that_wrote_the_request_is_named_where_the_event_loop_opened_the_connection() {
    let leak = watch_requests(&installed("node", "nodejs"), "callback");
    let origin = &leak["origin"];
    assert!(
        has_internal(origin, "internalConnect", "node:net"),
        "{origin:#}"
    );
    assert!(!functions(origin).contains(&"onceConnected"), "{origin:#}");
    let write = &leak["last_use"]["write"];
    let frame = own_frame(write, "onceConnected");
    assert_eq!(frame["line"], line_of("socket.write(REQUEST)"), "{frame:#}");
    assert_eq!(title(&leak), "onceConnected");
    assert_eq!(leak["title"]["path"], "last-write");
}

#[test]
fn an_async_function_is_named_when_it_goes_on() {
    for node in nodes() {
        an_async_function_is_named(&node);
    }
}

fn an_async_function_is_named(node: &Path) {
    let leak = watch_requests(node, "await");
    let write = &leak["last_use"]["write"];
    let frame = own_frame(write, "askForPage");
    assert!(
        has_internal(write, "Socket._writeGeneric", "node:net"),
        "{write:#}"
    );
    assert_eq!(
        frame["line"],
        line_of("connected.write(REQUEST)"),
        "{frame:#}"
    );
    assert_eq!(title(&leak), "askForPage");
}

#[test]
fn a_timer_that_writes_is_named() {
    let leak = watch_requests(&installed("node", "nodejs"), "timer");
    let write = &leak["last_use"]["write"];
    let frame = own_frame(write, "askLater");
    assert_eq!(
        frame["line"],
        line_of("connection.write(REQUEST)"),
        "{frame:#}"
    );
    assert!(
        has_internal(write, "listOnTimeout", "node:internal/timers"),
        "{write:#}"
    );
    assert_eq!(title(&leak), "askLater");
}

/// What V8 has optimised has no place in its bytecode on the stack.
#[test]
fn an_optimised_function_is_named_with_the_line_where_it_begins() {
    for node in nodes() {
        let natives = ["--allow-natives-syntax"];
        let (_client, mut tracer) = leak_by_requests(&node, &natives, "optimised");
        let leak = tracer.wait_for_group("a leak whose last write is known", |group| {
            group["leak"] == true && !group["last_use"]["write"].is_null()
        });
        let frame = own_frame(&leak["last_use"]["write"], "askAtSpeed");
        assert_eq!(frame["line"], line_of("function askAtSpeed"), "{frame:#}");
    }
}

#[test]
fn an_agent_of_node_is_not_the_program() {
    let (_client, mut tracer) = leak_by_requests(&installed("node", "nodejs"), &[], "agent");
    let leak = tracer.wait_for_group("a leak with its code path", |group| {
        group["leak"] == true && !group["origin"].is_null()
    });
    let frames = leak["origin"]["frames"]
        .as_array()
        .expect("a path has frames");
    let own: Vec<_> = frames.iter().filter(|frame| frame["own"] == true).collect();
    for frame in own {
        assert_eq!(
            frame["file"].as_str().map(Path::new),
            Some(&*requests()),
            "{frame:#}"
        );
    }
    assert!(
        has_internal(&leak["origin"], "internalConnect", "node:net"),
        "{leak:#}"
    );
}
