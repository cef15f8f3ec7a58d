//! A C++ program in which an exception skips the close() of a connection.

use std::{collections::BTreeMap, io::Write};

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, assert_passes_in_order,
    is_named, leaks, passes_through, title,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 6] = [
    "Crawler::open_connection",
    "Crawler::open_with_retries",
    "Crawler::fetch_words",
    "Crawler::fetch_page",
    "Crawler::crawl",
    "main",
];

/// Which of the three places of the program a leak is of.
fn place(leak: &Value) -> &'static str {
    if passes_through(&leak["origin"], "Crawler::complain") {
        "complain"
    } else if passes_through(&leak["origin"], "Crawler::give_up") {
        "give_up"
    } else {
        "crawl"
    }
}

/// Watches the program fetch four pages that are none, and one more, and complain about that one;
/// returns its leaks by place.
fn watch(program: &Compiled) -> BTreeMap<&'static str, Value> {
    let server = Server::start();
    let mut client = program.start(&[&server.address(), "4"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    // The ends of the connections must not come together with the answers.
    let connections = [(); 5].map(|()| {
        let mut connection = server.accept();
        connection
            .write_all(b"not a page")
            .expect("the client is there");
        connection
    });
    server.hang_up_on(1);
    client.facts();
    drop(connections);
    tracer.wait_for_group("a complaint", |group| {
        group["leak"] == true && !title(group).is_empty() && place(group) == "complain"
    });
    let whole = tracer.wait_for_titled_leak_of(4);
    assert_eq!(place(&whole), "crawl");
    let last = tracer.interrupt();
    leaks(last.last())
        .map(|leak| (place(leak), leak.clone()))
        .collect()
}

#[test]
fn a_connection_that_an_exception_skipped_the_close_of_is_named_with_inlined_functions() {
    let program = Compiled::cpp("forgets", &["-g"]);
    let leaks = watch(&program);
    let leak = &leaks["crawl"];
    assert_eq!(leak["count"], 4);
    assert_complete(&leak["origin"]);
    assert_eq!(title(leak), OWN[0]);
    let frames = assert_passes_in_order(&leak["origin"], &OWN);
    for frame in &frames {
        assert_eq!(frame["own"], true, "{frame:#}");
        let inlined = is_named(frame, "Crawler::open_with_retries");
        assert_eq!(frame["inlined"], inlined, "{frame:#}");
    }
    for (frame, call) in [
        (frames[1], "connection = open_connection();"),
        (frames[2], "int connection = open_with_retries(3);"),
    ] {
        let file = frame["file"].as_str().unwrap_or_default();
        assert!(file.ends_with("fixtures/cpp/forgets.cpp"), "{frame:#}");
        assert_eq!(frame["line"], program.line_of(call), "{frame:#}");
    }
}

#[test]
fn a_connection_opened_in_the_handler_of_an_exception_is_named_to_its_root() {
    let leaks = watch(&Compiled::cpp("forgets", &[]));
    let handler = [
        "Crawler::open_connection",
        "Crawler::complain",
        "Crawler::give_up",
        "Crawler::crawl",
        "main",
    ];
    let leak = &leaks["complain"];
    assert_eq!(leak["count"], 1);
    assert_own_functions(&leak["origin"], &handler);
    assert_complete(&leak["origin"]);

    // Without debug information nothing tells what was inlined.
    let crawl = OWN.map(|function| function).to_vec();
    let symbols: Vec<&str> = crawl
        .into_iter()
        .filter(|function| *function != "Crawler::open_with_retries")
        .collect();
    assert_own_functions(&leaks["crawl"]["origin"], &symbols);
    assert_complete(&leaks["crawl"]["origin"]);
}
