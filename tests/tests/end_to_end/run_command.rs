//! `tcpleak run`: the command runs as it would without.

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::harness::{
    Run, Server, a_moment, command, finish, installed, run, tcpleak_binary, wait_until,
};

fn pid_of(run: &Run) -> Pid {
    let pid = i32::try_from(run.pid()).ok().and_then(Pid::from_raw);
    pid.expect("a pid")
}

/// Runs a script of the shell.
fn shell(script: &str) -> Run {
    Run::start(&[], ["sh", "-c", script].iter().map(OsStr::new))
}

#[test]
fn the_status_of_a_command_that_fails_is_that_of_the_run() {
    assert_eq!(shell("exit 0").end().code, 0);
    assert_eq!(shell("exit 7").end().code, 7);
    let killed = shell("kill -KILL $$").end();
    assert_eq!(killed.code, 128 + 9);
    assert_eq!(killed.report["run"]["command_signal"], 9);
    assert!(killed.report["run"]["command_status"].is_null());
}

#[test]
fn a_command_that_fails_and_leaks_keeps_its_status_and_the_leak_is_told() {
    let server = Server::start();
    let (address, leaky) = (server.address(), crate::harness::fixture_binary("leaky"));
    let script = ["sh", "-c", "\"$@\"; exit 7", "sh"].map(OsStr::new);
    let arguments = ["connect", &address, "1"].map(OsStr::new);
    let arguments = script
        .into_iter()
        .chain([leaky.as_os_str()])
        .chain(arguments);
    let mut run = Run::start(&[], arguments);
    run.facts();
    run.go();
    server.hang_up_on(1);
    thread::sleep(a_moment());
    let ended = run.end();
    assert_eq!(ended.code, 7);
    assert!(ended.stderr.contains("1 leaked connection"), "{ended:#?}");
}

#[test]
fn the_status_of_a_leak_can_be_chosen() {
    let server = Server::start();
    let address = server.address();
    let mut run = Run::leaky(&["--leak-exit-code", "42"], &["connect", &address, "1"]);
    run.go();
    server.hang_up_on(1);
    thread::sleep(a_moment());
    assert_eq!(run.end().code, 42);
}

#[test]
fn a_command_that_cannot_be_run_has_the_status_that_shells_give() {
    let absent = run(&["run", "--", "/absent/command"]);
    assert_eq!(absent.code(), 127, "{absent:?}");
    assert!(
        absent.stderr.contains("/absent/command cannot be started"),
        "{absent:?}"
    );
    assert_eq!(run(&["run", "--", "/etc/passwd"]).code(), 126);
    assert_eq!(run(&["run"]).code(), 2);
}

#[test]
fn a_command_that_could_not_be_watched_is_not_started() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let trace = directory.path().join("trace");
    let mut tcpleak = command(&["run", "--", "touch"]);
    tcpleak
        .arg(&trace)
        .env("TCPLEAK_FORCE_BACKEND", "lifecycle=none");
    let untraceable = finish(tcpleak.spawn().expect("tcpleak can be started"));
    assert_eq!(untraceable.code(), 1, "{untraceable:?}");
    let trace = trace.to_str().expect("the path is UTF-8");
    let nowhere = run(&["run", "--junit", "/absent/leaks.xml", "--", "touch", trace]);
    assert_eq!(nowhere.code(), 1, "{nowhere:?}");
    for refused in [untraceable, nowhere] {
        assert!(
            refused.stderr.contains("the command was not started"),
            "{refused:?}"
        );
    }
    assert!(!std::path::Path::new(trace).exists());
}

#[test]
fn signals_reach_the_command() {
    for (name, signal) in [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
    ] {
        let script =
            format!("trap 'echo {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done");
        let run = shell(&script);
        assert_eq!(run.line(), "ready");
        kill_process(pid_of(&run), signal).expect("tcpleak runs");
        assert_eq!(run.line(), name);
        assert_eq!(run.end().code, 9, "{name}");
    }
}

#[test]
fn the_interrupt_of_a_terminal_reaches_the_command_once() {
    let script = "trap 'echo interrupted' INT; trap 'echo over; exit 0' TERM; echo pid $$; \
                  while :; do sleep 0.1; done";
    let tcpleak = tcpleak_binary();
    let line = format!("exec {} run -- sh -c \"$SCRIPT\"", tcpleak.display());
    let mut terminal = Command::new(installed("script", "bsdutils"))
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ])
        .env("SCRIPT", script)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a terminal");
    let lines = crate::harness::lines_of(terminal.stdout.take().expect("it is piped"));
    let next = || {
        let line = lines.recv_timeout(crate::harness::patience());
        line.expect("the command says something")
            .trim_end()
            .to_owned()
    };
    let ready = next();
    let pid = ready.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
    let pid = pid
        .and_then(Pid::from_raw)
        .unwrap_or_else(|| panic!("{ready:?}"));
    let mut keys = terminal.stdin.take().expect("it is piped");
    keys.write_all(b"\x03").expect("the terminal is there");
    let interrupted = next();
    assert!(interrupted.ends_with("interrupted"), "{interrupted:?}");
    // A second one would come before what is sent now.
    kill_process(pid, Signal::TERM).expect("the command runs");
    assert_eq!(next(), "over");
    assert!(next().contains("no connection was leaked"));
    assert!(terminal.wait().expect("it is a child").success());
}

/// The state of a process, as /proc has it.
fn state_of(pid: u32) -> char {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.unwrap_or('?')
}

#[test]
fn a_job_can_be_stopped_and_continued() {
    let arguments = ["sh", "-c", "echo pid $$; read word; exit 5"];
    let run = Run::start_as(&[], arguments.iter().map(OsStr::new), |command| {
        command.process_group(0);
    });
    let command: u32 = run.facts().one("pid");
    let states = || [run.pid(), command].map(state_of);
    kill_process_group(pid_of(&run), Signal::TSTP).expect("the group is there");
    wait_until("tcpleak and its command stop", || states() == ['T', 'T']);
    kill_process_group(pid_of(&run), Signal::CONT).expect("the group is there");
    wait_until("they go on", || !states().contains(&'T'));
    assert_eq!(run.end().code, 5);
}

/// The limits, blocked and ignored signals that a script tells, but for the signals that belong to the C
/// library.
fn told(output: &str) -> Vec<String> {
    let usual = |line: &str| match line.split_once(":\t") {
        Some((name, set)) => {
            let set = u64::from_str_radix(set, 16).expect("a set of signals");
            format!("{name} {:x}", set & 0x7fff_ffff)
        }
        None => line.to_owned(),
    };
    output.lines().map(usual).collect()
}

#[test]
fn the_command_has_limits_and_signals_as_without() {
    let script = "ulimit -n; ulimit -l; grep -E 'SigBlk|SigIgn' /proc/self/status";
    let direct = Command::new("sh")
        .args(["-c", script])
        .output()
        .expect("there is a shell");
    let watched = finish(
        command(&["run", "--", "sh", "-c", script])
            .spawn()
            .expect("tcpleak can be started"),
    );
    let direct = told(&String::from_utf8_lossy(&direct.stdout));
    assert_eq!(direct.len(), 4, "{direct:?}");
    assert_eq!(told(&watched.stdout), direct);
}

#[test]
fn the_command_reads_and_writes_as_without() {
    let mut child = command(&["run", "--", "tr", "a-z", "A-Z"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("tcpleak can be started");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(b"hello\n")
        .expect("tr reads");
    let finished = finish(child);
    assert_eq!(finished.stdout, "HELLO\n");
    assert_eq!(finished.stderr, "tcpleak: no connection was leaked.\n");
}
