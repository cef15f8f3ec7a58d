use jiff::tz::TimeZone;

use super::*;
use crate::output::samples::{self, ports_run_out};

fn text(render: impl FnOnce(&Text, &mut Vec<u8>) -> io::Result<()>) -> String {
    let text = Text {
        width: 100,
        zone: TimeZone::UTC,
        full_stacks: false,
    };
    let mut out = Vec::new();
    render(&text, &mut out).unwrap();
    let plain = anstream::adapter::strip_str(str::from_utf8(&out).unwrap()).to_string();
    // Where a line breaks is of no matter here.
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn on_ports(report: &Report) -> String {
    text(|text, out| text.render_ports(report, out))
}

fn on_leaks(report: &Report) -> String {
    text(|text, out| text.render(report, out))
}

#[test]
fn what_runs_out_comes_first() {
    let text = on_ports(&ports_run_out());
    assert!(
        text.starts_with(
            "Ports to 10.0.0.9:443 run out in about 11 s. 24,000 sockets in TIME_WAIT."
        ),
        "{text}"
    );
}

#[test]
fn who_causes_it_is_named_with_the_code() {
    let text = on_ports(&ports_run_out());
    assert!(
        text.contains("curl (pid 4242): 20,000, 400.0 per second, 10.0.0.5 -> 10.0.0.9:443"),
        "{text}"
    );
    assert!(text.contains("> fetch"), "{text}");
    assert!(text.contains("18,000 of these by proportion"), "{text}");
    assert!(text.contains("older than tcpleak: 4,000"), "{text}");
}

#[test]
fn a_forecast_says_what_it_rests_on() {
    let mut report = ports_run_out();
    let text = on_ports(&report);
    assert!(
        text.contains("24,012 of 28,232 ports in use (12 ESTABLISHED, 24,000 TIME_WAIT), 1 taken for every destination. They run out in about 11 s (400.0 closed in a second, over the last 10 s)."),
        "{text}"
    );
    report.ports[0].runs_out_in_s = None;
    report.ports[0].basis = "withheld: too few connections were closed lately".into();
    let text = on_ports(&report);
    assert!(text.contains("No forecast: too few connections"), "{text}");
}

#[test]
fn a_report_on_leaks_speaks_of_ports_only_when_they_run_out() {
    let mut report = ports_run_out();
    let text = on_leaks(&report);
    assert!(text.contains("Ports run out"), "{text}");
    assert!(text.contains("Use connections again"), "{text}");
    assert!(!text.contains("tcp_fin_timeout"), "{text}");
    report.ports[0].close_to_limit = false;
    assert!(!on_leaks(&report).contains("Ports"));
}

#[test]
fn without_anything_short_of_ports_that_is_said() {
    let text = on_ports(&samples::report(Vec::new()));
    assert!(
        text.starts_with("1,310 sockets in TIME_WAIT. No destination is short of ports."),
        "{text}"
    );
}

#[test]
fn a_hostile_name_cannot_write_a_line_of_its_own() {
    let mut report = ports_run_out();
    report.time_wait[0].process.as_mut().unwrap().comm = "a\nb\x1b[2J".into();
    let text = on_ports(&report);
    assert!(text.contains("a\\x0ab\\x1b[2J"), "{text}");
}

#[test]
fn descriptors_that_run_out_are_told_beside_the_ports() {
    let mut report = ports_run_out();
    assert!(!on_ports(&report).contains("Descriptors"));
    report.processes = vec![samples::descriptors(4242)];
    let text = on_ports(&report);
    assert!(
        text.contains("Descriptors python3 (pid 4242): 812 of 1,024 in use"),
        "{text}"
    );
}
