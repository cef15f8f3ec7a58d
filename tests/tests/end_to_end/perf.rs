//! perf, which unwinds the same event in its own way, and tcpleak agree.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{
    Compiled, Server, assert_complete, finish, installed, output_of, watch_forgetting,
};

/// The functions of a program's own file on the way to its first connect(), innermost first, as
/// perf sees them.
fn seen_by_perf(program: &Path) -> Vec<String> {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let data = directory.path().join("perf.data");
    let perf = || Command::new(installed("perf", "linux-perf"));
    let mut record = perf();
    record.args(["record", "--quiet", "--event", "syscalls:sys_enter_connect"]);
    record
        .args(["--call-graph", "dwarf", "--output"])
        .arg(&data);
    record
        .arg("--")
        .arg(program)
        .args([&*server.address(), "1"]);
    record
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut recording = record.spawn().expect("perf is installed");
    let mut words = recording.stdin.take().expect("standard input is piped");
    // Nobody listens when perf has ended already; what it said then matters more.
    let spoken = words.write_all(b"go\n");
    drop(words);
    let recorded = finish(recording);
    assert!(
        spoken.is_ok() && recorded.code() == 0,
        "perf cannot record a system call with its stack on this kernel: {recorded:?}"
    );
    let mut script = perf();
    script.args(["script", "--no-inline", "--fields", "ip,sym,dso", "--input"]);
    let text = output_of(script.arg(&data));
    let frames: Vec<String> = text
        .lines()
        .filter_map(|line| function_in(line, program))
        .collect();
    assert!(
        !frames.is_empty(),
        "perf saw no stack of the program: {text}"
    );
    frames
}

/// The function on a line of `perf script`, if it lies in this file:
/// `            1234 main (/path/of/program)`.
fn function_in(line: &str, program: &Path) -> Option<String> {
    let (rest, file) = line.trim().split_once(" (")?;
    let in_program = Path::new(file.strip_suffix(')')?) == program;
    let (_, function) = rest.split_once(' ')?;
    in_program.then(|| function.to_owned())
}

/// Fails unless tcpleak and perf see the program take the same way to connect().
#[track_caller]
fn assert_perf_agrees(program: &Compiled) {
    let leak = watch_forgetting(|address| program.start(&[address, "1"]), 1);
    let frames = leak["origin"]["frames"].as_array().into_iter().flatten();
    let own_file = frames.filter(|frame| frame["module"] == program.path_text());
    let seen: Vec<&str> = own_file
        .filter_map(|frame| frame["function"].as_str())
        .collect();
    assert_eq!(seen, seen_by_perf(program.path()));
    assert_complete(&leak["origin"]);
}

#[test]
fn perf_sees_a_c_program_take_the_same_way() {
    assert_perf_agrees(&Compiled::c("forgets", &["-g"]));
}

#[test]
fn perf_sees_a_program_that_is_not_position_independent_take_the_same_way() {
    assert_perf_agrees(&Compiled::c("forgets", &["-no-pie", "-fno-pie"]));
}
