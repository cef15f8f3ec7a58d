//! Go's HTTP client, which dials in goroutines of its own: who asked waits in another one.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use tcpleak_tests::STRIPPED;

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_passes_in_order, functions, leaks, title, with_empty,
};

/// How long a server thinks: as servers do, and as long as who asked is sure to wait.
const PAUSE: Duration = Duration::from_secs(2);
/// The functions of the program, and what each asks for.
const ASK: [(&str, &str); 2] = [("main.fetchNews", "/news"), ("main.fetchPrices", "/prices")];

/// What was asked for on each connection, by the client's address.
type Asked = Arc<Mutex<HashMap<String, String>>>;

/// Begins to answer after a while, and hangs up before the answer is complete.
fn serve(server: Server, pause: Duration) -> Asked {
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    server.serve(move |mut connection: TcpStream| {
        let (Ok(client), Some(path)) = (connection.peer_addr(), path_of_request(&connection))
        else {
            return;
        };
        let mut notes = notes.lock().expect("no other thread panics");
        notes.insert(client.to_string(), path);
        drop(notes);
        thread::sleep(pause);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning";
        // A client that went away meanwhile is missed by the test soon enough.
        let _ = connection.write_all(answer);
    });
    asked
}

/// Reads an HTTP request.
fn path_of_request(connection: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    lines.any(|line| line.is_empty()).then_some(path)
}

fn requested_by(group: &Value) -> Vec<&str> {
    let frames = group["origin"]["requested_by"].as_array();
    let frames = frames.map(Vec::as_slice).unwrap_or_default();
    let names = frames.iter().filter_map(|frame| frame["function"].as_str());
    names.collect()
}

/// Starts the program, which asks so many times for each page, and lets it.
fn start(program: &Compiled, pause: Duration, count: &str) -> (Fixture, Tracer, Asked) {
    let server = Server::start();
    let client = program.start(&[&server.address(), count]);
    watch(client, server, pause)
}

/// Starts it where the server's name has an address of each family, of which one answers.
fn start_by_name(program: &Compiled) -> (Fixture, Tracer, Asked) {
    let server = Server::start();
    let address = format!("pages:{}", server.port());
    let client = with_empty("/etc", || {
        fs::write("/etc/hosts", "127.0.0.1 pages\n::1 pages\n").expect("it is a directory");
        program.start(&[&address, "2"])
    });
    watch(client, server, PAUSE)
}

fn watch(mut client: Fixture, server: Server, pause: Duration) -> (Fixture, Tracer, Asked) {
    let asked = serve(server, pause);
    let tracer = Tracer::of(&client);
    client.tell();
    client.facts();
    (client, tracer, asked)
}

/// Fails unless each connection of a group that names who asked was opened for what that asks for.
#[track_caller]
fn assert_is_true(group: &Value, asked: &Asked) {
    let asked = asked.lock().expect("no other thread panics");
    let frames = requested_by(group);
    for (_, expected) in ASK.iter().filter(|(function, _)| frames.contains(function)) {
        let connections = group["connections"].as_array();
        for connection in connections.expect("a group has connections") {
            let local = connection["local"].as_str().expect("an address is a text");
            assert_eq!(
                asked.get(local).map(String::as_str),
                Some(*expected),
                "{group:#}"
            );
        }
    }
}

/// Who dials the only address there is: a goroutine of the library.
const DIALS: [&str; 2] = [
    "net.(*Dialer).DialContext",
    "net/http.(*Transport).dialConn",
];

#[test]
fn functions_that_leak_responses_of_one_go_client_are_named_each() {
    let program = Compiled::go("requests", &[]);
    assert_functions_are_named(&program, start(&program, PAUSE, "2"), &DIALS);
}

#[test]
fn functions_of_a_stripped_go_program_that_leak_responses_are_named_each() {
    let program = Compiled::go("requests", STRIPPED);
    assert_functions_are_named(&program, start(&program, PAUSE, "2"), &DIALS);
}

#[test]
fn they_are_where_addresses_of_both_families_are_tried() {
    let program = Compiled::go("requests", &[]);
    // Another goroutine, which the first one starts.
    let dials = ["net.(*sysDialer).dialParallel.func1"];
    assert_functions_are_named(&program, start_by_name(&program), &dials);
}

#[track_caller]
fn assert_functions_are_named(
    program: &Compiled,
    (_client, mut tracer, asked): (Fixture, Tracer, Asked),
    dials: &[&str],
) {
    let calls = [
        ("main.fetchNews", "net/http.(*Client).Get", "client.Get("),
        ("main.fetchPrices", "net/http.(*Client).Do", "client.Do("),
    ];
    for (function, call, line) in calls {
        let leak = tracer.wait_for_group(function, |group| {
            group["leak"] == true && group["connections"].is_array() && title(group) == function
        });
        assert_passes_in_order(&leak["origin"], dials);
        assert!(!functions(&leak["origin"]).contains(&function), "{leak:#}");
        let frames = requested_by(&leak);
        let place = |name: &str| frames.iter().position(|frame| *frame == name);
        let (call, own, main) = (place(call), place(function), place("main.main"));
        assert!(call.is_some() && call < own && own < main, "{frames:?}");
        assert_eq!(frames[0], "net/http.(*Transport).RoundTrip", "{frames:?}");
        assert_eq!(leak["title"]["line"], program.line_of(line), "{leak:#}");
        assert_is_true(&leak, &asked);
    }
}

#[test]
fn a_goroutine_that_has_gone_on_is_not_said_to_have_asked() {
    let program = Compiled::go("requests", &[]);
    // It answers at once: by the time that tcpleak looks, the program may be anywhere.
    let (_client, mut tracer, asked) = start(&program, Duration::ZERO, "25");
    let leaked = |group: &Value| group["leak"] == true && !group["origin"].is_null();
    tracer.wait_for_group("a leak with its code path", leaked);
    let report = tracer.interrupt();
    assert!(leaks(report.last()).count() > 0, "{:#}", report.last());
    for leak in leaks(report.last()) {
        assert_is_true(leak, &asked);
    }
}
