//! How a watch ends.

use std::time::{Duration, Instant};

use crate::harness::{
    Finished, Fixture, Server, Tracer, command, finish, interrupt, leaks, patience, run,
};

#[test]
fn ctrl_c_gives_a_final_report() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(2);
    tracer.wait_for_leak_of(2);

    let before = tracer.reports().len();
    let ended = tracer.interrupt();
    assert_eq!(ended.code, 3);
    assert!(
        ended.reports.len() > before,
        "there was no report after Ctrl-C"
    );
    assert_eq!(
        leaks(ended.last()).next().map(|leak| &leak["count"]),
        Some(&2.into())
    );
    assert_eq!(ended.stderr, "");
}

#[test]
fn ctrl_c_gives_the_one_document_of_json() {
    let (finished, _) = interrupted(&["--format", "json"]);
    assert_eq!(finished.code(), 3);
    assert_eq!(
        leaks(&finished.document())
            .next()
            .map(|leak| &leak["count"]),
        Some(&2.into())
    );
}

#[test]
fn ctrl_c_ends_the_text_with_the_whole_report() {
    let (finished, address) = interrupted(&[]);
    assert_eq!(finished.code(), 3);
    let endpoints = finished.stdout.matches(&address).count();
    assert!(
        endpoints >= 2,
        "it is not in the first and in the final report: {finished:?}"
    );
}

/// Watches a client that leaks two connections, until Ctrl-C. Gives the address of its server too.
#[track_caller]
fn interrupted(options: &[&str]) -> (Finished, String) {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    client.go();
    server.hang_up_on(2);
    // Another tcpleak tells when the leak is old enough.
    Tracer::of(&client).wait_for_leak_of(2);
    let pid = client.pid_text();
    let mut watch = command(&["--pid", &pid, "--min-age", "500ms", "--duration", "110s"]);
    let child = watch.args(options).spawn().expect("tcpleak can be started");
    // Long enough to start, on a slow machine too.
    std::thread::sleep(patience() / 4);
    interrupt(&child);
    (finish(child), server.address())
}

#[test]
fn a_watch_with_a_duration_ends_by_itself() {
    let server = Server::start();
    let client = Fixture::start(&["connect", &server.address(), "1"]);
    let start = Instant::now();
    let finished = run(&["--pid", &client.pid_text(), "--duration", "2s"]);
    let took = start.elapsed();
    assert_eq!(finished.code(), 0);
    assert!(took >= Duration::from_secs(2), "it ended after {took:?}");
    let most = Duration::from_secs(2) + patience() / 3;
    assert!(took < most, "it ended after {took:?}");
}
