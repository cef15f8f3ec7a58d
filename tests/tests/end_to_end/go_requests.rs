//! Go's HTTP client, which dials in goroutines of its own: who asked waits in another one.

use std::{
    io::Write,
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_passes_in_order, functions, read_http_request, title,
};

/// How long the server thinks: as servers do, and as long as who asked is sure to wait.
const PAUSE: Duration = Duration::from_secs(2);

/// Begins to answer, hangs up before the answer is complete, and tells so.
fn serve(server: Server) -> Receiver<()> {
    let (done, answered) = mpsc::channel();
    server.serve(move |mut connection: TcpStream| {
        if read_http_request(&connection) {
            thread::sleep(PAUSE);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning";
            // Whoever went away meanwhile is missed by the test soon enough.
            let _ = connection.write_all(answer);
            let _ = done.send(());
        }
    });
    answered
}

#[track_caller]
fn requested_by(group: &Value) -> Vec<&str> {
    let frames = group["origin"]["requested_by"].as_array();
    let frames = frames.map(Vec::as_slice).unwrap_or_default();
    let names = frames.iter().filter_map(|frame| frame["function"].as_str());
    names.collect()
}

/// Watches a program that asks for two pages from each of two functions.
fn watch(program: &Compiled) -> [Value; 2] {
    let server = Server::start();
    let mut client = program.start(&[&server.address(), "2"]);
    let _answered = serve(server);
    let mut tracer = Tracer::of(&client);
    client.tell();
    client.facts();
    ["main.fetchNews", "main.fetchPrices"].map(|function| {
        tracer.wait_for_group(function, |group| {
            group["leak"] == true && group["count"] == 2 && title(group) == function
        })
    })
}

#[test]
fn functions_that_leak_responses_of_one_go_client_are_named_each() {
    let program = Compiled::go("requests", &[]);
    let [news, prices] = watch(&program);
    for (leak, function, call, line) in [
        (&news, "main.fetchNews", "net/http.(*Client).Get", "client.Get("),
        (&prices, "main.fetchPrices", "net/http.(*Client).Do", "client.Do("),
    ] {
        // Who dials is the library's own goroutine.
        let dials = ["net.(*Dialer).DialContext", "net/http.(*Transport).dialConnFor"];
        assert_passes_in_order(&leak["origin"], &dials);
        assert!(!functions(&leak["origin"]).contains(&function), "{leak:#}");
        let asked = requested_by(leak);
        let place = |name: &str| asked.iter().position(|asked| *asked == name);
        let (call, own, main) = (place(call), place(function), place("main.main"));
        assert!(call.is_some() && call < own && own < main, "{asked:?}");
        assert_eq!(leak["title"]["line"], program.line_of(line), "{leak:#}");
    }
}

#[test]
fn a_goroutine_that_has_gone_on_is_not_said_to_have_asked() {
    let program = Compiled::go("requests", &[]);
    let server = Server::start();
    let mut client = program.start(&[&server.address(), "1"]);
    // It answers at once: by the time that tcpleak looks, the program may be anywhere.
    server.serve(|mut connection| {
        if read_http_request(&connection) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning";
            let _ = connection.write_all(answer);
        }
    });
    let mut tracer = Tracer::of(&client);
    client.tell();
    client.facts();
    let leaked = |group: &Value| group["leak"] == true && !group["origin"].is_null();
    tracer.wait_for_group("a leak", leaked);
    let report = tracer.interrupt();
    for leak in crate::harness::leaks(report.last()) {
        let asked = requested_by(leak);
        let own: Vec<_> = asked
            .iter()
            .filter(|name| name.starts_with("main.fetch"))
            .collect();
        assert!(own.len() <= 1, "{leak:#}");
    }
}
