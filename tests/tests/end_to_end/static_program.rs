//! Programs that hold their C library.

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, assert_passes_in_order,
    is_named, title, watch_forgetting,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

fn watch(program: &Compiled) -> Value {
    watch_forgetting(|address| program.start(&[address, "2"]), 2)
}

#[test]
fn a_static_program_is_named_to_its_root() {
    let leak = watch(&Compiled::c("forgets", &["-static"]));
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
}

#[test]
fn a_static_program_that_moves_itself_is_named_to_its_root() {
    let leak = watch(&Compiled::c("forgets", &["-g", "-static-pie"]));
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    let program = assert_passes_in_order(&leak["origin"], &OWN)[3];
    let file = program["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("fixtures/c/forgets.c"), "{leak:#}");
}

#[test]
fn a_stripped_static_program_is_followed_to_its_root() {
    let named = Compiled::c("forgets", &["-static"]);
    let stripped = Compiled::c("forgets", &["-static", "-s"]);
    let leak = watch(&stripped);
    assert_complete(&leak["origin"]);
    let frames = leak["origin"]["frames"].as_array().into_iter().flatten();
    let functions: Vec<String> = frames
        .filter_map(|frame| named.function_at(frame["offset"].as_u64()?))
        .collect();
    assert!(
        functions.windows(OWN.len()).any(|part| part == OWN),
        "{functions:?}: {leak:#}"
    );
}

/// Debian's musl says nowhere how to get from its functions to their callers. What is found
/// nevertheless must be right: nothing is left out between connect() and what is named.
#[test]
fn a_program_with_a_c_library_that_cannot_be_followed_is_never_given_a_wrong_path() {
    let program = Compiled::c_with_musl("forgets", &["-static"]);
    let server = Server::start();
    let mut client = program.start(&[&server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    client.facts();
    let leak = tracer.wait_for_group("the leak, and its code path", |group| {
        group["leak"] == true && group["count"] == 2 && !group["origin"].is_null()
    });

    let origin = &leak["origin"];
    let frames = origin["frames"].as_array().into_iter().flatten();
    let named: Vec<&Value> = frames
        .filter(|frame| OWN.iter().any(|function| is_named(frame, function)))
        .collect();
    for (frame, function) in named.iter().zip(OWN) {
        assert!(is_named(frame, function), "{origin:#}");
    }
    if origin["complete"] == true {
        assert_eq!(named.len(), OWN.len(), "{origin:#}");
    } else {
        assert!(origin["incomplete"].is_string(), "{origin:#}");
    }
    assert!(
        title(&leak).is_empty() || title(&leak) == OWN[0],
        "{leak:#}"
    );
}
