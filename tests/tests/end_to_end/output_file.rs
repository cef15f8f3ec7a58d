//! `--output`.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Fixture, Server, command, finish, interrupt, leaks, patience, run};

#[test]
fn a_snapshot_is_written_to_the_output_file_and_nowhere_else() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    client.go();
    server.hang_up_on(3);
    std::thread::sleep(Duration::from_secs(1));
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let path = directory.path().join("report.json");
    fs::write(&path, "an old report").expect("the directory can be written");

    let path_text = path.to_str().expect("the path is UTF-8");
    let finished = run(&[
        "snapshot",
        "--pid",
        &client.pid_text(),
        "--min-age",
        "500ms",
        "--format",
        "json",
        "--output",
        path_text,
    ]);
    assert_eq!(finished.code(), 3);
    assert_eq!(finished.stdout, "");
    let text = fs::read_to_string(&path).expect("the report is there");
    let report: Value = serde_json::from_str(&text).expect("the report is one document");
    assert_eq!(
        leaks(&report).next().map(|leak| &leak["count"]),
        Some(&3.into())
    );
    let left = fs::read_dir(&directory)
        .expect("the directory is there")
        .count();
    assert_eq!(left, 1, "another file was left behind");
}

#[test]
fn the_output_file_never_holds_half_a_report() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let path = directory.path().join("report.txt");
    let path_text = path.to_str().expect("the path is UTF-8");
    let child = command(&[
        "--pid",
        &client.pid_text(),
        "--interval",
        "100ms",
        "--min-age",
        "0s",
        "--duration",
        "110s",
        "--output",
        path_text,
    ]);
    let mut child = { child }.spawn().expect("tcpleak can be started");

    let mut seen = Vec::new();
    let start = Instant::now();
    while seen.len() < 200 {
        assert!(child.try_wait().expect("it is a child").is_none());
        let reads = seen.len();
        assert!(start.elapsed() < patience(), "it was read {reads} times");
        std::thread::sleep(Duration::from_millis(10));
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        seen.push(text);
        // What it leaks from now on is another report.
        client.go();
        server.hang_up_on(1);
    }
    interrupt(&child);
    assert_eq!(finish(child).code(), 3);
    for text in &seen {
        assert!(text.ends_with('\n'), "half a report: {text:?}");
    }
    let last = fs::read_to_string(&path).expect("the final report is there");
    assert!(last.contains(&server.address()), "{last}");
}
