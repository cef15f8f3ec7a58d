//! A connection that the handler of a signal opens: the code that it interrupts did not call it.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, assert_passes_in_order,
    passes_through, title,
};

/// Interrupts the program at its work, and returns the leak.
fn watch(flags: &[&str], further: &[&str]) -> Value {
    let server = Server::start();
    let address = server.address();
    let program = Compiled::c("handles_signal", flags);
    let mut client = program.start(&[&[&*address], further].concat());
    let mut tracer = Tracer::of(&client);
    assert_eq!(client.go().one::<u32>("working"), 1);
    let pid = i32::try_from(client.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::USR1).expect("the program works");
    server.hang_up_on(1);
    client.facts();
    tracer.wait_for_titled_leak_of(1)
}

#[test]
fn the_code_path_of_a_signal_handler_goes_on_in_the_code_that_it_interrupted() {
    let leak = watch(&["-g"], &[]);
    let path = ["open_connection", "on_signal", "work", "do_step", "main"];
    assert_own_functions(&leak["origin"], &path);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    assert_passes_in_order(&leak["origin"], &["on_signal", "main", "_start"]);
}

#[test]
fn a_stripped_program_is_followed_through_a_signal_handler() {
    let leak = watch(&["-s"], &[]);
    assert_complete(&leak["origin"]);
    assert!(title(&leak).starts_with("handles_signal+0x"), "{leak:#}");
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own_is_named_and_what_is_missing_is_said() {
    let leak = watch(&["-g"], &["alternate"]);
    let origin = &leak["origin"];
    assert_passes_in_order(origin, &["open_connection", "on_signal"]);
    assert_eq!(title(&leak), "open_connection");
    if origin["complete"] == true {
        assert_passes_in_order(origin, &["on_signal", "work", "do_step", "main"]);
    } else {
        assert!(origin["incomplete"].is_string(), "{origin:#}");
        // What is named is right: nothing is left out between.
        assert!(!passes_through(origin, "main") || passes_through(origin, "work"));
    }
}
