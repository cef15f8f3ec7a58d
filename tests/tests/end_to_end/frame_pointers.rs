//! What kernels before 5.15 give, forced upon this one: code paths by frame pointers.

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_complete, assert_passes_through, command, finish,
    functions,
};

const FORCE: (&str, &str) = ("TCPLEAK_FORCE_BACKEND", "registers=frame-pointers");

#[test]
fn code_with_frame_pointers_is_followed_by_them() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "3"]);
    let mut tracer = Tracer::watch_with(&[FORCE], &["--pid", &client.pid_text()]);
    client.go();
    server.hang_up_on(3);
    let leak = tracer.wait_for_titled_leak_of(3);
    assert_passes_through(&leak["origin"], "leaky::connect::open_connections");
    assert_passes_through(&leak["origin"], "leaky::main");
}

#[test]
fn code_without_them_gives_a_short_path_that_says_why() {
    let server = Server::start();
    let program = Compiled::c("forgets", &["-g"]);
    let mut client = program.start(&[&server.address(), "3"]);
    let mut tracer = Tracer::watch_with(&[FORCE], &["--pid", &client.pid_text()]);
    client.tell();
    server.hang_up_on(3);
    client.facts();
    let leak = tracer.wait_for_group("a leak with its origin", |group| {
        group["leak"] == true && !group["origin"].is_null()
    });
    assert_eq!(leak["origin"]["complete"], false, "{leak:#}");
    assert_eq!(leak["origin"]["incomplete"], "frame-pointers");
    assert_eq!(functions(&leak["origin"])[0], "connect");
}

#[test]
fn without_the_helpers_of_newer_kernels_a_stack_without_frame_pointers_is_followed_to_its_end() {
    let server = Server::start();
    let program = Compiled::c("forgets", &["-g"]);
    let mut client = program.start(&[&server.address(), "3"]);
    let force = ("TCPLEAK_FORCE_BACKEND", "registers=task-stack");
    let mut tracer = Tracer::watch_with(&[force], &["--pid", &client.pid_text()]);
    client.tell();
    server.hang_up_on(3);
    client.facts();
    let leak = tracer.wait_for_titled_leak_of(3);
    assert_complete(&leak["origin"]);
    assert_passes_through(&leak["origin"], "main");
}

#[test]
fn the_doctor_says_so() {
    let mut doctor = command(&["doctor"]);
    let finished = finish(doctor.env(FORCE.0, FORCE.1).spawn().expect("it starts"));
    assert_eq!(finished.code(), 0, "{finished:?}");
    let text = &finished.stdout;
    assert!(text.contains("  frame pointers  "), "{text}");
    let text = crate::harness::run(&["doctor"]).stdout;
    assert!(text.contains("copy of the stack"), "{text}");
}
