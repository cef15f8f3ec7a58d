//! `tcpleak run` with what runs tests: the test that forgets a connection is named.

use std::{ffi::OsStr, net::TcpStream, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::harness::{
    Compiled, Run, RunEnded, Server, functions, installed, leaks, passes_through, patience,
    read_http_request, repository,
};

/// Tests, and what they are run with.
struct Tests<'a> {
    arguments: &'a [&'a OsStr],
    /// How long they take.
    hold: Duration,
    /// What their server does with a connection.
    answer: fn(TcpStream),
}

/// Runs tests. WHICH is `forgets` or `closes`. What they write is of no interest.
#[track_caller]
fn run_tests(which: &str, tests: &Tests<'_>) -> RunEnded {
    let server = Server::start();
    let (port, address) = (server.port(), server.address());
    server.serve(tests.answer);
    let hold = tests.hold.as_secs_f64().to_string();
    let quietly = ["sh", "-c", "\"$@\" > /dev/null", "sh"].map(OsStr::new);
    let arguments = quietly.into_iter().chain(tests.arguments.iter().copied());
    let set = |command: &mut Command| {
        command.envs([("PORT", &port), ("ADDRESS", &address), ("HOLD", &hold)]);
        command.env("WHICH", which);
    };
    Run::start_as(&[], arguments, set).end()
}

/// Runs tests with and without a leak. Gives the leak.
#[track_caller]
fn leak_of_tests(tests: &Tests<'_>) -> Value {
    let closes = run_tests("closes", tests);
    assert_eq!(closes.code, 0, "{closes:#?}");
    let forgets = run_tests("forgets", tests);
    assert_eq!(forgets.code, 3, "{forgets:#?}");
    let found: Vec<&Value> = leaks(&forgets.report).collect();
    let [leak] = found[..] else {
        panic!("there is one leak: {forgets:#?}");
    };
    assert_eq!(leak["count"], 1, "{leak:#}");
    leak.clone()
}

/// As long as several surveys take, for what an interpreter closes when it ends.
fn long() -> Duration {
    patience() / 6
}

/// Not as long as that: only the end of the process tells.
fn short() -> Duration {
    patience() / 60
}

fn fixture(path: &str) -> PathBuf {
    repository().join("tests/fixtures").join(path)
}

#[test]
fn pytest() {
    let python = installed("python3", "python3");
    installed("pytest-3", "python3-pytest");
    let tests = fixture("python/test_forgets.py");
    let options = ["-m", "pytest", "-p", "no:cacheprovider"].map(OsStr::new);
    let arguments = [&[python.as_os_str()], &options[..], &[tests.as_os_str()]].concat();
    let leak = leak_of_tests(&Tests {
        arguments: &arguments,
        hold: long(),
        answer: drop,
    });
    let named = functions(&leak["origin"]);
    assert!(named.contains(&"test_that_forgets"), "{named:?}");
    assert_eq!(leak["title"]["function"], "fetch");
}

/// The leak of tests that are a program of their own.
#[track_caller]
fn leak_of_compiled(tests: &Compiled) -> Value {
    leak_of_tests(&Tests {
        arguments: &[tests.path().as_os_str()],
        hold: short(),
        answer: drop,
    })
}

#[test]
fn the_tests_of_go() {
    let tests = Compiled::go_tests("forgets_test");
    let leak = leak_of_compiled(&tests);
    let origin = &leak["origin"];
    assert!(
        passes_through(origin, "command-line-arguments.TestThatForgets"),
        "{origin:#}"
    );
    assert!(
        leak["title"]["function"]
            .as_str()
            .is_some_and(|name| name.ends_with("fetchPage"))
    );
}

#[test]
fn the_tests_of_rust() {
    let tests = Compiled::rust_tests("forgets_test");
    let leak = leak_of_compiled(&tests);
    let origin = &leak["origin"];
    assert!(
        passes_through(origin, "forgets_test::test_that_forgets"),
        "{origin:#}"
    );
    assert_eq!(leak["title"]["function"], "forgets_test::fetch_page");
}

#[test]
fn the_tests_of_node() {
    let node = installed("node", "nodejs");
    let tests = fixture("javascript/forgets.test.js");
    let leak = leak_of_tests(&Tests {
        arguments: &[node.as_os_str(), "--test".as_ref(), tests.as_os_str()],
        hold: long(),
        // What a client has sent must be read, or the connection ends with a RST.
        answer: |connection| {
            read_http_request(&connection);
        },
    });
    // Node.js connects from its event loop, where the function that asked has returned.
    assert_eq!(leak["title"]["function"], "sendRequest", "{leak:#}");
    assert_eq!(leak["title"]["path"], "last-write");
}
