//! Python as found in Debian.

use std::process::Command;

use crate::harness::{
    Fixture, Server, Tracer, answer_http_request, assert_complete, assert_passes_in_order,
    assert_runs_in, installed, read_http_request,
};

/// Fetches a page over a connection of its own, five times, and keeps the connections: the server
/// may close them, as it may close any connection between two requests.
const KEEPS_CONNECTIONS: &str = r#"
import http.client, os, sys
port = int(sys.argv[1])
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
connections = []
def fetch(path):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connections.append(connection)
    connection.request("GET", path)
    return connection.getresponse().read()
for number in range(5):
    assert fetch(f"/{number}") == b"a page"
print("fds", ",".join(str(c.sock.fileno()) for c in connections), flush=True)
sys.stdin.read()
"#;

/// Asks for a page and never reads it.
const NEVER_READS: &str = r#"
import os, sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/"
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
response = urllib.request.urlopen(url)
print("status", response.status, flush=True)
sys.stdin.read()
"#;

/// Opens a connection some functions deep, and forgets it.
const OPENS_A_SOCKET: &str = r#"
import os, socket, sys
print("pid", os.getpid(), flush=True)
sys.stdin.readline()
def connect(port):
    return socket.create_connection(("127.0.0.1", port))
def fetch(port):
    return [connect(number) for number in [port]]
connections = fetch(int(sys.argv[1]))
print("fds", connections[0].fileno(), flush=True)
sys.stdin.read()
"#;

fn start(script: &str, port: &str) -> Fixture {
    Fixture::start_program(Command::new(installed("python3", "python3")).args(["-c", script, port]))
}

#[test]
fn a_python_program_that_keeps_the_connections_of_its_http_client_is_found() {
    let server = Server::start();
    let mut client = start(KEEPS_CONNECTIONS, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    let connections = [(); 5].map(|()| {
        let connection = server.accept();
        assert!(read_http_request(&connection), "Python asks for a page");
        answer_http_request(&connection, b"a page").expect("Python is there");
        connection
    });
    let opened = client.facts();
    drop(connections);

    let leak = tracer.wait_for_leak_of(5);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_eq!(leak["process"]["comm"], "python3");
    assert_eq!(leak["opener"]["pid"], client.pid());
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    assert_eq!(leak["endpoint"], server.address());
    assert_eq!(leak["origin"]["kind"], "connect");
}

#[test]
fn a_python_program_that_never_reads_a_response_is_a_stuck_reader() {
    let server = Server::start();
    let mut client = start(NEVER_READS, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    let connection = server.accept();
    assert!(read_http_request(&connection), "Python asks for a page");
    answer_http_request(&connection, &[b'x'; 40_000]).expect("Python is there");
    drop(connection);
    assert_eq!(client.facts().one::<u16>("status"), 200);

    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert!(
        leak["evidence"]["unread_bytes"].as_u64() > Some(1000),
        "{leak:#}"
    );
    assert_eq!(leak["process"]["pid"], client.pid());
}

#[test]
fn the_frames_below_those_of_python_reach_the_root() {
    let server = Server::start();
    let mut client = start(OPENS_A_SOCKET, &server.port());
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();

    let leak = tracer.wait_for_leak_with_origin();
    let origin = &leak["origin"];
    assert_complete(origin);
    // Functions of Python take the place of what evaluates them; below them the interpreter runs.
    assert_passes_in_order(origin, &["connect", "fetch", "<module>", "Py_BytesMain"]);
    assert_runs_in(origin, &installed("python3", "python3"));
}
