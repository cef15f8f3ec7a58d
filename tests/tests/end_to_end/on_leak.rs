//! A command that is run for each new leak: what it is told, as whom it runs, and that it holds up nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Fixture, Server, Serving, run, wait_until};

/// A directory that any user may write to.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let anybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(directory.path(), anybody).expect("it is ours");
    directory
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap_or_default()
}

/// The option that runs a script for each new leak, with the directory as its first argument.
fn script(script: &str, directory: &TempDir) -> [String; 2] {
    let directory = directory.path().display();
    [
        "--on-leak".into(),
        format!("sh -c '{script}' sh {directory}"),
    ]
}

/// A program that has not leaked yet, and its server.
fn leaky() -> (Fixture, Server) {
    let server = Server::start();
    let fixture = Fixture::start(&["connect", &server.address(), "1"]);
    (fixture, server)
}

fn leak((fixture, server): &mut (Fixture, Server)) {
    fixture.go();
    server.hang_up_on(1);
}

#[track_caller]
fn serve(programs: &[&(Fixture, Server)], options: &[String]) -> Serving {
    let pids = programs.iter().map(|(fixture, _)| fixture.pid_text());
    let pids: Vec<String> = pids.flat_map(|pid| ["--pid".into(), pid]).collect();
    let options: Vec<&str> = options.iter().chain(&pids).map(String::as_str).collect();
    Serving::start(&options)
}

fn alerts(directory: &TempDir, name: &str) -> Vec<Value> {
    let alerts = read(directory, name);
    let alerts = alerts.lines().map(|alert| {
        serde_json::from_str(alert).unwrap_or_else(|error| panic!("{error} in {alert:?}"))
    });
    alerts.collect()
}

#[test]
fn each_leak_is_told_once_with_its_code_path_and_without_its_command_line() {
    let directory = directory();
    let (mut first, mut second) = (leaky(), leaky());
    let serving = serve(
        &[&first, &second],
        &script("cat >> \"$1/alerts\"", &directory),
    );
    for (number, program) in [&mut first, &mut second].into_iter().enumerate() {
        leak(program);
        wait_until("the leak is told", || {
            read(&directory, "alerts").lines().count() > number
        });
        serving.wait_for_surveys(5);
    }
    let alerts = alerts(&directory, "alerts");
    assert_eq!(alerts.len(), 2, "{alerts:#?}");
    for (alert, (program, server)) in alerts.iter().zip([&first, &second]) {
        assert_eq!(alert["schema"], 1);
        assert_eq!(alert["left_out"], 0);
        let host = rustix::system::uname();
        assert_eq!(
            alert["host"],
            host.nodename().to_str().expect("it is UTF-8")
        );
        let group = &alert["group"];
        assert_eq!(group["process"]["pid"], program.pid());
        assert_eq!(group["endpoint"], server.address());
        assert!(group["process"]["cmdline"].is_null(), "{group:#}");
        let title = &group["title"]["function"];
        assert_eq!(title, "leaky::connect::open_connection", "{group:#}");
    }
}

#[test]
fn the_command_has_no_rights_and_nothing_that_is_open() {
    let directory = directory();
    let mut program = leaky();
    let look = "cat /proc/self/status > \"$1/status\"; ls -l /proc/self/fd > \"$1/open\"; pwd > \"$1/done\"";
    let _serving = serve(&[&program], &script(look, &directory));
    leak(&mut program);
    wait_until("the command runs", || !read(&directory, "done").is_empty());
    assert_eq!(read(&directory, "done"), "/\n");
    let status = read(&directory, "status");
    let field = |name: &str| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .trim()
            .to_owned()
    };
    for name in ["Uid:", "Gid:"] {
        assert_eq!(field(name), "65534\t65534\t65534\t65534", "{status}");
    }
    assert_eq!(field("Groups:"), "");
    let bits = |name: &str| u64::from_str_radix(&field(name), 16).expect("it is hexadecimal");
    for name in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "SigBlk:"] {
        assert_eq!(bits(name), 0, "{name} {status}");
    }
    // Nobody can change the two signals that the C library uses itself.
    assert_eq!(bits("SigIgn:") & !(0b11 << 31), 0, "{status}");
    assert_eq!(field("NoNewPrivs:"), "1");
    let open = read(&directory, "open");
    let open: Vec<&str> = open.lines().filter(|line| line.contains(" -> ")).collect();
    // Its standard input and outputs, and the directory that is being listed.
    assert_eq!(open.len(), 4, "{open:#?}");
    assert!(open[0].contains("memfd:tcpleak-alert"), "{open:#?}");
}

#[test]
fn a_command_that_hangs_is_ended_and_the_next_leak_is_told() {
    let directory = directory();
    let (mut first, mut second) = (leaky(), leaky());
    let hang = "if [ -e \"$1/pid\" ]; then cat > \"$1/second\"; \
                else sleep 1000 & echo $! > \"$1/pid\"; wait; fi";
    let mut serving = serve(&[&first, &second], &script(hang, &directory));
    leak(&mut first);
    wait_until("the command hangs", || !read(&directory, "pid").is_empty());
    leak(&mut second);
    // It holds up nothing.
    serving.wait_for_surveys(3);
    serving.wait_for_line("--on-leak: the command took too long, and was ended");
    wait_until("the next one is run", || {
        !read(&directory, "second").is_empty()
    });
    let pid = read(&directory, "pid");
    let process = Path::new("/proc").join(pid.trim());
    wait_until("what it started is ended too", || {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
}

#[test]
fn what_a_command_says_when_it_fails_is_shown() {
    let directory = directory();
    let mut program = leaky();
    let fail = "printf \"no\\033[2J route\\n\" >&2; exit 7";
    let mut serving = serve(&[&program], &script(fail, &directory));
    leak(&mut program);
    let line = serving.wait_for_line("--on-leak: the command failed");
    assert!(
        line.ends_with("(exit status: 7): no\\x1b[2J route"),
        "{line}"
    );
}

#[test]
fn no_shell_sees_the_command() {
    let directory = directory();
    let mut program = leaky();
    let file = "$HOME; touch x";
    let command = format!("tee '{}/{file}'", directory.path().display());
    let _serving = serve(&[&program], &["--on-leak".into(), command]);
    leak(&mut program);
    wait_until("the command runs", || !read(&directory, file).is_empty());
    assert_eq!(alerts(&directory, file).len(), 1);
    let names = fs::read_dir(directory.path()).expect("it is there");
    assert_eq!(names.count(), 1);
}

#[test]
fn a_command_that_cannot_be_run_is_refused_at_the_start() {
    let private = tempfile::NamedTempFile::new().expect("there is a directory for temporary files");
    let private = private.path().display().to_string();
    for (command, reason) in [
        ("no-such-program", "there is no program no-such-program"),
        ("./hook", "./hook is no absolute path"),
        ("'", "a quotation mark is not closed"),
        (&private, "its user may not run"),
    ] {
        let refused = run(&["serve", "--listen", "127.0.0.1:0", "--on-leak", command]);
        assert_eq!(refused.code(), 1, "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
    }
}
