//! A C program as distributions build it: optimised, without frame pointers, its symbols and debug
//! information there, elsewhere, or nowhere.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tcpleak_tests::UNTOUCHED;

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_complete, assert_own_functions,
    assert_passes_in_order, passes_through, title, watch_forgetting,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

/// The flags of a program with debug information.
const WITH_DEBUG_INFORMATION: [&str; 1] = ["-g"];

/// Watches the program at a path forget `count` connections.
fn watch(path: &Path, count: usize) -> Value {
    let start = |address: &str| {
        Fixture::start_program(Command::new(path).args([address, &count.to_string()]))
    };
    watch_forgetting(start, count)
}

/// Fails unless each of the program's own frames says where in the source it is.
#[track_caller]
fn assert_has_lines(leak: &Value, program: &Compiled) {
    let frames = assert_passes_in_order(&leak["origin"], &OWN);
    let calls = [
        "connect(connection, (const struct sockaddr *)to",
        "int connection = open_connection(to);",
        "connections[number] = fetch_page(to",
        "crawl(&to, connections, connections_wanted);",
    ];
    for (frame, call) in frames.iter().zip(calls) {
        let file = frame["file"].as_str().unwrap_or_default();
        assert!(file.ends_with("fixtures/c/forgets.c"), "{frame:#}");
        assert_eq!(frame["line"], program.line_of(call), "{frame:#}");
    }
    assert_eq!(leak["title"]["line"], program.line_of(calls[0]));
}

#[test]
fn a_program_without_frame_pointers_is_named_to_its_root_with_its_lines() {
    let program = Compiled::c("forgets", &WITH_DEBUG_INFORMATION);
    let leak = watch(program.path(), 3);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    assert_eq!(leak["title"]["path"], "origin");
    assert_has_lines(&leak, &program);
}

#[test]
fn a_stack_is_followed_over_pages_that_nobody_has_touched() {
    let program = Compiled::c("large_buffer", UNTOUCHED);
    let server = Server::start();
    let mut client = program.start(&[&server.address()]);
    let mut tracer = Tracer::of(&client);
    // By the first one tcpleak learns how little of this program's stacks tells its paths apart.
    client.go();
    server.hang_up_on(1);
    tracer.wait_for_titled_leak_of(1);
    client.go();
    server.hang_up_on(1);
    let leak = tracer.wait_for_group("the other leak", |group| {
        group["leak"] == true && passes_through(&group["origin"], "with_buffer")
    });
    let own = ["open_connection", "fill", "with_buffer", "begin"];
    assert_own_functions(&leak["origin"], &own);
    assert_complete(&leak["origin"]);
}

#[test]
fn a_program_that_is_not_position_independent_is_named_too() {
    let program = Compiled::c("forgets", &["-g", "-no-pie", "-fno-pie"]);
    let leak = watch(program.path(), 2);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_has_lines(&leak, &program);
}

#[test]
fn a_program_without_debug_information_is_named_by_its_symbols() {
    let program = Compiled::c("forgets", &[]);
    let leak = watch(program.path(), 2);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    for frame in assert_passes_in_order(&leak["origin"], &OWN) {
        assert_eq!(frame["module"], program.path_text());
        assert!(frame["file"].is_null(), "{frame:#}");
        assert!(frame["offset"].is_null(), "{frame:#}");
    }
}

#[test]
fn a_stripped_program_has_the_addresses_of_its_functions_instead_of_names() {
    // The code of both is the same.
    let named = Compiled::c("forgets", &[]);
    let stripped = Compiled::c("forgets", &["-s"]);
    let leak = watch(stripped.path(), 2);
    assert_complete(&leak["origin"]);
    let frames = leak["origin"]["frames"]
        .as_array()
        .expect("a path has frames");
    let own = frames
        .iter()
        .filter(|frame| frame["module"] == stripped.path_text());
    let functions: Vec<String> = own
        .map(|frame| {
            assert!(frame["function"].is_null(), "{frame:#}");
            let offset = frame["offset"].as_u64();
            let offset = offset.unwrap_or_else(|| panic!("no address: {frame:#}"));
            named.function_at(offset).unwrap_or_default()
        })
        .collect();
    assert_eq!(functions, [&OWN[..], &["_start"]].concat());
    assert!(title(&leak).starts_with("forgets+0x"), "{leak:#}");
}

#[test]
fn debug_information_in_a_file_beside_the_program_names_it() {
    let program = Compiled::c("forgets", &WITH_DEBUG_INFORMATION);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let (stripped, _) = program.set_apart(directory.path());
    let leak = watch(&stripped, 2);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_has_lines(&leak, &program);
}

#[test]
fn debug_information_that_belongs_to_another_program_names_nothing() {
    let program = Compiled::c("forgets", &WITH_DEBUG_INFORMATION);
    let other = Compiled::c("asks", &WITH_DEBUG_INFORMATION);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let (stripped, debug) = program.set_apart(directory.path());
    fs::remove_file(&debug).expect("it was just written");
    fs::copy(other.path(), &debug).expect("its place is free");
    let leak = watch(&stripped, 2);
    assert_complete(&leak["origin"]);
    let frames = leak["origin"]["frames"]
        .as_array()
        .expect("a path has frames");
    let mut own = frames.iter().filter(|frame| frame["own"] == true);
    assert!(own.all(|frame| frame["function"].is_null()), "{leak:#}");
}
