//! curl as found in Debian.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::harness::{
    Program, Server, Tracer, answer_http_request, groups, installed, leaks, read_http_request,
};

#[test]
fn a_slow_download_whose_server_has_left_is_not_a_leak() {
    let server = Server::start();
    let mut tracer = Tracer::watch(&["--port", &server.port(), "--all", "--min-age", "3s"]);
    let url = format!("http://{}/", server.address());
    let mut command = Command::new(installed("curl", "curl"));
    command.args(["--silent", "--show-error", "--max-time", "60", "--limit-rate", "4k", &url]);
    let mut curl = Program::start(command.stdout(Stdio::null()));
    let connection = server.accept();
    assert!(read_http_request(&connection), "curl asks for a page");
    answer_http_request(&connection, &[b'x'; 40_000]).expect("curl is there");
    // All that was asked for waits in curl's kernel: the server is done.
    drop(connection);

    let group = tracer.wait_for_group("a download", |group| group["verdict"] == "half-close-in-use");
    assert_eq!(group["leak"], false);
    assert_eq!(group["evidence"]["reading"], 1);
    assert_eq!(group["process"]["comm"], "curl");
    while curl.is_running() {
        tracer.watch_for(Duration::from_millis(500));
    }
    for report in tracer.reports() {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
    let last = tracer.interrupt();
    assert_eq!(last.code, 0);
    assert_eq!(groups(last.last()).count(), 0, "{:#}", last.last());
}
