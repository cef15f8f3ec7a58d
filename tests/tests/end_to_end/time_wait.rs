//! Who the sockets in TIME_WAIT belong to, although the kernel has forgotten it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{
    Fixture, NetworkNamespace, Nginx, Program, Server, Tracer, installed, passes_through, run,
    wait_until,
};

/// The rows about this namespace.
fn rows<'a>(report: &'a Value, namespace: &NetworkNamespace) -> Vec<&'a Value> {
    let inode = namespace.inode();
    let rows = report["time_wait"].as_array().expect("there is a list");
    rows.iter().filter(|row| row["netns"] == inode).collect()
}

fn count(rows: &[&Value]) -> u64 {
    let counts = rows
        .iter()
        .map(|row| row["count"].as_u64().expect("a number"));
    counts.sum()
}

fn of_curl<'a>(rows: &[&'a Value]) -> Vec<&'a Value> {
    let of_curl = |row: &&Value| row["process"]["comm"] == "curl";
    rows.iter().copied().filter(of_curl).collect()
}

/// How many processes these rows are of.
fn processes(rows: &[&Value]) -> Option<u64> {
    rows.iter().map(|row| row["pids_total"].as_u64()).sum()
}

/// Waits until there are so many in this namespace, and returns their rows.
#[track_caller]
fn wait_for(tracer: &mut Tracer, namespace: &NetworkNamespace, number: u64) -> Vec<Value> {
    let what = format!("{number} sockets in TIME_WAIT");
    let report = tracer.wait_for_report(&what, |report| count(&rows(report, namespace)) >= number);
    rows(&report, namespace).into_iter().cloned().collect()
}

/// Most rows of a report.
const ROWS_LISTED: usize = 50;

/// A server that reads and closes when its client has, in a namespace.
fn serve(namespace: &NetworkNamespace, address: &str) -> String {
    namespace.enter(|| {
        let server = Server::start_at(address);
        let address = server.address();
        server.serve(|connection| {
            // However it ends, the connection ends with it.
            let _ = std::io::copy(&mut &connection, &mut std::io::sink());
        });
        address
    })
}

fn client(namespace: &NetworkNamespace, arguments: &[&str]) -> Fixture {
    namespace.enter(|| Fixture::start(arguments))
}

#[test]
fn a_client_that_closes_first_owns_its_time_wait_with_its_code() {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let server = serve(&namespace, "127.0.0.1:0");
    let mut client = client(&namespace, &["close-first", &server, "50"]);
    let mut tracer = Tracer::of_ports();
    client.go();
    let rows = wait_for(&mut tracer, &namespace, 50);
    assert_eq!(namespace.time_wait(), 50);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let row = &rows[0];
    assert_eq!(row["count"], 50);
    assert_eq!(row["pids"][0], client.pid());
    assert_eq!(row["process"]["comm"], "leaky");
    assert_eq!(row["remote"], server);
    assert_eq!(row["local"], "127.0.0.1");
    assert_eq!(row["older_than_tracer"], 0);
    assert!(
        passes_through(&row["origin"], "leaky::connect::open_connection"),
        "{row:#}"
    );
    assert_eq!(row["close"], Value::Null);
}

#[test]
fn it_is_the_same_over_ipv6() {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let server = serve(&namespace, "[::1]:0");
    let mut client = client(&namespace, &["close-first", &server, "20"]);
    let mut tracer = Tracer::of_ports();
    client.go();
    let rows = wait_for(&mut tracer, &namespace, 20);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["local"], "::1");
    assert_eq!(rows[0]["pids"][0], client.pid());
}

#[test]
fn a_server_that_closes_first_owns_it_with_the_code_that_closes() {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let mut server = client(&namespace, &["accept-and-close-first", "127.0.0.1:0", "30"]);
    let at = server.address();
    let mut tracer = Tracer::of_ports();
    server.tell();
    for _ in 0..30 {
        namespace.enter(|| {
            let connection = std::net::TcpStream::connect(at).expect("it listens");
            std::io::copy(&mut &connection, &mut std::io::sink()).expect("it closes");
        });
    }
    server.facts();
    let rows = wait_for(&mut tracer, &namespace, 30);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let row = &rows[0];
    assert_eq!(row["pids"][0], server.pid());
    assert_eq!(row["local"], at.to_string());
    assert_eq!(row["remote"], Value::Null, "the clients' ports differ");
    assert!(
        passes_through(&row["close"], "leaky::closing::close_first"),
        "{row:#}"
    );
    assert_eq!(row["origin"], Value::Null);
}

