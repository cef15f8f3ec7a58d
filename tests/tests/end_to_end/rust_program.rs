//! A Rust program in release mode, in which a panic skips the close of a bare descriptor.

use std::io::Write;

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_passes_in_order, is_named, title,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 4] = [
    "forgets::Client::open_connection",
    "forgets::fetch_page",
    "forgets::crawl",
    "forgets::main",
];

fn watch(program: &Compiled) -> Value {
    let server = Server::start();
    let mut client = program.start(&[&server.address(), "3"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    // The ends of the connections must not come together with the answers.
    let connections = [(); 3].map(|()| {
        let mut connection = server.accept();
        connection
            .write_all(b"not a page")
            .expect("the client is there");
        connection
    });
    let told = client.facts();
    drop(connections);
    assert_eq!(told.one::<u32>("failures"), 3, "each page panics");
    tracer.wait_for_titled_leak_of(3)
}

#[test]
fn a_rust_program_whose_parser_panics_is_named_to_its_root_with_its_lines() {
    let program = Compiled::rust("forgets", &["-Cdebuginfo=line-tables-only"]);
    let leak = watch(&program);
    let frames = assert_passes_in_order(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert!(is_named(&leak["title"], OWN[0]), "{leak:#}");
    let calls = [
        "TcpStream::connect(self.to)",
        "client.open_connection();",
        "panic::catch_unwind(",
        "crawl::<Words>(",
    ];
    for (frame, call) in frames.iter().zip(calls) {
        assert_eq!(frame["own"], true, "{frame:#}");
        let file = frame["file"].as_str().unwrap_or_default();
        assert!(file.ends_with("fixtures/rust/forgets.rs"), "{frame:#}");
        assert_eq!(frame["line"], program.line_of(call), "{frame:#}");
    }
}

#[test]
fn a_rust_program_without_debug_information_is_named_by_its_symbols() {
    let leak = watch(&Compiled::rust("forgets", &["-Cdebuginfo=none"]));
    let frames = assert_passes_in_order(&leak["origin"], &OWN);
    assert!(frames.iter().all(|frame| frame["own"] == true), "{leak:#}");
    assert_complete(&leak["origin"]);
    assert!(is_named(&leak["title"], OWN[0]), "{}", title(&leak));
}
