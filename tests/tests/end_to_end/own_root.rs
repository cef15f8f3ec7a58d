//! A program in a mount namespace with a root of its own, as in a container: its paths are no paths
//! of the host.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tcpleak_tests::IN_OWN_ROOT;

use crate::harness::{
    Compiled, Part, Server, Tracer, assert_complete, assert_own_functions, assert_passes_in_order,
    installed, output_of, start_in_own_root, title,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

/// Where the program lies in its root. The host has another program there.
const PROGRAM: &str = "/usr/bin/env";

/// Where the C library and the loader lie in the root, as `IN_OWN_ROOT` has it. The host has nothing
/// there.
const LIBC: &str = "/only/here/libc.so.6";
const LOADER: &str = "/only/here/loader";

/// Watches the program forget two connections in a root that holds these parts.
fn watch(parts: &[Part<'_>]) -> Value {
    assert!(
        Path::new(PROGRAM).exists(),
        "the host has another program there"
    );
    assert!(
        !Path::new("/only/here").exists(),
        "the host has no such directory"
    );
    let server = Server::start();
    let mut client = start_in_own_root(parts, PROGRAM, &[&server.address(), "2"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    client.facts();
    let leak = tracer.wait_for_group("a leak with its code path", |group| {
        group["leak"] == true && group["count"] == 2 && !title(group).is_empty()
    });
    assert_eq!(leak["process"]["exe"], PROGRAM);
    leak
}

/// The host's C library and loader.
fn libraries() -> [PathBuf; 2] {
    let program = Compiled::c("forgets", &[]);
    let listed = output_of(Command::new(installed("ldd", "libc-bin")).arg(program.path()));
    let words = listed.split_whitespace();
    let paths: Vec<&str> = words.filter(|word| word.starts_with('/')).collect();
    let [libc, loader] = paths[..] else {
        panic!("the program needs more than a C library and a loader: {listed}");
    };
    [libc.into(), loader.into()]
}

#[test]
fn a_static_program_in_its_own_root_is_named_and_not_the_hosts_file_of_that_path() {
    let program = Compiled::c("forgets", &["-g", "-static"]);
    let leak = watch(&[Part::Copy(program.path(), PROGRAM)]);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    let frame = assert_passes_in_order(&leak["origin"], &OWN)[0];
    assert_eq!(frame["module"], PROGRAM);
    let file = frame["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("fixtures/c/forgets.c"), "{frame:#}");
}

#[test]
fn a_program_whose_libraries_are_in_its_own_root_only_is_named_to_its_root() {
    let program = Compiled::c("forgets", IN_OWN_ROOT);
    let [libc, loader] = libraries();
    let leak = watch(&[
        Part::Copy(program.path(), PROGRAM),
        Part::Copy(&libc, LIBC),
        Part::Copy(&loader, LOADER),
    ]);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    let connect = &leak["origin"]["frames"][0];
    assert_eq!(connect["module"], LIBC, "{leak:#}");
}

#[test]
fn debug_information_behind_an_absolute_link_is_looked_for_in_the_programs_own_root() {
    let program = Compiled::c("forgets", &["-g", "-static"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let (stripped, debug) = program.set_apart(directory.path());
    let leak = watch(&[
        Part::Copy(&stripped, PROGRAM),
        Part::Copy(&debug, "/only/here/apart.debug"),
        Part::Link("/only/here/apart.debug", "/usr/bin/apart.debug"),
    ]);
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    let frame = assert_passes_in_order(&leak["origin"], &OWN)[3];
    let line = program.line_of("crawl(&to, connections, connections_wanted);");
    assert_eq!(frame["line"], line, "{frame:#}");
}

#[test]
fn an_absolute_link_in_the_programs_own_root_does_not_lead_out_to_the_host() {
    let program = Compiled::c("forgets", &["-g", "-static"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let (stripped, debug) = program.set_apart(directory.path());
    let outside = debug.to_str().expect("the path is UTF-8");
    let leak = watch(&[
        Part::Copy(&stripped, PROGRAM),
        Part::Link(outside, "/usr/bin/apart.debug"),
    ]);
    assert_complete(&leak["origin"]);
    let mut frames = leak["origin"]["frames"].as_array().into_iter().flatten();
    assert!(frames.all(|frame| frame["function"].is_null()), "{leak:#}");
    assert!(title(&leak).starts_with("env+0x"), "{leak:#}");
}
