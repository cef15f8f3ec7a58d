//! Code that comes and goes while a program runs.

use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, assert_passes_in_order, title,
};

/// Waits for the leak that a function opened.
#[track_caller]
fn leak_of(tracer: &mut Tracer, function: &str) -> Value {
    tracer.wait_for_group(function, |group| {
        group["leak"] == true && group["count"] == 1 && title(group) == function
    })
}

#[test]
fn plugins_that_are_loaded_and_unloaded_while_tcpleak_watches_are_named() {
    let program = Compiled::c("loads_plugins", &["-g"]);
    let plugins = ["first_plugin", "second_plugin"]
        .map(|name| Compiled::c(name, &["-g", "-shared", "-fPIC"]));
    let [first, second] = plugins.each_ref().map(Compiled::path_text);
    let server = Server::start();
    let mut client = program.start(&[&server.address(), first, second]);
    let mut tracer = Tracer::of(&client);

    // The program itself: what is mapped is known from here on, and then changes.
    client.go();
    server.hang_up_on(1);
    let leak = leak_of(&mut tracer, "open_connection");
    assert_own_functions(&leak["origin"], &["open_connection", "main"]);
    assert_complete(&leak["origin"]);

    client.go();
    server.hang_up_on(1);
    let leak = leak_of(&mut tracer, "open_for_first");
    let path = ["open_for_first", "fetch", "call_plugin", "main"];
    assert_own_functions(&leak["origin"], &path);
    assert_complete(&leak["origin"]);
    let frames = assert_passes_in_order(&leak["origin"], &path);
    assert_eq!([&frames[0]["module"], &frames[1]["module"]], [first; 2]);
    assert_eq!(frames[2]["module"], program.path_text());
    let file = frames[0]["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("fixtures/c/first_plugin.c"), "{leak:#}");

    // The other plugin may lie where the first one lay.
    client.go();
    server.hang_up_on(1);
    let leak = leak_of(&mut tracer, "open_for_second");
    let path = [
        "open_for_second",
        "take_note",
        "fetch",
        "call_plugin",
        "main",
    ];
    assert_own_functions(&leak["origin"], &path);
    assert_complete(&leak["origin"]);
    let frames = assert_passes_in_order(&leak["origin"], &path);
    assert!(
        frames[..3].iter().all(|frame| frame["module"] == second),
        "{leak:#}"
    );

    // What is unloaded keeps its name.
    leak_of(&mut tracer, "open_for_first");
}

#[test]
fn a_stripped_plugin_without_symbols_leads_to_its_caller() {
    let program = Compiled::c("loads_plugins", &[]);
    let first = Compiled::c("first_plugin", &["-s", "-shared", "-fPIC"]);
    let server = Server::start();
    let arguments = [&server.address(), first.path_text(), first.path_text()];
    let mut client = program.start(&arguments);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(1);
    leak_of(&mut tracer, "open_connection");
    client.go();
    server.hang_up_on(1);

    // What it exports is named, and so makes the title; what it keeps to itself has an address.
    let leak = leak_of(&mut tracer, "fetch");
    let path = assert_passes_in_order(&leak["origin"], &["fetch", "call_plugin", "main"]);
    assert_eq!(path[0]["module"], first.path_text());
    let frames = leak["origin"]["frames"].as_array().into_iter().flatten();
    let mut unnamed = frames.filter(|frame| frame["function"].is_null());
    let frame = unnamed.next().expect("one function is not exported");
    assert_eq!(frame["module"], first.path_text());
    assert!(frame["offset"].is_u64(), "{frame}");
    assert_eq!(unnamed.next(), None);
    assert_complete(&leak["origin"]);
}
