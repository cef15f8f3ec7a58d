//! `tcpleak snapshot`: one look, without tracing.

use std::{thread, time::Duration};

use crate::harness::{Fixture, Server, groups, has_qualifier, leaks, reset, run};

#[test]
fn a_snapshot_shows_what_is_leaked_now() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    let opened = client.go();
    server.hang_up_on(3);
    thread::sleep(Duration::from_secs(1));

    let arguments = [
        "snapshot",
        "--pid",
        &client.pid_text(),
        "--min-age",
        "500ms",
        "--format",
        "json",
    ];
    let finished = run(&arguments);
    assert_eq!(finished.code(), 3);
    let report = finished.document();
    let found: Vec<_> = leaks(&report).collect();
    let [leak] = found[..] else {
        panic!("not one leak: {report:#}")
    };
    assert_eq!(leak["verdict"], "eof-unread");
    assert!(has_qualifier(leak, "leak-or-idle-pool"), "{leak:#}");
    assert_eq!(leak["count"], 3);
    assert_eq!(
        leak["holders"][0]["fds"],
        serde_json::json!(opened.list::<u32>("fds"))
    );
    assert!(leak["growth_per_min"].is_null());
    assert!(leak["origin"].is_null());
    assert!(leak["opener"].is_null());
    assert_eq!(leak["age_kind"], "at_least");
}

#[test]
fn the_text_of_a_snapshot_names_the_process_the_count_and_the_endpoint() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "7"]);
    client.go();
    for _ in 0..7 {
        reset(server.accept());
    }

    let finished = run(&["snapshot", "--pid", &client.pid_text(), "--min-age", "0s"]);
    assert_eq!(finished.code(), 3);
    for word in [
        "leaky",
        &client.pid_text(),
        "7",
        "dead-fd",
        &server.address(),
    ] {
        assert!(
            finished.stdout.contains(word),
            "no {word}: {}",
            finished.stdout
        );
    }
    assert!(
        !finished.stdout.contains('\x1b'),
        "colour without a terminal: {}",
        finished.stdout
    );
}

#[test]
fn a_descriptor_that_has_been_dead_for_longer_than_min_age_is_a_leak_in_a_snapshot() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();
    reset(server.accept());
    thread::sleep(Duration::from_secs(2));

    let arguments = [
        "snapshot",
        "--pid",
        &client.pid_text(),
        "--min-age",
        "1s",
        "--format",
        "json",
    ];
    let finished = run(&arguments);
    let report = finished.document();
    assert_eq!(leaks(&report).count(), 1, "{report:#}");
    assert_eq!(finished.code(), 3);
}

#[test]
fn a_half_close_that_was_used_lately_is_hinted_at_in_a_snapshot() {
    let server = Server::start();
    let mut client = Fixture::start(&["keep-sending", &server.address()]);
    client.go();
    let connection = server.accept();
    connection
        .shutdown(std::net::Shutdown::Write)
        .expect("the client is there");
    let mut reader = connection.try_clone().expect("a connection can be cloned");
    thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    thread::sleep(Duration::from_secs(1));

    let arguments = [
        "snapshot",
        "--pid",
        &client.pid_text(),
        "--all",
        "--format",
        "json",
    ];
    let report = run(&arguments).document();
    let found: Vec<_> = groups(&report).collect();
    let [group] = found[..] else {
        panic!("not one group: {report:#}")
    };
    assert!(has_qualifier(group, "recently-sent"), "{group:#}");
    client.dismiss();
}
