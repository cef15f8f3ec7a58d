//! nginx as found in Debian.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::harness::{
    Fixture, Nginx, Server, Tracer, answer_http_request, groups, installed, leaks,
    read_http_request,
};

/// Answers requests of nginx and closes what is idle for a moment. Returns the number of connections
/// that nginx has made.
fn serve_upstream(server: Server) -> Arc<AtomicUsize> {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    server.serve(move |connection| {
        count.fetch_add(1, Ordering::Relaxed);
        let patience = Some(Duration::from_millis(300));
        connection
            .set_read_timeout(patience)
            .expect("a read can have a time limit");
        while read_http_request(&connection)
            && answer_http_request(&connection, b"from upstream").is_ok()
        {}
    });
    made
}

/// Asks for a page and closes the connection.
fn fetch(port: u16) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("nginx listens");
    let request = "GET / HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n";
    connection
        .write_all(request.as_bytes())
        .expect("nginx is there");
    let mut response = String::new();
    connection
        .read_to_string(&mut response)
        .expect("nginx answers in UTF-8");
    response
}

#[test]
fn nginx_with_idle_connections_to_its_upstream_is_not_reported() {
    let upstream = Server::start();
    let address = upstream.address();
    let made = serve_upstream(upstream);
    let nginx = Nginx::start(
        &format!("upstream site {{ server {address}; keepalive 8; }}"),
        r#"location / { proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection ""; }"#,
    );
    let pids: Vec<String> = nginx
        .pids()
        .iter()
        .flat_map(|pid| ["--pid".to_owned(), pid.to_string()])
        .collect();
    let mut tracer = Tracer::watch(&pids.iter().map(String::as_str).collect::<Vec<_>>());

    // Bursts of four, so that upstream connections lie idle in between.
    for _ in 0..8 {
        let burst = [(); 4].map(|()| {
            thread::spawn({
                let port = nginx.port();
                move || fetch(port)
            })
        });
        for response in burst {
            let response = response.join().expect("nginx answers");
            assert!(response.ends_with("from upstream"), "{response:?}");
        }
        tracer.watch_for(Duration::from_millis(800));
    }
    assert!(
        made.load(Ordering::Relaxed) > 4,
        "the upstream closed no idle connection"
    );
    for report in tracer.reports() {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
    assert_eq!(tracer.interrupt().code, 0);
}

/// Keeps a connection to nginx after it has fetched a page over it.
const FORGETFUL: &str = r#"
import http.client, os, sys
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", "/")
print("length", len(connection.getresponse().read()), flush=True)
sys.stdin.read()
"#;

#[test]
fn a_client_that_nginx_hung_up_on_is_reported_and_nginx_is_not() {
    let nginx = Nginx::start(
        "keepalive_timeout 1s;",
        "location / { return 200 'hello'; }",
    );
    let port = nginx.port().to_string();
    let python = installed("python3", "python3");
    let mut client = Fixture::start_program(Command::new(python).args(["-c", FORGETFUL, &port]));
    let mut tracer = Tracer::watch(&["--port", &port]);
    assert_eq!(client.go().one::<usize>("length"), 5);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["endpoint"], format!("127.0.0.1:{port}"));
    for group in tracer.reports().iter().flat_map(groups) {
        assert_eq!(
            group["pids"],
            serde_json::json!([client.pid()]),
            "nginx is blamed: {group:#}"
        );
    }
}
