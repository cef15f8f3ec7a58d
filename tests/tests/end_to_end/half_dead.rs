//! Connections that are no leaks and that nothing ends soon: told, each with what it rests on, and never
//! counted as leaks.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{
        Fixture, NetworkNamespace, Server, Tracer, assert_passes_through, groups, leaks, run,
    },
    sock_diag::{ALONE, SURVEY},
};

/// The best survey that the kernel has, sockets by sock_diag, and the latter without any tracing.
const WAYS: [&[(&str, &str)]; 3] = [&[], &[SURVEY], &[ALONE]];

/// Waits for a group with this verdict and count, and with a code path unless nothing is traced.
#[track_caller]
fn wait_for(tracer: &mut Tracer, way: &[(&str, &str)], verdict: &str, count: usize) -> Value {
    let group = tracer.wait_for_group(verdict, |group| {
        let told = way == [ALONE] || !group["origin"].is_null();
        group["verdict"] == verdict && group["count"] == count && told
    });
    assert_eq!(group["leak"], false);
    group
}

/// Fails when a watch found leaks, or ended as if it had.
#[track_caller]
fn assert_no_leak(tracer: Tracer) {
    let ended = tracer.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for report in &ended.reports {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
}

#[test]
fn a_connection_that_is_shut_down_and_that_the_peer_never_closes_is_half_dead() {
    for way in WAYS {
        let server = Server::start();
        let mut client = Fixture::start(&["ask-and-forget", &server.address(), "2"]);
        let mut tracer = Tracer::watch_with(way, &["--pid", &client.pid_text()]);
        let opened = client.go();
        let _kept = [server.accept(), server.accept()];

        let group = wait_for(&mut tracer, way, "fin-wait2-held", 2);
        assert_eq!(group["endpoint"], server.address());
        assert_eq!(group["process"]["pid"], client.pid());
        assert_eq!(group["holders"][0]["fds"], json!(opened.list::<u32>("fds")));
        assert_eq!(group["connections"][0]["state"], "FIN_WAIT2");
        assert_eq!(group["evidence"]["unread_bytes_total"], 0);
        assert!(group["evidence"]["last_data_s"].as_f64() >= Some(0.4));
        if way != [ALONE] {
            assert_eq!(group["age_kind"], "exact");
            assert_passes_through(&group["origin"], "leaky::half_dead::ask");
        }
        assert_no_leak(tracer);
    }
}

#[test]
fn a_closed_connection_whose_peer_does_not_take_the_rest_is_put_down_to_who_opened_it() {
    for way in WAYS {
        let server = Server::start();
        let mut client = Fixture::start(&["send-and-close", &server.address(), "2"]);
        let (port, pid) = (server.port(), client.pid_text());
        let only: [&str; 2] = match way {
            [ALONE] => ["--port", &port],
            _ => ["--pid", &pid],
        };
        let mut tracer = Tracer::watch_with(way, &only);
        client.go();
        let _unread = [server.accept(), server.accept()];

        // The server has its own trouble with the data that it does not read.
        let group = wait_for(&mut tracer, way, "orphaned", 2);
        assert_eq!(group["endpoint"], server.address());
        assert_eq!(group["holders"], json!([]));
        assert_eq!(group["connections"][0]["state"], "FIN_WAIT1");
        let bytes = |field: &str| group["evidence"][field].as_u64().expect("a number");
        assert!(bytes("unacknowledged_bytes") > 0, "{group:#}");
        assert!(bytes("unacknowledged_bytes_total") > bytes("unacknowledged_bytes"));
        if way == [ALONE] {
            assert!(group["process"]["pid"].is_null());
        } else {
            assert_eq!(group["process"]["pid"], client.pid());
            assert_eq!(group["age_kind"], "exact");
            assert_passes_through(&group["origin"], "leaky::half_dead::fill");
            assert_no_leak(tracer);
        }
    }
}

#[test]
fn attempts_to_connect_that_nobody_answers_pile_up() {
    for way in WAYS {
        let namespace = NetworkNamespace::new();
        namespace.swallow("10.99.0.2");
        let mut client =
            namespace.enter(|| Fixture::start(&["begin-and-forget", "10.99.0.2:80", "3"]));
        let mut tracer = Tracer::watch_with(way, &["--pid", &client.pid_text()]);
        client.go();
        wait_for(&mut tracer, way, "syn-sent", 3);
        client.go();
        let group = wait_for(&mut tracer, way, "syn-sent", 6);
        assert_eq!(group["endpoint"], "10.99.0.2:80");
        assert_eq!(group["process"]["pid"], client.pid());
        assert_eq!(group["process"]["netns"], namespace.inode());
        assert_eq!(group["holders"][0]["fds_total"], 6);
        assert_eq!(group["connections"][0]["state"], "SYN_SENT");
        if way != [ALONE] {
            assert_eq!(group["age_kind"], "exact");
            assert_passes_through(&group["origin"], "leaky::half_dead::begin");
        }
        tracer.wait_for_group("a SYN that was sent again", |group| {
            group["evidence"]["retransmits"].as_u64() > Some(0)
        });
        assert_no_leak(tracer);
    }
}

#[test]
fn a_pool_that_only_grows_is_told_with_its_code_to_who_asks_for_open_connections() {
    for way in WAYS {
        let server = Server::start();
        let address = server.address();
        let mut client = Fixture::start(&["connect", &address, "2"]);
        let pid = client.pid_text();
        let mut tracer = Tracer::watch_with(way, &["--pid", &pid, "--open", "1s"]);
        let mut kept = Vec::new();
        for count in [2, 4] {
            client.go();
            kept.extend([server.accept(), server.accept()]);
            let group = wait_for(&mut tracer, way, "open-idle", count);
            assert_eq!(group["endpoint"], address);
            assert_eq!(group["process"]["pid"], client.pid());
            assert_eq!(group["age_kind"], "exact");
            assert_eq!(group["connections"][0]["state"], "ESTABLISHED");
            assert!(group["evidence"]["idle_s"].as_f64() >= Some(1.0));
            if way != [ALONE] {
                assert_passes_through(&group["origin"], "leaky::connect::open_connections");
            }
        }
        // One that is used again is not idle.
        kept[0].write_all(b"push").expect("the client is there");
        wait_for(&mut tracer, way, "open-idle", 3);
        assert_no_leak(tracer);
    }
}

#[test]
fn a_snapshot_shows_what_has_been_idle_for_long_enough() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::watch(&["--pid", &client.pid_text(), "--open", "1s"]);
    client.go();
    let _kept = [server.accept(), server.accept()];
    wait_for(&mut tracer, &[], "open-idle", 2);

    let snapshot = |open: &[&str]| {
        let pid = client.pid_text();
        let arguments = ["snapshot", "--format", "json", "--pid", &pid];
        let snapshot = run(&[&arguments, open].concat());
        assert_eq!(snapshot.code(), 0, "{snapshot:?}");
        snapshot.document()
    };
    let found = snapshot(&["--open", "1s"]);
    let found: Vec<&Value> = groups(&found).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["verdict"], "open-idle");
    assert_eq!(found[0]["count"], 2);
    for open in [&["--open", "1h"][..], &["--all"]] {
        assert_eq!(snapshot(open)["groups"], json!([]));
    }
}

