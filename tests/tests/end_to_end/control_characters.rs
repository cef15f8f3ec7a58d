//! Hostile names.

use std::{fs, process::Command};

use serde_json::Value;

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
        assert!(!finished.stdout.contains(is_hostile), "{:?}", finished.stdout);
        assert!(!finished.stderr.contains(is_hostile), "{:?}", finished.stderr);
        let broken = finished.stdout.lines().any(|line| line.starts_with('y'));
        assert!(!broken, "a newline of the path came through: {:?}", finished.stdout);
    }
}

#[test]
fn control_characters_of_names_reach_neither_json_nor_who_decodes_it() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let server = Server::start();
    let client = hostile_client(&directory, &server);
    let pid = client.pid_text();
    Tracer::of(&client).wait_for_leak_of(1);
    let arguments = ["snapshot", "--pid", &pid, "--min-age", "0s", "--format", "json"];
    let finished = run(&arguments);
    assert!(!finished.stdout.contains(is_hostile), "{:?}", finished.stdout);
    let report = finished.document();
    assert_eq!(report["groups"][0]["process"]["pid"], client.pid());
    assert_no_hostile_strings(&report);
}

#[track_caller]
fn assert_no_hostile_strings(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.contains(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_no_hostile_strings),
        Value::Object(fields) => fields.values().for_each(assert_no_hostile_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
