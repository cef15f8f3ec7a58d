//! Go programs, which bring neither libc nor, when stripped, symbols.

use serde_json::Value;
use tcpleak_tests::STRIPPED;

use crate::harness::{
    Compiled, assert_complete, assert_passes_in_order, is_named, passes_through, title,
    watch_forgetting,
};

fn watch(program: &Compiled, how: &str) -> Value {
    watch_forgetting(|address| program.start(&[how, address, "3"]), 3)
}

/// Fails unless the path passes through these functions of the program, says where in the source
/// each is, and ends where goroutines begin.
#[track_caller]
fn assert_is_named(leak: &Value, program: &Compiled, expected: &[(&str, &str)]) {
    let functions: Vec<&str> = expected.iter().map(|(function, _)| *function).collect();
    let frames = assert_passes_in_order(&leak["origin"], &functions);
    for (frame, (_, call)) in frames.iter().zip(expected) {
        assert_eq!(frame["own"], true, "{frame:#}");
        let file = frame["file"].as_str().unwrap_or_default();
        assert!(file.ends_with("fixtures/go/forgets.go"), "{frame:#}");
        assert_eq!(frame["line"], program.line_of(call), "{frame:#}");
    }
    assert_complete(&leak["origin"]);
    let frames = leak["origin"]["frames"]
        .as_array()
        .expect("a path has frames");
    let last = frames.last().expect("a path has frames");
    assert!(is_named(last, "runtime.goexit"), "{leak:#}");
    assert_eq!(title(leak), functions[0]);
    assert_eq!(leak["title"]["line"], program.line_of(expected[0].1));
}

/// From the function that dials to that of the main goroutine.
const DIALS: [(&str, &str); 4] = [
    ("main.dialServer", "net.Dial("),
    ("main.fetchPage", "descriptor := open(to)"),
    ("main.crawl", "strconv.Itoa(fetchPage(open, to))"),
    ("main.main", "descriptors = crawl(dialServer, to, count)"),
];

#[test]
fn a_go_program_is_named_to_the_root_of_its_goroutine() {
    let program = Compiled::go("forgets", &[]);
    let leak = watch(&program, "dial");
    assert_is_named(&leak, &program, &DIALS);
    assert_passes_in_order(&leak["origin"], &["net.Dial", "main.dialServer"]);
}

#[test]
fn a_stripped_go_program_is_named_by_its_line_table() {
    let program = Compiled::go("forgets", &["-ldflags=-s -w"]);
    assert_is_named(&watch(&program, "dial"), &program, &DIALS);
}

#[test]
fn a_go_program_that_calls_the_system_itself_is_named() {
    let program = Compiled::go("forgets", &["-ldflags=-s -w"]);
    let connects = [
        ("main.connectToServer", "syscall.Connect(descriptor"),
        DIALS[1],
        DIALS[2],
        (
            "main.main",
            "descriptors = crawl(connectToServer, to, count)",
        ),
    ];
    assert_is_named(&watch(&program, "connect"), &program, &connects);
}

#[test]
fn a_goroutine_is_named_to_the_function_that_it_began_with() {
    let program = Compiled::go("forgets", &["-ldflags=-s -w"]);
    let goroutine = [
        DIALS[0],
        DIALS[1],
        DIALS[2],
        (
            "main.crawlAside.func1",
            "done <- crawl(dialServer, to, count)",
        ),
    ];
    let leak = watch(&program, "goroutine");
    assert_is_named(&leak, &program, &goroutine);
    assert!(!passes_through(&leak["origin"], "main.main"), "{leak:#}");
}

#[test]
fn a_position_independent_go_program_is_named_by_its_line_table() {
    let program = Compiled::go("forgets", STRIPPED);
    assert_is_named(&watch(&program, "dial"), &program, &DIALS);
}
