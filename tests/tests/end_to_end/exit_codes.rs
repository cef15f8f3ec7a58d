//! What scripts rely on.

use std::time::Duration;

use crate::harness::{Fixture, Server, run};

#[test]
fn a_snapshot_without_leaks_ends_with_0() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();

    let finished = run(&["snapshot", "--pid", &client.pid_text()]);
    assert_eq!(finished.code(), 0, "{finished:?}");
}

#[test]
fn a_snapshot_with_leaks_ends_with_3() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();
    server.hang_up_on(1);
    std::thread::sleep(Duration::from_secs(1));

    let finished = run(&[
        "snapshot",
        "--pid",
        &client.pid_text(),
        "--min-age",
        "500ms",
    ]);
    assert_eq!(finished.code(), 3, "{finished:?}");
}

#[test]
fn watching_a_program_without_leaks_ends_with_0() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();

    let finished = run(&["--pid", &client.pid_text(), "--duration", "1s"]);
    assert_eq!(finished.code(), 0, "{finished:?}");
}

#[test]
fn watching_a_program_with_leaks_ends_with_3() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();
    server.hang_up_on(1);

    let finished = run(&[
        "--pid",
        &client.pid_text(),
        "--min-age",
        "500ms",
        "--duration",
        "2s",
    ]);
    assert_eq!(finished.code(), 3, "{finished:?}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for wrong in [
        ["--no-such-option", ""],
        ["--min-age", "soon"],
        ["--remote", "10.0.0.0/33"],
        ["--port", "65536"],
        ["--pid", "0"],
        ["--format", "yaml"],
        ["--interval", "1ms"],
    ] {
        let finished = run(&wrong);
        assert_eq!(finished.code(), 2, "{wrong:?}: {finished:?}");
        assert!(
            finished.stderr.contains(wrong[0]),
            "{wrong:?}: {finished:?}"
        );
        assert_eq!(finished.stdout, "", "{wrong:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let help = run(&["--help"]);
    assert_eq!(help.code(), 0);
    assert!(
        help.stdout.contains("--min-age") && help.stdout.contains("Examples:"),
        "{help:?}"
    );
    let version = run(&["--version"]);
    assert_eq!(version.code(), 0);
    assert!(version.stdout.starts_with("tcpleak "), "{version:?}");
}
