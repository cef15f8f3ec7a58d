//! Programs that are not any more what they were when they opened their connections.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_complete, assert_own_functions,
    assert_passes_in_order, installed, title, wait_until, watch_forgetting,
};

/// The own functions of `forgets` on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

/// The own functions of `replaces_itself` on the way to connect(), innermost first.
const BEFORE: [&str; 3] = ["open_connection", "prepare", "main"];

/// Starts the program that leaks a connection and then becomes `cat`.
fn start(server: &Server) -> (Fixture, Tracer) {
    let program = Compiled::c("replaces_itself", &["-g"]);
    let cat = installed("cat", "coreutils");
    let cat = cat.to_str().expect("the path is UTF-8");
    let client = program.start(&[&server.address(), cat]);
    let tracer = Tracer::of(&client);
    (client, tracer)
}

/// Lets the program become `cat`, and waits until it is.
fn become_another(client: &mut Fixture) {
    client.tell();
    let name = format!("/proc/{}/comm", client.pid());
    wait_until("the program is another", || {
        fs::read_to_string(&name).is_ok_and(|name| name == "cat\n")
    });
}

#[test]
fn a_program_that_becomes_another_before_its_peer_leaves_is_named_as_it_was() {
    let server = Server::start();
    let (mut client, mut tracer) = start(&server);
    client.go();
    // Long enough to see what the code of the connection is, and too early for a leak.
    tracer.watch_for(Duration::from_secs(1));
    become_another(&mut client);
    server.hang_up_on(1);

    let leak = tracer.wait_for_titled_leak_of(1);
    assert_own_functions(&leak["origin"], &BEFORE);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    assert_eq!(leak["process"]["pid"], client.pid());
    let file = leak["title"]["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("fixtures/c/replaces_itself.c"), "{leak:#}");
}

#[test]
fn a_leak_that_was_reported_keeps_its_names_when_the_program_becomes_another() {
    let server = Server::start();
    let (mut client, mut tracer) = start(&server);
    client.go();
    server.hang_up_on(1);
    tracer.wait_for_titled_leak_of(1);
    become_another(&mut client);
    tracer.watch_for(Duration::from_secs(1));

    let ended = tracer.interrupt();
    assert_eq!(ended.code, 3);
    let leak = &ended.last()["groups"][0];
    assert_eq!(leak["process"]["comm"], "cat");
    assert_own_functions(&leak["origin"], &BEFORE);
    assert_complete(&leak["origin"]);
    assert_eq!(title(leak), "open_connection");
}

/// Starts a copy of `forgets`, and does something to its file before anything is traced.
fn watch_after(change: impl FnOnce(&Path)) {
    let program = Compiled::c("forgets", &["-g"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let path = directory.path().join("forgets");
    fs::copy(program.path(), &path).expect("the directory is ours");
    let start = |address: &str| {
        let fixture = Fixture::start_program(Command::new(&path).args([address, "2"]));
        fs::remove_file(&path).expect("it was just written");
        change(&path);
        fixture
    };
    let leak = watch_forgetting(start, 2);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    let frame = assert_passes_in_order(&leak["origin"], &OWN)[1];
    let line = program.line_of("int connection = open_connection(to);");
    assert_eq!(frame["line"], line, "{frame:#}");
}

#[test]
fn a_program_that_was_deleted_from_disk_is_named() {
    watch_after(|_| ());
}

#[test]
fn a_program_that_was_updated_on_disk_is_named_as_it_runs() {
    let newer = Compiled::c("asks", &["-g"]);
    watch_after(|path| {
        fs::copy(newer.path(), path).expect("its place is free");
    });
}
