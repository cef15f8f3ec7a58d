//! `tcpleak run`: what counts as a leak of a command, and what does not.

use std::{ffi::OsStr, fs, io::Write, thread, time::Duration};

use serde_json::Value;

use crate::harness::{
    Run, RunEnded, Server, a_moment, assert_passes_through, fixture_binary, has_qualifier, leaks,
    patience, reset,
};

/// What a run writes when there is nothing to say.
const NOTHING: &str = "tcpleak: no connection was leaked.\n";

/// The only leak of a run.
#[track_caller]
fn only_leak(ended: &RunEnded) -> &Value {
    assert_eq!(ended.code, 3, "{ended:#?}");
    let found: Vec<&Value> = leaks(&ended.report).collect();
    let [leak] = found[..] else {
        panic!("there is one leak: {ended:#?}");
    };
    leak
}

#[test]
fn a_connection_that_stays_open_without_its_peer_fails_the_run() {
    let server = Server::start();
    let mut run = Run::leaky(&[], &["connect", &server.address(), "3"]);
    run.go();
    server.hang_up_on(3);
    thread::sleep(patience() / 10);
    let ended = run.end();
    let leak = only_leak(&ended);
    assert_eq!(leak["count"], 3);
    assert_passes_through(&leak["origin"], "leaky::connect::open_connection");
    assert!(
        ended.stderr.contains("3 leaked connections"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("open_connection"), "{}", ended.stderr);
    assert_eq!(ended.report["run"]["command_status"], 0);
}

#[test]
fn a_leak_that_only_the_end_of_its_process_closes_fails_the_run_however_short_it_was() {
    let server = Server::start();
    let mut run = Run::leaky(&["--min-age", "1h"], &["connect", &server.address(), "2"]);
    run.go();
    server.hang_up_on(2);
    thread::sleep(a_moment());
    let ended = run.end();
    let leak = only_leak(&ended);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["count"], 2);
    assert!(has_qualifier(leak, "closed-by-exit"), "{leak:#}");
    assert_passes_through(&leak["origin"], "leaky::connect::open_connection");
    assert_eq!(leak["age_kind"], "exact");
}

#[test]
fn how_long_a_peer_must_have_been_gone_at_the_end_can_be_chosen() {
    for (exit_age, code) in [("0s", 3), ("1h", 0)] {
        let server = Server::start();
        let options = ["--min-age", "1h", "--exit-age", exit_age];
        let mut run = Run::leaky(&options, &["connect", &server.address(), "1"]);
        run.go();
        server.hang_up_on(1);
        let ended = run.end();
        assert_eq!(ended.code, code, "{ended:#?}");
    }
}

#[test]
fn an_end_of_file_that_was_read_and_forgotten_fails_the_run_at_once() {
    let server = Server::start();
    let mut run = Run::leaky(
        &["--min-age", "1h"],
        &["connect-and-read", &server.address()],
    );
    let served = thread::spawn(move || server.hang_up_on(1));
    run.go();
    served.join().expect("a client came");
    let ended = run.end();
    let leak = only_leak(&ended);
    assert_eq!(leak["verdict"], "eof-ignored");
    assert!(has_qualifier(leak, "closed-by-exit"), "{leak:#}");
}

#[test]
fn a_descriptor_that_is_dead_when_its_process_ends_fails_the_run() {
    let server = Server::start();
    let mut run = Run::leaky(&["--min-age", "1h"], &["connect", &server.address(), "1"]);
    run.go();
    reset(server.accept());
    thread::sleep(a_moment());
    let ended = run.end();
    let leak = only_leak(&ended);
    assert_eq!(leak["verdict"], "dead-fd");
    assert_eq!(leak["evidence"]["reset"], 1, "{leak:#}");
}

#[test]
fn data_that_is_left_unread_when_a_process_ends_is_a_leak_of_a_live_connection_no_more() {
    let server = Server::start();
    let mut run = Run::leaky(&["--min-age", "1h"], &["connect", &server.address(), "1"]);
    run.go();
    let mut connection = server.accept();
    connection
        .write_all(b"unheard")
        .expect("the client is there");
    // The peer is there still: what ends is a healthy connection.
    let ended = run.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, NOTHING));
    drop(connection);

    let mut run = Run::leaky(&["--min-age", "1h"], &["connect", &server.address(), "1"]);
    run.go();
    let mut connection = server.accept();
    connection
        .write_all(b"unheard")
        .expect("the client is there");
    drop(connection);
    thread::sleep(a_moment());
    let ended = run.end();
    let leak = only_leak(&ended);
    assert_eq!(leak["verdict"], "reader-stuck");
    assert_eq!(leak["evidence"]["unread_bytes"], 7);
}

