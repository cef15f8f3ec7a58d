//! A server that does not accept.

use std::net::TcpStream;

use serde_json::json;

use crate::harness::{Fixture, Tracer, groups};

#[test]
fn connections_that_nobody_accepted_are_blamed_on_the_listener() {
    let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
    let address = listener.address().to_string();
    let mut tracer = Tracer::of(&listener);
    for _ in 0..5 {
        TcpStream::connect(listener.address()).expect("it listens");
    }

    let leak = tracer.wait_for_leak_of(5);
    assert_eq!(leak["verdict"], "not-accepted");
    assert_eq!(
        leak["evidence"],
        json!({"accept_queue": 5, "backlog": 16, "listener": address})
    );
    assert_eq!(leak["process"]["pid"], listener.pid());
    assert_eq!(leak["process"]["comm"], "leaky");
    assert_eq!(leak["endpoint"], address);
    assert_eq!(leak["remote"], "127.0.0.1");
    assert!(leak["opener"].is_null(), "nobody has opened them: {leak:#}");
    let connection = &leak["connections"][0];
    assert_eq!(connection["local"], address);
    assert_eq!(connection["state"], "CLOSE_WAIT");
    assert_eq!(connection["inode"], 0);
    assert_eq!(connection["fds"], json!([]));
}

#[test]
fn connections_that_wait_while_their_clients_are_there_are_not_reported() {
    let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
    let mut tracer = Tracer::watch(&["--pid", &listener.pid_text(), "--all"]);
    let _clients = [(); 5].map(|()| TcpStream::connect(listener.address()).expect("it listens"));

    tracer.watch_for(std::time::Duration::from_secs(2));
    for report in tracer.reports() {
        assert_eq!(groups(report).count(), 0, "{report:#}");
    }
}
