//! Hostile names.

use std::{fs, process::Command};

use crate::harness::{Fixture, Server, Tracer, fixture_binary, run};

/// A terminal that sees this turns red, loses a line, and more. The last character is the C1 form
/// of an escape sequence's begin.
const HOSTILE_NAME: &str = "\x1b[31m\r\n\x07\u{9b}2J";

/// A part of a path that does the same.
const HOSTILE_DIRECTORY: &str = "le\x1b[2Jak\ny\r\u{9b}31m\u{202e}";

/// A process whose name, path and arguments are hostile, and that leaks.
fn hostile_client(directory: &tempfile::TempDir, server: &Server) -> Fixture {
    let home = directory.path().join(HOSTILE_DIRECTORY);
    fs::create_dir(&home).expect("any name is allowed");
    let program = home.join("leaky\x1b]0;owned\x07");
    fs::copy(fixture_binary("leaky"), &program).expect("the fixture can be copied");
    let address = server.address();
    let arguments = ["--name", HOSTILE_NAME, "connect", &address, "1"];
    let mut client = Fixture::start_program(Command::new(&program).args(arguments));
    client.go();
    server.hang_up_on(1);
    client
}

fn is_hostile(character: char) -> bool {
    character.is_control() && character != '\n' || character == '\u{202e}'
}

#[test]
fn control_characters_of_names_never_reach_the_text() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let server = Server::start();
    let client = hostile_client(&directory, &server);
    let pid = client.pid_text();
    Tracer::of(&client).wait_for_leak_of(1);
    for arguments in [
        &["snapshot", "--pid", &pid, "--min-age", "0s"][..],
        &["--pid", &pid, "--min-age", "0s", "--duration", "1s"],
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code(), 3);
        assert!(finished.stdout.contains(&pid), "{finished:?}");
        assert!(
            !finished.stdout.contains(is_hostile),
            "{:?}",
            finished.stdout
        );
        assert!(
            !finished.stderr.contains(is_hostile),
            "{:?}",
            finished.stderr
        );
        let broken = finished.stdout.lines().any(|line| line.starts_with('y'));
        assert!(
            !broken,
            "a newline of the path came through: {:?}",
            finished.stdout
        );
    }
}

#[test]
fn control_characters_of_names_are_escaped_in_json_and_not_lost() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let server = Server::start();
    let client = hostile_client(&directory, &server);
    let pid = client.pid_text();
    Tracer::of(&client).wait_for_leak_of(1);
    for arguments in [
        &[
            "snapshot",
            "--pid",
            &pid,
            "--min-age",
            "0s",
            "--format",
            "json",
        ][..],
        &[
            "snapshot",
            "--pid",
            &pid,
            "--min-age",
            "0s",
            "--format",
            "ndjson",
        ],
    ] {
        let finished = run(arguments);
        assert!(
            !finished.stdout.contains(is_hostile),
            "{:?}",
            finished.stdout
        );
        let process = &finished.document()["groups"][0]["process"];
        assert_eq!(process["comm"], HOSTILE_NAME);
        assert!(
            process["exe"]
                .as_str()
                .is_some_and(|exe| exe.contains(HOSTILE_DIRECTORY)),
            "{process}"
        );
        assert_eq!(process["cmdline"][2], HOSTILE_NAME);
    }
}
