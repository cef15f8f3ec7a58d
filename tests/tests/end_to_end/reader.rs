//! The process that reads the files of others: it has no rights, and may die.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Compiled, Server, Tracer, assert_complete, title, wait_until};

/// The reader of a tcpleak: its one child.
fn reader_of(tracer: &Tracer) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", tracer.pid())).ok()?;
    let children = tasks.flatten().filter_map(|task| {
        let children = fs::read_to_string(task.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    });
    children.last()
}

/// A field of /proc/PID/status.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the reader runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.expect("it is a field").trim().to_owned()
}

#[test]
fn the_reader_has_no_rights_and_a_new_one_takes_the_place_of_a_dead_one() {
    let server = Server::start();
    let mut program = Compiled::c("loads_plugins", &["-g"]).start(&[
        &server.address(),
        Compiled::c("first_plugin", &["-g", "-shared", "-fPIC"]).path_text(),
        Compiled::c("second_plugin", &["-g", "-shared", "-fPIC"]).path_text(),
    ]);
    let mut tracer = Tracer::of(&program);
    let mut leak_of = |function: &str| {
        program.go();
        server.hang_up_on(1);
        let leak = tracer.wait_for_group(function, |group| {
            group["leak"] == true && title(group) == function
        });
        assert_complete(&leak["origin"]);
        let mut reader = None;
        wait_until("there is a reader", || {
            reader = reader_of(&tracer);
            reader.is_some()
        });
        reader.expect("there is one")
    };

    let reader = leak_of("open_connection");
    let nobody = "65534\t65534\t65534\t65534";
    assert_eq!(status(reader, "Uid:"), nobody);
    assert_eq!(status(reader, "Gid:"), nobody);
    assert_eq!(status(reader, "NoNewPrivs:"), "1");
    for set in ["CapEff:", "CapPrm:", "CapInh:"] {
        assert_eq!(status(reader, set), "0000000000000000");
    }

    let pid = Pid::from_raw(reader as i32).expect("it is a pid");
    kill_process(pid, Signal::KILL).expect("the reader runs");
    assert_ne!(leak_of("open_for_first"), reader);
}
