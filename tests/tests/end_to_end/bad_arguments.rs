//! Arguments that are well formed and cannot be obeyed.

use std::process::Command;

use crate::harness::run;

/// A process id that no process has: that of a child whose end has been noticed.
fn pid_of_nobody() -> String {
    let mut child = Command::new("true").spawn().expect("true can be run");
    child.wait().expect("true ends");
    child.id().to_string()
}

#[test]
fn a_pid_that_does_not_exist_is_named() {
    let pid = pid_of_nobody();
    for arguments in [&["--pid", &pid][..], &["snapshot", "--pid", &pid]] {
        let finished = run(arguments);
        assert_eq!(finished.code(), 1, "{finished:?}");
        assert!(finished.stderr.contains(&pid), "{finished:?}");
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn an_output_file_that_cannot_be_written_is_named_at_once() {
    let path = "/nonexistent/directory/report.json";
    for arguments in [
        &["--format", "json", "--output", path][..],
        &["--format", "ndjson", "--output", path],
        &["--output", path],
        &["snapshot", "--output", path],
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code(), 1, "{arguments:?}: {finished:?}");
        assert!(
            finished.stderr.contains(path),
            "{arguments:?}: {finished:?}"
        );
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
}
