//! curl as found in Debian.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::harness::{
    NetworkNamespace, Program, Server, Tracer, answer_http_request, groups, installed, leaks,
    read_http_request,
};

/// Bytes to download: some seconds of the slow reader.
const SIZE: usize = 1_000_000;

#[test]
fn a_download_into_a_slow_pipe_whose_server_has_left_is_not_a_leak() {
    let namespace = NetworkNamespace::new();
    let server = namespace.enter(|| {
        // The kernel of the client takes all of it at once, and the FIN behind it.
        fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 4194304 8388608")
            .expect("root may set this");
        Server::start()
    });
    let port = server.port();
    let mut tracer = Tracer::watch(&[
        "--comm",
        "curl",
        "--port",
        &port,
        "--all",
        "--min-age",
        "3s",
    ]);
    let url = format!("http://{}/", server.address());
    let mut command = Command::new(installed("curl", "curl"));
    command.args(["--silent", "--show-error", "--max-time", "60", &url]);
    command.stdout(Stdio::piped());
    let mut curl = namespace.enter(|| Program::start(&mut command));
    let mut page = curl.output();
    let connection = server.accept();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 16_384];
        let mut total = 0;
        loop {
            match page.read(&mut buffer).expect("a pipe can be read") {
                0 => return total,
                length => total += length,
            }
            thread::sleep(Duration::from_millis(150));
        }
    });
    assert!(read_http_request(&connection), "curl asks for a page");
    answer_http_request(&connection, &[b'x'; SIZE]).expect("curl is there");
    drop(connection);

    let group = tracer.wait_for_group("a download", |group| {
        group["verdict"] == "half-close-in-use"
    });
    assert_eq!(group["leak"], false);
    assert_eq!(group["evidence"]["reading"], 1);
    assert_eq!(group["process"]["comm"], "curl");
    while curl.is_running() {
        tracer.watch_for(Duration::from_millis(500));
    }
    assert_eq!(reader.join().expect("the reader does not panic"), SIZE);
    for report in tracer.reports() {
        assert_eq!(leaks(report).count(), 0, "{report:#}");
    }
    let last = tracer.interrupt();
    assert_eq!(last.code, 0);
    assert_eq!(groups(last.last()).count(), 0, "{:#}", last.last());
}