/// Asks, ends its half, and reads the answer to its end.
fn visit(server: SocketAddr) {
    let mut connection = TcpStream::connect(server).expect("it listens");
    connection.write_all(b"visit").expect("the server is there");
    connection
        .shutdown(Shutdown::Write)
        .expect("the server is there");
    let mut answer = Vec::new();
    connection
        .read_to_end(&mut answer)
        .expect("the server answers");
    assert_eq!(answer, b"answer");
}

/// Answers visitors, and keeps who wants something else waiting for ever.
fn answer(mut connection: TcpStream) {
    let mut asked = Vec::new();
    match connection.read_to_end(&mut asked) {
        Ok(_) if asked == b"visit" => connection
            .write_all(b"answer")
            .expect("the visitor is there"),
        _ => std::mem::forget(connection),
    }
}

#[test]
fn a_busy_server_and_its_clients_show_nothing_of_this() {
    let server = Server::start();
    let (address, port) = (server.socket_address(), server.port());
    let mut client = Fixture::start(&["ask-and-forget", &address.to_string(), "1"]);
    let mut tracer = Tracer::watch(&["--port", &port, "--min-age", "3s", "--open", "5s"]);
    server.serve(answer);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    visit(address);
                    // Ports come back after a minute only.
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        tracer.watch_for(Duration::from_secs(6));
        done.store(true, Ordering::Relaxed);
    });
    for report in tracer.reports() {
        assert_eq!(report["groups"], json!([]), "{report:#}");
    }
    // It would have been seen.
    client.go();
    wait_for(&mut tracer, &[], "fin-wait2-held", 1);
}
