//! Ruby as found in Debian: methods and blocks are named.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{
    Fixture, Server, Tracer, answer_http_request, assert_own_functions, assert_passes_in_order,
    installed, read_http_request,
};

const CRAWLER: &str = include_str!("../../fixtures/ruby/crawler.rb");

/// Line of the crawler that holds this text.
fn line_of(text: &str) -> u64 {
    let found = CRAWLER.lines().position(|line| line.contains(text));
    found.expect("it is in the crawler") as u64 + 1
}

fn opened_by(leak: &Value, count: u64) -> bool {
    leak["leak"] == true && leak["count"] == count && !leak["origin"].is_null()
}

#[test]
fn the_methods_of_a_ruby_program_are_named_with_file_and_line() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("there is room for a script");
    let script = directory.path().join("crawler.rb");
    fs::write(&script, CRAWLER).expect("there is room for a script");
    let mut client = Fixture::start_program(
        Command::new(installed("ruby", "ruby"))
            .arg(&script)
            .arg(server.port()),
    );
    let mut tracer = Tracer::of(&client);
    client.tell();
    let connections = [(); 3].map(|()| {
        let connection = server.accept();
        assert!(read_http_request(&connection), "Ruby asks for a page");
        answer_http_request(&connection, b"a page").expect("Ruby is there");
        connection
    });
    assert_eq!(client.facts().one::<u16>("fetched"), 3);
    drop(connections);

    let leak = tracer.wait_for_group("two connections of the main thread", |group| {
        opened_by(group, 2)
    });
    let origin = &leak["origin"];
    let expected = ["fetch", "block in crawl", "crawl", "<main>"];
    assert_own_functions(origin, &expected);
    let frames = assert_passes_in_order(
        origin,
        &[
            "start",
            "fetch",
            "block in crawl",
            "crawl",
            "<main>",
            "_start",
        ],
    );
    assert_eq!(frames[0]["own"], false, "it is of Ruby's own library");
    for (frame, text) in
        frames[1..]
            .iter()
            .zip(["client.start", "fetch(page)", "pages.each", "crawler.crawl"])
    {
        assert_eq!(frame["runtime"], "ruby", "{origin:#}");
        assert_eq!(frame["line"], line_of(text), "{origin:#}");
        assert_eq!(frame["file"].as_str(), script.to_str(), "{origin:#}");
    }
    assert_eq!(origin["complete"], true, "{origin:#}");
    assert_eq!(origin["unreadable"], Value::Null);
    assert_eq!(leak["title"]["function"], "fetch");

    let leak = tracer.wait_for_group("one connection of another thread", |group| {
        opened_by(group, 1)
    });
    assert_own_functions(&leak["origin"], &["fetch", "block in <main>"]);
}
