//! The command, run by a thread that keeps its rights: what a process gives up is for the end-to-end tests.

use std::{
    fs,
    io::{Seek, Write},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Child,
    time::Instant,
};

use serde_json::Value;

use super::{
    hook::Hook,
    runner::{Outcome, serve},
    *,
};
use crate::{
    message,
    output::samples::{eof_unread, hostile, report},
    plain::is_hostile,
};

fn start_thread(command: &[String]) -> std::io::Result<(UnixStream, Option<Child>)> {
    let (here, there) = UnixStream::pair()?;
    let command: Vec<_> = command.iter().map(Into::into).collect();
    thread::spawn(move || serve(&there, &command));
    Ok((here, None))
}

/// A command that runs this script, with a directory as its first argument.
fn script(script: &str, directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    ["sh", "-c", script, "sh", directory]
        .map(str::to_owned)
        .into()
}

fn hook(command: &[&str]) -> Result<Hook, String> {
    let command: Vec<_> = command.iter().map(Into::into).collect();
    Hook::find(&command)
}

fn input(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

fn outcome(script: &str, patience: Duration) -> Outcome {
    let hook = hook(&["sh", "-c", script]).unwrap();
    hook.run(input("told"), patience)
}

const LONG: Duration = Duration::from_secs(60);

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_command_is_told_of_each_leak() {
    let directory = tempfile::tempdir().unwrap();
    let command = script("cat >> \"$1/alerts\"", directory.path());
    let runner = Runner::start_by(start_thread, command).unwrap();
    let mut on_leak = Prepared(runner).start().unwrap();
    let mut other = eof_unread();
    other.endpoint = "10.0.0.6:80".into();
    other.connections.clear();
    let report = report(vec![eof_unread(), other]);
    for leak in &report.groups {
        on_leak.tell(&report, leak);
    }
    on_leak.finish();
    let alerts = fs::read_to_string(directory.path().join("alerts")).unwrap();
    let alerts: Vec<Value> = alerts
        .lines()
        .map(|alert| serde_json::from_str(alert).unwrap())
        .collect();
    let endpoints: Vec<&Value> = alerts
        .iter()
        .map(|alert| &alert["group"]["endpoint"])
        .collect();
    assert_eq!(endpoints, ["10.0.0.5:80", "10.0.0.6:80"]);
    assert_eq!(alerts[0]["left_out"], 0);
    assert_eq!(alerts[0]["group"]["title"]["function"], "fetch_page");
}

#[test]
fn leaks_that_find_no_room_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    // It waits until it may go on, at the first alert.
    let wait = "cat >> \"$1/alerts\"; until [ -e \"$1/go\" ]; do sleep 0.05; done";
    let runner = Runner::start_by(start_thread, script(wait, directory.path())).unwrap();
    let mut on_leak = Prepared(runner).start().unwrap();
    let leak = |number: usize| {
        let mut group = eof_unread();
        group.endpoint = format!("10.0.0.6:{number}");
        group.connections.clear();
        group
    };
    let report = report(Vec::new());
    let told = |number| {
        fs::read_to_string(directory.path().join("alerts"))
            .is_ok_and(|alerts| alerts.lines().count() >= number)
    };
    on_leak.tell(&report, &leak(0));
    wait_until(|| told(1));
    for number in 1..=WAITING + 5 {
        on_leak.tell(&report, &leak(number));
    }
    assert_eq!(on_leak.left_out, 5);
    fs::write(directory.path().join("go"), "").unwrap();
    wait_until(|| told(2));
    on_leak.tell(&report, &leak(1_000));
    assert_eq!(on_leak.left_out, 0);
}

#[test]
fn no_shell_sees_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("$HOME; x");
    let words = format!("tee '{}'", file.display());
    let words = shlex::split(&words).unwrap();
    let mut runner = Runner::start_by(start_thread, words).unwrap();
    assert_eq!(runner.tell(b"told"), Outcome::Done);
    assert_eq!(fs::read_to_string(file).unwrap(), "told");
}

