use insta::assert_snapshot;

use super::*;
use crate::{
    output::samples::{
        self, dead_fd, eof_consumed, eof_unread, half_close_in_use, handler, hostile, not_accepted,
        own, path, report, titled,
    },
    plain::is_hostile,
    report::{AgeKind, Container, Evidence, FileHandles, Frame, PathKind, Qualifier},
};

fn text(width: usize) -> Text {
    Text {
        width,
        zone: TimeZone::UTC,
        full_stacks: false,
    }
}

fn coloured(report: &Report, width: usize) -> String {
    let mut out = Vec::new();
    text(width).render(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn uncoloured(styled: &str) -> String {
    anstream::adapter::strip_str(styled).to_string()
}

fn render(report: &Report, width: usize) -> String {
    uncoloured(&coloured(report, width))
}

/// The text of one group on one line, for tests that ask for words and not for the layout.
pub(super) fn words(group: Group) -> String {
    words_of(&report(vec![group]))
}

/// The text of a report on one line.
pub(super) fn words_of(report: &Report) -> String {
    let text = render(report, 200);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn render_changes(previous: &Report, current: &Report) -> String {
    let mut out = Vec::new();
    let written = text(80)
        .render_changes(previous, current, &mut out)
        .unwrap();
    assert_eq!(written, !out.is_empty());
    uncoloured(&String::from_utf8(out).unwrap())
}

#[test]
fn every_verdict_reads_well_on_80_columns() {
    assert_snapshot!(render(&report(samples::every_verdict()), 80));
}

#[test]
fn every_verdict_reads_well_on_120_columns() {
    assert_snapshot!(render(&report(samples::every_verdict()), 120));
}

#[test]
fn a_handler_behind_an_accept_loop_reads_well_on_80_columns() {
    assert_snapshot!(render(&report(vec![handler()]), 80));
}

#[test]
fn a_handler_behind_an_accept_loop_reads_well_on_120_columns() {
    assert_snapshot!(render(&report(vec![handler()]), 120));
}

#[test]
fn full_stacks_fold_nothing() {
    let text = Text {
        full_stacks: true,
        ..text(80)
    };
    let mut out = Vec::new();
    text.render(&report(vec![handler()]), &mut out).unwrap();
    assert_snapshot!(uncoloured(&String::from_utf8(out).unwrap()));
}

#[test]
fn a_function_without_a_name_is_told_by_its_address() {
    let nameless = |module: &str, own| Frame {
        function: None,
        module: Some(module.into()),
        offset: Some(0x1a2b),
        own,
        ..samples::library("", "")
    };
    let frames = vec![
        nameless("/lib/libssl.so.3", false),
        nameless("/usr/bin/python3.11", true),
    ];
    let group = titled(Group {
        origin: Some(path(PathKind::Connect, frames)),
        ..eof_unread()
    });
    let text = words(group);
    assert!(
        text.contains("LEAK eof-unread in python3.11+0x1a2b python3 (pid 4242) keeps"),
        "{text}"
    );
    assert!(
        text.contains("libssl.so.3+0x1a2b > python3.11+0x1a2b in /usr/bin/python3.11"),
        "{text}"
    );
}

#[test]
fn a_title_in_a_library_of_the_program_says_in_which() {
    let plugin = Frame {
        own: true,
        ..samples::library("plugin_fetch", "/srv/crawler/plugins/fetch.so")
    };
    let group = titled(Group {
        origin: Some(path(PathKind::Connect, vec![plugin])),
        ..eof_unread()
    });
    assert!(words(group).contains("LEAK eof-unread in plugin_fetch (fetch.so) python3"));
}

#[test]
fn a_long_title_is_shortened_to_one_line() {
    let long = "<alloc::boxed::Box<dyn core::ops::function::FnOnce<()>> as Trait>::".repeat(9);
    let frame = own(&format!("{long}fetch"), &format!("{long}.rs"), 42);
    let group = titled(Group {
        origin: Some(path(PathKind::Connect, vec![frame])),
        ..eof_unread()
    });
    for width in [60, 80, 120] {
        let text = render(&report(vec![group.clone()]), width);
        let headline = text
            .lines()
            .position(|line| line.starts_with("LEAK"))
            .unwrap();
        let lines: Vec<&str> = text.lines().skip(headline).take(3).collect();
        assert_eq!(lines[0], "LEAK eof-unread in", "{text}");
        assert!(lines[1].ends_with(":42)"), "{text}");
        assert!(lines[1].contains("::fetch ("), "{text}");
        assert!(lines[2].starts_with("  python3 (pid 4242) keeps"), "{text}");
    }
}

#[test]
fn the_frames_of_the_program_stand_out_in_colour() {
    assert_snapshot!(coloured(&report(vec![eof_unread()]), 80).replace('\x1b', "ESC"));
}

#[test]
fn a_host_without_leaks_is_told_so() {
    let mut quiet = report(Vec::new());
    quiet.notes = vec!["2 network namespaces could not be entered.".into()];
    assert_snapshot!(render(&quiet, 80));
}

#[test]
fn the_limit_of_open_files_is_told_when_it_is_near() {
    let text = |open| {
        let mut report = report(Vec::new());
        report.totals.file_handles = Some(FileHandles {
            open,
            limit: 1_000_000,
        });
        words_of(&report)
    };
    assert!(text(800_001).contains("1,310 in TIME_WAIT, 800,001 of 1,000,000 open files in use"));
    assert!(!text(800_000).contains("open files"));
}

#[test]
fn a_process_that_runs_out_of_descriptors_is_one_line_among_the_changes() {
    let before = report(vec![eof_unread()]);
    let mut now = report(vec![eof_unread()]);
    now.processes = vec![samples::descriptors(4242)];
    assert_eq!(
        render_changes(&before, &now),
        "22:41:07  python3[4242]: 812 of 1,024 descriptors in use, 2.1 more each second: \"too many open files\" in about 1 min 40 s (31 counts in 30 s)\n"
    );
    assert_eq!(render_changes(&now, &now), "");
}

#[test]
fn groups_that_are_no_leaks_do_not_alarm() {
    let young = Group {
        leak: false,
        ..eof_unread()
    };
    let text = render(&report(vec![half_close_in_use(), young]), 80);
    assert!(
        text.starts_with("No leak. The 2 groups below are none, or not yet.\n"),
        "{text}"
    );
    assert!(
        text.contains("\nNO LEAK half-close-in-use: nginx"),
        "{text}"
    );
    assert!(
        text.contains("\nNOT YET A LEAK eof-unread in fetch_page (crawl.py:42)\n  python3"),
        "{text}"
    );
}

#[test]
fn half_dead_groups_are_mentioned_and_not_called_leaks() {
    let first = |groups| {
        let text = render(&report(groups), 120);
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        first(vec![samples::syn_sent(), samples::orphaned()]),
        "No leak. 15 connections in 2 groups are half dead."
    );
    assert_eq!(
        first(vec![samples::orphaned(), samples::open_idle()]),
        "No leak. 3 connections in 1 group are half dead. 31 connections in 1 group are open and idle."
    );
    assert_eq!(
        first(vec![eof_unread(), samples::syn_sent()]),
        "20 leaked connections of python3. 12 connections in 1 group are half dead."
    );
    assert_eq!(
        first(vec![samples::syn_sent(), half_close_in_use()]),
        "No leak. The 2 groups below are none, or not yet. 12 connections in 1 group are half dead."
    );
}

#[test]
fn no_line_is_longer_than_the_terminal_is_wide() {
    let groups = [samples::every_verdict(), vec![handler()]].concat();
    for width in 60..=200 {
        for line in render(&report(groups.clone()), width).lines() {
            assert!(
                textwrap::core::display_width(line) <= width,
                "{width}: {line:?}"
            );
        }
    }
}

#[test]
fn the_worst_leak_and_its_code_fit_on_the_first_screen() {
    let text = render(&report(vec![eof_unread(), dead_fd()]), 80);
    let screen = text.lines().take(24).collect::<Vec<_>>().join("\n");
    for found in [
        "python3 (pid 4242)",
        "> fetch_page",
        "crawl.py:42",
        "Next step",
        "fd 7",
    ] {
        assert!(screen.contains(found), "{found} is not in\n{screen}");
    }
}

#[test]
fn no_hostile_character_reaches_the_terminal() {
    for leak in [
        hostile(),
        Group {
            origin: None,
            ..hostile()
        },
    ] {
        let mut report = report(vec![
            leak.clone(),
            Group {
                leak: false,
                ..leak
            },
        ]);
        report.kernel = "\x1b[2J".into();
        report.processes = vec![samples::descriptors(666)];
        report.processes[0].comm = "\x1b[2J\nNo leak".into();
        report.notes = vec!["\u{202e}\x1b[2J".into()];
        let mut out = Vec::new();
        text(80).render(&report, &mut out).unwrap();
        text(80)
            .render_changes(&samples::report(Vec::new()), &report, &mut out)
            .unwrap();
        text(80)
            .render_changes(&report, &samples::report(Vec::new()), &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            let line = own_styles_removed(line);
            assert!(!line.contains(is_hostile), "{line:?}");
            assert_ne!(line.trim(), "No leak");
        }
    }
}

/// Takes out the sequences that set bold, dim and colours, and no others.
fn own_styles_removed(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, text) = part.split_once('m').unwrap_or(("", part));
        assert!(
            ["0", "1", "2", "31", "32", "33"].contains(&number),
            "{part:?}"
        );
        rest.push_str(text);
    }
    rest
}

#[test]
fn a_name_cannot_bring_its_own_styles() {
    let mut group = eof_unread();
    group.process.comm = "\x1b[31msh".into();
    assert!(coloured(&report(vec![group]), 80).contains("\\x1b[31msh"));
}

#[test]
fn an_age_that_is_a_lower_bound_says_at_least() {
    let group = Group {
        age_kind: AgeKind::AtLeast,
        ..eof_unread()
    };
    assert!(words(group).contains("the oldest at least 3 min 12 s ago"));
    let group = Group {
        age_kind: AgeKind::AtLeast,
        oldest_s: 0.0,
        ..eof_unread()
    };
    assert!(words(group).contains("the oldest an unknown time ago"));
}

#[test]
fn an_age_around_min_age_makes_it_perhaps_a_leak() {
    let qualifiers = vec![Qualifier::AgeUnknown];
    let words = words(Group {
        qualifiers,
        leak: false,
        ..eof_unread()
    });
    assert!(words.contains("PERHAPS A LEAK eof-unread"), "{words}");
    assert!(
        words.contains("--min-age lies between the bounds of the age"),
        "{words}"
    );
}

#[test]
fn a_snapshot_does_not_call_an_idle_pool_a_leak() {
    let words = words(Group {
        qualifiers: vec![Qualifier::LeakOrIdlePool],
        ..eof_unread()
    });
    assert!(words.contains("LEAK OR IDLE POOL eof-unread"), "{words}");
    assert!(words.contains("an idle pool looks the same"), "{words}");
}

#[test]
fn a_missing_code_path_has_its_reason() {
    let reason = |qualifier| {
        words(Group {
            qualifiers: vec![qualifier],
            origin: None,
            ..eof_unread()
        })
    };
    assert!(
        reason(Qualifier::BeforeTracer).contains("Code unknown: opened before tcpleak started")
    );
    assert!(
        reason(Qualifier::NotTraced).contains("Code unknown: this kernel does not let tcpleak")
    );
    assert!(reason(Qualifier::NotSampled).contains("Code unknown: not sampled"));
    assert!(reason(Qualifier::OwnerFromSurvey).contains("Code unknown: accept() was not seen"));
    assert!(reason(Qualifier::Growing).contains("Code unknown. It is known for connections"));
}

#[test]
fn every_other_qualifier_is_told() {
    let told = |qualifier| {
        words(Group {
            qualifiers: vec![qualifier],
            ..eof_unread()
        })
    };
    assert!(told(Qualifier::BeforeTracer).contains("Some were opened before tcpleak started"));
    assert!(told(Qualifier::HeldWithoutDescriptor).contains("held without descriptor"));
    assert!(told(Qualifier::ProcessEnded).contains("python3 (pid 4242, ended)"));
    assert!(told(Qualifier::RecentlySent).contains("LEAK OR IN USE eof-unread"));
}

#[test]
fn how_many_were_not_sampled_is_told() {
    assert!(
        words(handler()).contains("The code path of 380 of these 400 connections was not sampled.")
    );
    let words = words(Group {
        origin: None,
        ..handler()
    });
    assert!(!words.contains("380"), "no path is shown: {words}");
}

#[test]
fn a_group_that_no_process_owns_is_still_told() {
    let mut group = Group {
        pids: Vec::new(),
        holders: Vec::new(),
        ..eof_consumed()
    };
    group.process.pid = None;
    group.process.comm = "unknown".into();
    assert!(words(group).contains("eof-consumed: an unknown process keeps 1 connection"));
}

#[test]
fn a_connection_whose_listener_is_gone_is_nobodys_to_close() {
    let mut group = not_accepted();
    group.holders.clear();
    group.evidence = Evidence::NotAccepted {
        accept_queue: 0,
        backlog: 0,
        listener: None,
    };
    let words = words(group);
    assert!(words.contains("its listener is gone"), "{words}");
    assert!(words.contains("ss -K"), "{words}");
    assert!(!words.contains("accept() loop"), "{words}");
}

#[test]
fn descriptors_that_are_not_listed_are_hinted_at() {
    let mut group = not_accepted();
    group.holders = (0..9)
        .map(|pid| samples::holder(812 + pid, "nginx", 6, 1_000))
        .collect();
    let words = words(group);
    assert!(
        words.contains("nginx (pid 812), 1,000 descriptors: 6-69, ..."),
        "{words}"
    );
    assert!(words.contains("and 5 more processes"), "{words}");
}

#[test]
fn long_names_and_paths_are_shortened_to_the_line() {
    let long = "<alloc::boxed::Box<dyn core::ops::function::FnOnce<()>> as Trait>::".repeat(4);
    let file = format!("/builds/{}src/fetch.rs", "deep/".repeat(30));
    let mut group = eof_unread();
    group.origin = Some(path(
        PathKind::Connect,
        vec![own(&format!("{long}call_once"), &file, 42)],
    ));
    let text = render(&report(vec![group]), 80);
    assert!(text.contains("> <alloc::boxed::Box<dyn core::op"), "{text}");
    assert!(text.contains("::call_once\n"), "{text}");
    assert!(text.contains("deep/src/fetch.rs:42\n"), "{text}");
    assert!(
        text.lines()
            .all(|line| textwrap::core::display_width(line) <= 80),
        "{text}"
    );
}

#[test]
fn changes_are_a_line_each_and_news_a_whole_block() {
    let grown = Group {
        count: 25,
        ..eof_unread()
    };
    let mut ended = not_accepted();
    ended.qualifiers.push(Qualifier::ProcessEnded);
    let before = report(vec![eof_unread(), half_close_in_use(), not_accepted()]);
    let now = report(vec![grown, dead_fd(), ended]);
    assert_snapshot!(render_changes(&before, &now));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let same = report([samples::every_verdict(), vec![handler()]].concat());
    assert_eq!(render_changes(&same, &same), "");
}

#[test]
fn a_program_is_told_by_pod_container_or_unit_and_else_by_its_control_group() {
    let place = |name: Option<&str>, pod: Option<&str>, unit: Option<&str>| {
        let mut group = eof_unread();
        group.process.cgroup = Some("/docker/0a1b".into());
        group.process.unit = unit.map(str::to_owned);
        group.process.container = Some(Container {
            id: "0a1b".into(),
            name: name.map(str::to_owned),
            pod: pod.map(str::to_owned),
            ..Container::default()
        });
        words(group)
    };
    for (text, words) in [
        (place(None, None, None), "Cgroup /docker/0a1b Sockets"),
        (
            place(None, None, Some("a.service")),
            "Unit a.service Sockets",
        ),
        (place(Some("web"), None, None), "Container web Sockets"),
        (
            place(Some("web"), None, Some("a.service")),
            "Container web, unit a.service Sockets",
        ),
        (place(None, Some("web-0"), None), "Pod ?/web-0 Sockets"),
        (
            place(Some("web"), Some("web-0"), None),
            "Pod ?/web-0, container web Sockets",
        ),
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
