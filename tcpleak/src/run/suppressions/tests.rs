use super::*;
use crate::output::samples::{eof_unread, report};

fn parse(text: &str) -> anyhow::Result<Suppressions> {
    Suppressions::parse(Path::new("rules.toml"), text)
}

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

const TODAY: Date = jiff::civil::date(2026, 5, 14);

/// Whether a suppression with these patterns is about the leak of the samples.
fn fits(patterns: &str) -> bool {
    let rules = parse(&format!("[[suppress]]\n{patterns}\nreason = \"known\"")).unwrap();
    let mut report = report(vec![eof_unread()]);
    let (suppressed, unused) = rules.apply(&mut report, TODAY);
    assert_eq!(suppressed.len() + unused.len(), 1);
    assert_eq!(report.has_leaks(), suppressed.is_empty());
    !suppressed.is_empty()
}

#[test]
fn all_patterns_must_fit() {
    assert!(fits("process = \"python3\""));
    assert!(fits("process = \"/usr/bin/python*\""));
    assert!(fits("process = \"python3.1?\""));
    assert!(!fits("process = \"java\""));
    assert!(fits("frame = \"fetch_*\""));
    assert!(!fits("frame = \"fetch\""));
    assert!(fits("frame = \"*/crawl.py\""));
    assert!(fits("process = \"python3\"\nframe = \"fetch_page\""));
    assert!(!fits("process = \"java\"\nframe = \"fetch_page\""));
    assert!(fits("remote = \"10.0.0.0/8:80\""));
    assert!(!fits("remote = \"10.0.0.0/8:443\""));
    assert!(!fits("process = \"python3\"\nremote = \"192.168.0.0/16\""));
}

#[test]
fn brackets_in_names_of_functions_are_brackets() {
    let pattern = Pattern(WildMatch::new("net/http.(*persistConn)[*"));
    assert!(pattern.fits("net/http.(*persistConn)[clone .cold]"));
    assert!(!pattern.fits("net/http.(*persistConn).roundTrip"));
}

#[test]
fn a_remote_is_a_network_a_port_or_both() {
    let contains = |remote: &str, end: &str| {
        remote
            .parse::<Remote>()
            .unwrap()
            .contains(end.parse().unwrap())
    };
    assert!(contains("10.0.0.0/8:443", "10.1.2.3:443"));
    assert!(!contains("10.0.0.0/8:443", "10.1.2.3:444"));
    assert!(contains("10.1.2.3", "10.1.2.3:9"));
    assert!(contains(":443", "[fd00::1]:443"));
    assert!(contains("[fd00::/8]:443", "[fd00::1]:443"));
    assert!(contains("[fd00::/8]", "[fd00::1]:9"));
    assert!(contains("fd00::/8", "[fd00::1]:9"));
    assert!(!contains("fd00::1", "[fd00::2]:9"));
    for wrong in [
        "",
        ":",
        "example",
        "10.0.0.0/33",
        "10.0.0.1:http",
        "[fd00::1]443",
        "[fd00::1",
    ] {
        assert!(wrong.parse::<Remote>().is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_no_leak_is_not_suppressed() {
    let rules = parse("[[suppress]]\nprocess = \"*\"\nreason = \"known\"").unwrap();
    let mut group = eof_unread();
    group.leak = false;
    let mut report = report(vec![group]);
    let (suppressed, unused) = rules.apply(&mut report, TODAY);
    assert_eq!(
        (suppressed.len(), unused.len(), report.groups.len()),
        (0, 1, 1)
    );
}

#[test]
fn a_suppression_ends_with_its_last_day() {
    let rules = "[[suppress]]\nprocess = \"python3\"\nreason = \"known\"\nexpires = 2026-05-14";
    let rules = parse(rules).unwrap();
    let apply = |today| {
        let (suppressed, unused) = rules.apply(&mut report(vec![eof_unread()]), today);
        (
            suppressed.len(),
            unused.first().map(|unused| unused.expired),
        )
    };
    assert_eq!(apply(TODAY), (1, None));
    assert_eq!(apply(TODAY.tomorrow().unwrap()), (0, Some(true)));
}

#[test]
fn each_suppression_is_told_by_its_line() {
    let rules = "# known\n[[suppress]]\nprocess = \"python3\"\nreason = \"one\"\n\n\
                 [[suppress]]\nframe = \"nowhere\"\nreason = \"two\"\n";
    let rules = parse(rules).unwrap();
    let (suppressed, unused) = rules.apply(&mut report(vec![eof_unread()]), TODAY);
    assert_eq!(
        (suppressed[0].line, suppressed[0].reason.as_str()),
        (4, "one")
    );
    assert_eq!(
        unused,
        [UnusedSuppression {
            reason: "two".into(),
            line: 8,
            expired: false
        }]
    );
}

#[test]
fn an_error_names_the_file_the_line_and_what_is_wrong() {
    for (text, line, words) in [
        (
            "[[suppress]]\nprocess = \"x\"",
            "line 1",
            "missing field `reason`",
        ),
        (
            "[[suppress]]\nprocess = \"x\"\nreason = \" \"",
            ":3",
            "empty",
        ),
        (
            "[[suppress]]\nreason = \"all\"",
            ":2",
            "needs a process, a frame or a remote",
        ),
        (
            "[[suppress]]\ncomm = \"x\"\nreason = \"y\"",
            "line 2",
            "unknown field `comm`",
        ),
        (
            "[[suppress]]\nremote = \"here\"\nreason = \"y\"",
            "line 2",
            "is not an IP address",
        ),
        (
            "[[suppress]]\nframe = \"\"\nreason = \"y\"",
            "line 2",
            "fits nothing",
        ),
        (
            "[[suppress]]\nframe = \"x\"\nreason = \"y\"\nexpires = 2026-05-14T10:00:00",
            "line 4",
            "write a day",
        ),
        ("[[suppress]\n", "line 1", ""),
        ("[[ignore]]\n", "line 1", "unknown field `ignore`"),
    ] {
        let error = error(text);
        assert!(error.starts_with("rules.toml:"), "{error}");
        assert!(
            error.contains(line) && error.contains(words),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn a_file_that_is_asked_for_must_be_there_and_the_usual_one_may_be() {
    let error = Suppressions::load(Some(Path::new("/absent/rules.toml"))).unwrap_err();
    assert!(format!("{error:#}").starts_with("/absent/rules.toml cannot be read: "));
    assert!(Suppressions::load(None).unwrap().rules.is_empty());
}
