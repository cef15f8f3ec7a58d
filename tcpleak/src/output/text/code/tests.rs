use super::{super::tests::words, *};
use crate::{
    output::samples::{eof_unread, library, own, path, titled},
    report::{Frame, Incomplete},
};

#[test]
fn a_path_that_is_not_complete_says_why() {
    let ends = |reason| {
        words(Group {
            origin: Some(CodePath::new(
                PathKind::Connect,
                vec![own("fetch", "fetch.c", 1)],
                Some(reason),
            )),
            ..eof_unread()
        })
    };
    for (reason, words) in [
        (
            Incomplete::StackTooDeep,
            "the copied part of the stack ends here",
        ),
        (
            Incomplete::NoUnwindInformation,
            "no unwind information says who called this",
        ),
        (
            Incomplete::FramePointers,
            "lets only frame pointers be followed",
        ),
        (
            Incomplete::ProcessGone,
            "was gone before its code could be read",
        ),
        (
            Incomplete::ReaderFailed,
            "files of the program could not be read",
        ),
        (Incomplete::IoUring, "io_uring did this by itself"),
        (
            Incomplete::Unproven,
            "nothing proves that the thread began here",
        ),
    ] {
        let text = ends(reason);
        assert!(text.contains("fetch.c:1 ... "), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn frames_of_a_runtime_that_could_not_be_read_are_said_to_be_missing() {
    let mut origin = path(PathKind::Connect, vec![library("f", "/usr/lib/libjvm.so")]);
    origin.unreadable = Some("java: its libjvm.so\u{1b}[31m has no tables".into());
    let text = words(Group {
        origin: Some(origin),
        ..eof_unread()
    });
    let said = "... functions are missing: java: its libjvm.so\\x1b[31m has no tables";
    assert!(text.contains(said), "{text}");
}

#[test]
fn who_asked_for_a_connection_stands_above_who_opened_it() {
    let dials = library("net/http.(*Transport).dialConn", "/srv/crawler");
    let mut origin = path(PathKind::Connect, vec![dials]);
    origin.requested_by = Some(vec![own("main.fetchNews", "news.go", 24)]);
    let text = words(Group {
        origin: Some(origin),
        ..eof_unread()
    });
    let (asked, opened) = (text.find("requested by"), text.find("opened by connect()"));
    let (news, dials) = (text.find("main.fetchNews"), text.find("dialConn"));
    assert!(asked < news && news < opened && opened < dials, "{text}");
    assert!(asked.is_some(), "{text}");
}

#[test]
fn a_call_from_the_event_loop_is_said_to_have_lost_who_asked() {
    let said = "called from the event loop: who asked for it is not on the stack";
    let javascript = |function: Frame| Frame {
        runtime: "javascript".into(),
        ..function
    };
    let text = |frames| {
        words(Group {
            origin: Some(path(PathKind::Connect, frames)),
            ..eof_unread()
        })
    };
    let connects = javascript(library("internalConnect", "node"));
    let fetch = javascript(own("fetch", "/srv/crawler/fetch.js", 7));
    assert!(text(vec![connects.clone()]).contains(said));
    assert!(!text(vec![connects, fetch]).contains(said));
    assert!(!text(vec![library("connect", "/lib/libc.so.6")]).contains(said));
}

/// The text of a group whose connections were opened by `fetch` and used last as told.
fn used(last_use: LastUse) -> String {
    words(titled(Group {
        origin: Some(path(PathKind::Connect, vec![own("fetch", "fetch.c", 1)])),
        last_use: Some(last_use),
        ..eof_unread()
    }))
}

fn last_use(read: Option<CodePath>, write: Option<CodePath>) -> LastUse {
    LastUse {
        direction: Direction::Write,
        ago_s: 12.0,
        unsampled: 0,
        read,
        reads_since: 0,
        write,
        writes_since: 0,
    }
}

fn through(kind: PathKind, function: &str) -> Option<CodePath> {
    let frames = vec![
        library("SSL_do", "/lib/libssl.so.3"),
        own(function, "use.c", 5),
    ];
    Some(path(kind, frames))
}

#[test]
fn a_read_and_a_write_by_the_same_functions_are_shown_once() {
    let (read, write) = (
        through(PathKind::Read, "talk"),
        through(PathKind::Write, "talk"),
    );
    let text = used(last_use(read, write));
    assert!(
        text.contains("Last use written 12 s ago, and read before that, by (innermost first) SSL_do in libssl.so.3 > talk use.c:5 Next step"),
        "{text}"
    );
}

#[test]
fn the_earlier_of_two_uses_shows_the_program_only() {
    let (read, write) = (
        through(PathKind::Read, "listen"),
        through(PathKind::Write, "talk"),
    );
    let text = used(last_use(read, write));
    assert!(
        text.contains("> talk use.c:5 read before that, by > listen use.c:5 Next step"),
        "{text}"
    );
}

#[test]
fn a_use_by_the_functions_that_opened_is_cut_to_these() {
    let text = used(last_use(None, through(PathKind::Write, "fetch")));
    assert!(
        text.contains("Last use written 12 s ago, by (innermost first) > fetch use.c:5 Next step"),
        "{text}"
    );
}

#[test]
fn uses_that_were_not_captured_are_told() {
    let text = used(last_use(None, None));
    assert!(
        text.contains("Last use written 12 s ago; the code was not captured. Next step"),
        "{text}"
    );
    let text = used(LastUse {
        writes_since: 3,
        unsampled: 4,
        ..last_use(None, through(PathKind::Write, "talk"))
    });
    assert!(
        text.contains("written 12 s ago; last captured up to 3 writes earlier, by SSL_do"),
        "{text}"
    );
    assert!(
        text.contains("The last use of 4 of these 20 connections was not sampled."),
        "{text}"
    );
}
