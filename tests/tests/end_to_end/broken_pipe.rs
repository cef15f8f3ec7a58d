//! `tcpleak | head -1`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use crate::harness::{Fixture, Server, command, finish, tcpleak_binary};

#[test]
fn tcpleak_ends_quietly_when_nobody_reads_on() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    for format in ["text", "ndjson"] {
        let arguments = [
            "--pid",
            &client.pid_text(),
            "--min-age",
            "0s",
            "--interval",
            "100ms",
            "--duration",
            "110s",
            "--format",
            format,
        ];
        let mut child = command(&arguments).spawn().expect("tcpleak can be started");
        let mut reader = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("there is a first line");
        assert_ne!(line, "", "{format}");
        drop(reader);
        // Something to report.
        client.go();
        server.hang_up_on(1);

        let finished = finish(child);
        assert_eq!(finished.stderr, "", "{format}");
        assert!([0, 3].contains(&finished.code()), "{format}: {finished:?}");
    }
}

#[test]
fn a_pipeline_with_head_ends_quietly() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    client.go();
    server.hang_up_on(3);
    std::thread::sleep(Duration::from_secs(1));
    let pipeline = r#""$0" snapshot --min-age 500ms --pid "$1" | head -1"#;
    let child = Command::new("sh")
        .args(["-c", pipeline])
        .arg(tcpleak_binary())
        .arg(client.pid_text())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");

    let finished = finish(child);
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn tcpleak_ends_when_nobody_reads_even_if_there_is_nothing_to_report() {
    let server = Server::start();
    let client = Fixture::start(&["connect", &server.address(), "1"]);
    let arguments = [
        "--pid",
        &client.pid_text(),
        "--interval",
        "100ms",
        "--duration",
        "110s",
    ];
    let mut child = command(&arguments).spawn().expect("tcpleak can be started");
    let mut reader = BufReader::new(child.stdout.take().expect("standard output is piped"));
    reader
        .read_line(&mut String::new())
        .expect("there is a first line");
    drop(reader);

    let finished = finish(child);
    assert_eq!(finished.stderr, "");
    assert_eq!(finished.code(), 0);
}
