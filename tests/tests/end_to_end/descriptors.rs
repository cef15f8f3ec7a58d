//! Processes that run out of descriptors.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::harness::{Fixture, Server, Tracer, command, finish, patience};

/// What a report says of the descriptors of a process.
fn descriptors_of(report: &Value, pid: u32) -> Option<&Value> {
    let processes = report["processes"].as_array();
    let processes = processes.expect("a report tells of processes");
    processes.iter().find(|process| process["pid"] == pid)
}

/// Milliseconds since 1970 of a report.
fn taken_at_ms(report: &Value) -> f64 {
    let time = report["taken_at"].as_str().expect("a report has a date");
    let time: jiff::Timestamp = time.parse().expect("it is one");
    time.as_millisecond() as f64
}

#[test]
fn the_first_forecast_foretells_when_the_descriptors_run_out() {
    let server = Server::start();
    let mut client = Fixture::start(&["run-out", &server.address(), "4", "100"]);
    server.serve(drop);
    let mut tracer = Tracer::of(&client);
    client.tell();
    tracer.wait_for_report_within(
        patience() + Duration::from_secs(40),
        "no descriptor left",
        |report| {
            descriptors_of(report, client.pid())
                .is_some_and(|process| process["fds_open"] == process["fd_limit"])
        },
    );
    let ran_out_at: f64 = client.facts().one("out_at_ms");

    let forecasts = tracer.reports().iter().filter_map(|report| {
        let process = descriptors_of(report, client.pid())?;
        let seconds = process["runs_out_in_s"].as_f64()?;
        Some((taken_at_ms(report), seconds, process))
    });
    let forecasts: Vec<_> = forecasts.collect();
    let (taken_at, foretold, process) = forecasts[0];
    let real = (ran_out_at - taken_at) / 1_000.0;
    assert!(
        (foretold - real).abs() < (real * 0.2).max(2.0),
        "{foretold} s were foretold, and it took {real} s: {process:#}"
    );
    assert!(real > 5.0, "it was foretold too late, {real} s before");
    assert_eq!(process["fd_limit"], 100);
    assert_eq!(process["comm"], "leaky");
    assert_eq!(process["close_to_limit"], true);
    let basis = process["basis"].as_str().unwrap_or_default();
    assert!(basis.contains(" counts in "), "{basis}");
    let (_, left, last) = forecasts.last().expect("there is a first one");
    assert_eq!(*left, 0.0);
    assert_eq!(last["basis"], "the limit is reached");
}

#[test]
fn the_text_tells_when_the_descriptors_run_out_in_the_leak_and_once_among_the_changes() {
    let server = Server::start();
    let mut client = Fixture::start(&["run-out", &server.address(), "4", "400"]);
    server.serve(drop);
    let options = [
        "--interval",
        "200ms",
        "--budget",
        "50%",
        "--min-age",
        "500ms",
    ];
    let pid = client.pid_text();
    let child = command(&[&options[..], &["--pid", &pid, "--duration", "14s"]].concat()).spawn();
    let child = child.expect("tcpleak can be started");
    client.tell();

    let text = finish(child).stdout;
    let whole = text.split_once("The whole report:");
    let (changes, report) = whole.unwrap_or_else(|| panic!("there is no last report: {text}"));
    let told = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words
            .join(" ")
            .contains("\"too many open files\" in about ")
    };
    let row = report
        .lines()
        .find(|line| line.starts_with("  Open files "));
    assert!(
        row.is_some_and(|row| row.contains(" of 400 in use, ")),
        "{text}"
    );
    assert!(told(report), "{text}");
    // Where the leak itself is told late, it tells that the limit is close, and no line has to.
    let lines = changes
        .lines()
        .filter(|line| line.contains(" descriptors in use, "));
    assert!(lines.count() <= 1, "it is told over and over: {text}");
    assert!(told(changes), "it is not told when it is so: {text}");
}

#[test]
fn a_process_that_leaks_nothing_more_has_no_forecast_and_its_limit_may_change() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "30"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(30);

    let pid = client.pid();
    let wait_for = |tracer: &mut Tracer, what: &str, wanted: &dyn Fn(&Value) -> bool| {
        tracer.wait_for_report_within(patience(), what, |report| {
            descriptors_of(report, pid).is_some_and(wanted)
        })
    };
    wait_for(&mut tracer, "a count that stays", &|process| {
        process["basis"] == "withheld: not growing"
    });
    for report in tracer.reports() {
        if let Some(process) = descriptors_of(report, pid) {
            assert_eq!(process["runs_out_in_s"], Value::Null, "{process:#}");
            assert!(process["fds_open"].as_u64() >= Some(30), "{process:#}");
        }
    }

    let limit = Rlimit {
        current: Some(77),
        maximum: Some(200),
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    prlimit(process, Resource::Nofile, limit).expect("root sets limits");
    wait_for(&mut tracer, "the other limit", &|process| {
        process["fd_limit"] == 77
    });
    let handles = &tracer.reports()[0]["totals"]["file_handles"];
    assert!(handles["open"].as_u64() > Some(0), "{handles}");
    assert!(
        handles["limit"].as_u64() > handles["open"].as_u64(),
        "{handles}"
    );
}
