//! How leaked connections were used last.

use std::io::{Read, Write};

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, passes_through, title,
};

/// Watches a program ask a question on each of `count` connections, all of them at once and never
/// again; returns the leak.
fn watch_asking(flags: &[&str], count: usize) -> Value {
    let server = Server::start();
    let program = Compiled::c("asks", flags);
    let mut client = program.start(&[&server.address(), &count.to_string()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    for _ in 0..count {
        let mut connection = server.accept();
        let mut question = [0; 8];
        connection.read_exact(&mut question).expect("a question");
        connection
            .write_all(b"answered")
            .expect("the client is there");
    }
    client.facts();
    tracer.wait_for_titled_leak_of(count)
}

#[test]
fn a_burst_that_happens_once_has_both_its_origin_and_its_last_use() {
    let leak = watch_asking(&["-g"], 20);
    assert_own_functions(&leak["origin"], &["open_connection", "ask", "main"]);
    assert_complete(&leak["origin"]);
    assert_eq!(leak["origin"]["kind"], "connect");
    // Who opened it is to blame, whoever used it last.
    assert_eq!(title(&leak), "open_connection");
    assert_eq!(leak["title"]["path"], "origin");

    let write = &leak["last_use"]["write"];
    assert_own_functions(write, &["send_question", "ask", "main"]);
    assert_complete(write);
    assert_eq!(write["kind"], "write");
}

#[test]
fn the_last_read_of_an_ignored_end_of_file_is_the_one_that_returned_it() {
    let leak = watch_asking(&["-g"], 20);
    assert_eq!(leak["verdict"], "eof-ignored");
    let read = &leak["last_use"]["read"];
    assert_own_functions(read, &["expect_end", "ask", "main"]);
    assert_complete(read);
    assert_eq!(read["kind"], "read");
    assert!(!passes_through(read, "read_answer"), "{leak:#}");
    assert_eq!(leak["last_use"]["direction"], "read");
}

#[test]
fn a_connection_that_was_never_used_has_no_last_use() {
    let server = Server::start();
    let program = Compiled::c("forgets", &[]);
    let mut client = program.start(&[&server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    client.facts();
    let leak = tracer.wait_for_titled_leak_of(2);
    assert!(leak["last_use"].is_null(), "{leak:#}");
}