#[test]
fn a_command_that_cannot_be_run_is_refused_before_there_is_a_leak() {
    for (command, reason) in [
        (
            &["no-such-program"][..],
            "there is no program no-such-program",
        ),
        (&["/etc/no-such"], "there is no program /etc/no-such"),
        (&["/etc"], "there is no program /etc"),
        (&["./hook"], "./hook is no absolute path"),
        (&["/etc/passwd"], "may not run /etc/passwd"),
    ] {
        let error = hook(command).err().unwrap();
        assert!(error.contains(reason), "{error}");
    }
    let error = Prepared::new("'").err().unwrap();
    assert!(format!("{error:#}").contains("quotation mark"), "{error:#}");
    let error = Prepared::new(" ").err().unwrap();
    assert!(
        format!("{error:#}").contains("names no command"),
        "{error:#}"
    );
    let none = vec!["no-such-program".to_owned()];
    let error = Runner::start_by(start_thread, none).err().unwrap();
    assert!(
        format!("{error:#}").contains("no-such-program"),
        "{error:#}"
    );
}

#[test]
fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("sleep 1000 & echo $! > '{}'; wait", pid.display());
    assert_eq!(outcome(&script, Duration::from_secs(5)), Outcome::Endless);
    let pid = fs::read_to_string(pid).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // Whoever adopted it may not have reaped it yet.
    assert!(stat.is_err() || stat.unwrap().contains(") Z "));
}

#[test]
fn a_command_that_reads_nothing_and_writes_much_is_not_waited_for() {
    let much = "head -c 1000000 /dev/zero; echo told >&2";
    assert_eq!(outcome(much, LONG), Outcome::Done);
    let failed = outcome(
        "head -c 1000000 /dev/zero; echo this was why >&2; exit 3",
        LONG,
    );
    let Outcome::Failed { status, output } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(status, "exit status: 3");
    assert!(output.ends_with("this was why\n") && output.len() <= 400);
}

#[test]
fn the_command_starts_with_nothing_of_ours() {
    let expected =
        "LANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("environment");
    let script = format!(
        "env | grep -E '^(LANG|PATH|HOME|CARGO)' | sort > '{}'",
        file.display()
    );
    assert_eq!(outcome(&script, LONG), Outcome::Done);
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

#[test]
fn what_runs_the_command_is_replaced_when_it_is_gone() {
    fn start_and_leave(_: &[String]) -> std::io::Result<(UnixStream, Option<Child>)> {
        let (here, there) = UnixStream::pair()?;
        message::send(&there, &Outcome::Ready, None::<BorrowedFd<'_>>)?;
        // It takes one alert, and is gone.
        thread::spawn(move || message::receive::<()>(&there));
        Ok((here, None))
    }
    let mut runner = Runner::start_by(start_and_leave, vec!["true".into()]).unwrap();
    for _ in 0..2 {
        let outcome = runner.tell(b"told");
        assert!(
            matches!(&outcome, Outcome::NotStarted(why) if why.contains("has ended")),
            "{outcome:?}"
        );
    }
}

#[test]
fn an_alert_is_one_line_however_hostile_the_names_are() {
    let alert = alert(&report(vec![hostile()]), &hostile(), 7).unwrap();
    assert_eq!(alert.lines().count(), 1);
    assert!(!alert.trim_end().chars().any(is_hostile));
    let parsed: Value = serde_json::from_str(&alert).unwrap();
    let mut fields: Vec<&String> = parsed.as_object().unwrap().keys().collect();
    fields.sort();
    let documented = [
        "group", "host", "kernel", "left_out", "schema", "taken_at", "tcpleak",
    ];
    assert_eq!(fields, documented);
    assert_eq!(parsed["left_out"], 7);
    assert_eq!(parsed["schema"], 1);
    assert_eq!(
        parsed["group"]["process"]["comm"],
        hostile().process.comm.as_str()
    );
}