#[test]
fn what_is_older_than_tcpleak_is_shown_as_such() {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let server = serve(&namespace, "127.0.0.1:0");
    let mut before = client(&namespace, &["close-first", &server, "20"]);
    before.go();
    wait_until("all wait", || namespace.time_wait() == 20);
    let mut after = client(&namespace, &["close-first", &server, "10"]);
    let mut tracer = Tracer::of_ports();
    after.go();
    let rows = wait_for(&mut tracer, &namespace, 30);
    let old: Vec<&Value> = rows.iter().filter(|row| row["process"].is_null()).collect();
    assert_eq!(old.len(), 1, "{rows:#?}");
    assert_eq!(
        (&old[0]["count"], &old[0]["older_than_tracer"]),
        (&20.into(), &20.into())
    );
    let own = rows.iter().find(|row| row["pids"][0] == after.pid());
    assert_eq!(own.expect("the later ones are known")["count"], 10);
}

#[test]
fn once_everything_is_older() {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let server = serve(&namespace, "127.0.0.1:0");
    let mut client = client(&namespace, &["close-first", &server, "20"]);
    client.go();
    let finished = run(&["time-wait", "--once", "--format", "json"]);
    assert_eq!(finished.code(), 0);
    let document = finished.document();
    let rows = rows(&document, &namespace);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["older_than_tracer"], 20);
    assert_eq!(rows[0]["process"], Value::Null);
    let text = run(&["time-wait", "--once"]).stdout;
    assert!(text.contains("older than tcpleak"), "{text}");
    assert!(text.contains("without --once"), "{text}");
}

#[test]
fn runs_of_curl_against_nginx_are_counted_as_the_kernel_counts_them() {
    const RUNS: usize = 50;
    let namespace = NetworkNamespace::that_keeps_time_wait();
    let nginx = namespace.enter(|| Nginx::start("", "location / { return 204; }"));
    let mut tracer = Tracer::of_ports();
    // Whoever asked whether nginx listens has closed first too.
    let before = namespace.time_wait();
    let url = format!("http://127.0.0.1:{}/", nginx.port());
    for _ in 0..RUNS {
        let mut command = Command::new(installed("curl", "curl"));
        command.args(["--silent", "--max-time", "20", &url]);
        let mut curl = namespace.enter(|| Program::start(&mut command));
        wait_until("curl ends", || !curl.is_running());
    }
    let total = namespace.time_wait();
    assert!(total >= before + RUNS, "curl closes first: {total}");
    // Who closes is counted before the sockets are, so that a report made meanwhile may have a socket more than
    // processes; and it may be read only now.
    let report = tracer.wait_for_report("what curl left behind, each by a process", |report| {
        let rows = rows(report, &namespace);
        let of_curl = of_curl(&rows);
        let counted = count(&of_curl);
        counted + 1 >= RUNS as u64 && processes(&of_curl) == Some(counted)
    });
    let rows = rows(&report, &namespace);
    let of_curl = of_curl(&rows);
    let counted = count(&of_curl);
    assert!(
        counted.abs_diff(RUNS as u64) <= 1,
        "{counted} of {RUNS}: {rows:#?}"
    );
    // Where the path that opens was not sampled, because so much else went on, that which closes may be.
    assert!(
        of_curl
            .iter()
            .all(|row| !row["origin"].is_null() || !row["close"].is_null()),
        "{rows:#?}"
    );
    // Rows without a name come last, and those of whatever else runs here may have left no place for them.
    let listed = report["time_wait"].as_array().map(Vec::len);
    if listed.is_some_and(|listed| listed < ROWS_LISTED) {
        assert_eq!(count(&rows), total as u64);
    }
}
