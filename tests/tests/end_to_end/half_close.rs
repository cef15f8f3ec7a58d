//! Half-closed connections that serve their purpose.

use std::{
    io::Read,
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::harness::{Fixture, Server, Tracer, leaks};

/// Closes the half that sends, and goes on to read for as long as the client sends.
fn shut_and_listen(mut connection: TcpStream) -> thread::JoinHandle<()> {
    connection
        .shutdown(Shutdown::Write)
        .expect("the client is there");
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while connection.read(&mut buffer).is_ok_and(|length| length > 0) {}
    })
}

#[test]
fn a_half_closed_connection_in_use_is_not_a_leak() {
    let server = Server::start();
    let mut client = Fixture::start(&["keep-sending", &server.address()]);
    let mut tracer = Tracer::watch(&["--pid", &client.pid_text(), "--all"]);
    client.go();
    let listening = shut_and_listen(server.accept());

    let group = tracer.wait_for_group("a half-close in use", |group| {
        group["verdict"] == "half-close-in-use"
    });
    assert_eq!(group["leak"], false);
    assert_eq!(group["evidence"], json!({"sending": 1, "reading": 0}));
    assert_eq!(group["process"]["pid"], client.pid());

    tracer.watch_for(Duration::from_secs(3));
    for report in tracer.reports() {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
    assert_eq!(tracer.interrupt().code, 0);
    client.dismiss();
    listening
        .join()
        .expect("the listening thread does not panic");
}

#[test]
fn a_half_closed_connection_in_use_is_only_shown_to_who_asks_for_all() {
    let server = Server::start();
    let mut client = Fixture::start(&["keep-sending", &server.address()]);
    let mut tracer = Tracer::of(&client);
    client.go();
    let listening = shut_and_listen(server.accept());

    tracer.watch_for(Duration::from_secs(2));
    for report in tracer.interrupt().reports {
        assert_eq!(report["groups"], json!([]));
    }
    client.dismiss();
    listening
        .join()
        .expect("the listening thread does not panic");
}