#[test]
fn what_a_pool_keeps_to_the_end_is_no_leak_while_its_peers_are_there() {
    let server = Server::start();
    let mut run = Run::leaky(&[], &["connect", &server.address(), "3"]);
    run.go();
    let connections: Vec<_> = (0..3).map(|_| server.accept()).collect();
    thread::sleep(Duration::from_secs(1));
    let ended = run.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, NOTHING));
    assert_eq!(ended.report["groups"], Value::Array(Vec::new()));
    drop(connections);
}

#[test]
fn what_is_closed_in_order_is_no_leak() {
    let server = Server::start();
    let address = server.address();
    server.serve(drop);
    let arguments = [
        "-c",
        "exec 3<>/dev/tcp/${0/:/\\/}; cat <&3; exec 3<&-; sleep 0.5",
        &address,
    ];
    let arguments = ["bash"].iter().chain(&arguments).map(OsStr::new);
    let ended = Run::start(&["--min-age", "0s"], arguments).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, NOTHING));
}

#[test]
fn a_leak_of_another_program_is_none_of_the_command() {
    let server = Server::start();
    let quiet = Server::start();
    let mut other = crate::harness::Fixture::start(&["connect", &server.address(), "1"]);
    let mut run = Run::leaky(&["--min-age", "0s"], &["connect", &quiet.address(), "1"]);
    other.go();
    server.hang_up_on(1);
    run.go();
    let connection = quiet.accept();
    thread::sleep(Duration::from_secs(1));
    let ended = run.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, NOTHING));
    drop(connection);
}

#[test]
fn a_process_that_leaves_its_parents_behind_is_followed_and_said_to_run_on() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let gate = directory.path().join("gate");
    // `setsid --fork` is over at once: what it started has neither its parent nor its session.
    let script = "setsid --fork \"$@\"; while [ ! -e \"$0\" ]; do sleep 0.1; done";
    let (leaky, address) = (fixture_binary("leaky"), server.address());
    let arguments = [
        OsStr::new("sh"),
        "-c".as_ref(),
        script.as_ref(),
        gate.as_ref(),
    ];
    let daemon = ["connect", &address, "1"].map(OsStr::new);
    let arguments = arguments
        .into_iter()
        .chain([leaky.as_os_str()])
        .chain(daemon);
    let mut run = Run::start(&[], arguments);
    let pid: u32 = run.facts().one("pid");
    run.go();
    server.hang_up_on(1);
    thread::sleep(patience() / 10);
    fs::write(&gate, "").expect("the directory is ours");
    let ended = run.end_leaving_some();
    let leak = only_leak(&ended);
    assert_eq!(leak["process"]["pid"], pid);
    assert_eq!(
        ended.report["run"]["still_running"][0]["pid"], pid,
        "{ended:#?}"
    );
    assert!(
        ended
            .stderr
            .contains("1 process that the command started still runs")
    );
}

#[test]
fn every_backend_follows_a_command() {
    for backend in ["tp_btf", "tracepoint"] {
        let server = Server::start();
        let leaky = fixture_binary("leaky");
        let address = server.address();
        let through_shell = ["sh", "-c", "\"$@\"; exit", "sh"].map(OsStr::new);
        let arguments = ["connect", &address, "1"].map(OsStr::new);
        let arguments = through_shell
            .into_iter()
            .chain([leaky.as_os_str()])
            .chain(arguments);
        let mut run = Run::start_as(&["--min-age", "1h"], arguments, |command| {
            command.env("TCPLEAK_FORCE_BACKEND", format!("lifecycle={backend}"));
        });
        run.facts();
        run.go();
        server.hang_up_on(1);
        thread::sleep(a_moment());
        let ended = run.end();
        assert!(
            has_qualifier(only_leak(&ended), "closed-by-exit"),
            "{backend}: {ended:#?}"
        );
    }
}
