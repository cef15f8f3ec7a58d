//! The live page of `tcpleak serve`, in a real browser.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::harness::{Browser, Fixture, Server, Serving, fixture_binary, leaks, wait_until};

/// What a page must show as it is written, wherever it stands.
const HOSTILE_NAME: &str = "<img src=//>\u{202e}";
const HOSTILE_DIRECTORY: &str = "<img src=x onerror=alert(1)>\"'><script>alert(2)<";

/// A program that leaks seven connections for every word, their server, and a tcpleak that watches nothing else.
struct Story {
    fixture: Fixture,
    server: Server,
    serving: Serving,
    _directory: tempfile::TempDir,
}

impl Story {
    #[track_caller]
    fn begin(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let home = directory.path().join(HOSTILE_DIRECTORY);
        fs::create_dir(&home).expect("any name is allowed");
        let program = home.join("leaky");
        fs::copy(fixture_binary("leaky"), &program).expect("the fixture can be copied");
        let server = Server::start();
        let address = server.address();
        let arguments = ["--name", HOSTILE_NAME, "connect", &address, "7"];
        let fixture = Fixture::start_program(Command::new(&program).args(arguments));
        let pid = fixture.pid_text();
        let serving = Serving::start(&[&["--pid", &pid], options].concat());
        Self {
            fixture,
            server,
            serving,
            _directory: directory,
        }
    }

    /// Leaks seven more, and returns the leak when it has so many and its code is known.
    #[track_caller]
    fn leak(&mut self, so_many: u64) -> Value {
        self.fixture.go();
        self.server.hang_up_on(7);
        let leak = |report: &Value| {
            let mut leaks = leaks(report);
            leaks
                .find(|leak| leak["count"] == so_many && !leak["origin"].is_null())
                .cloned()
        };
        let report = self
            .serving
            .wait_for_report("the leak with its code", |report| leak(report).is_some());
        leak(&report).expect("it was found")
    }
}

/// The group of a leak on the page, as an expression.
fn group_of(leak: &Value) -> String {
    let id = leak["id"].as_str().expect("a group has an id");
    format!("document.querySelector('[data-group=\"{id}\"]')")
}

/// The text of what an expression is.
#[track_caller]
fn text_of(browser: &mut Browser, expression: &str) -> String {
    let text = browser.evaluate(&format!(
        "{expression}.innerText.replaceAll('\\u00a0', ' ')"
    ));
    text.as_str().expect("it has a text").to_owned()
}

#[test]
fn the_page_tells_a_leak_its_meaning_and_its_code_and_text_of_strangers_stays_text() {
    let mut story = Story::begin(&[]);
    let leak = story.leak(7);
    let mut browser = Browser::open(story.serving.url());
    let group = group_of(&leak);
    browser.wait_until(&group);
    assert_eq!(
        browser.evaluate("document.title"),
        "7 leaked connections - tcpleak"
    );
    let told = text_of(&mut browser, &group);
    let pid = story.fixture.pid();
    for words in [
        "LEAK eof-unread in leaky::connect::open_connection (connect.rs:",
        &format!("<img src=//>\\u{{202e}} (pid {pid}) keeps 7 connections to "),
        "The peer's FIN waits in the receive queue and was never read",
        "Only the peer's FIN waits to be read: no read has returned end of file.",
        "Close the connection, or the response that holds it, on every path",
        "Opened by connect(), called from (innermost first)",
        "leaky::connect::open_connections",
        HOSTILE_DIRECTORY,
    ] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }

    let boxes = browser
        .evaluate("[...document.querySelectorAll('.flame button')].map((box) => box.textContent)");
    let boxes = boxes.as_array().expect("there is a flamegraph").clone();
    assert_eq!(boxes[0], "all leaked connections");
    assert_eq!(boxes[1], "<img src=//>\\u{202e}");
    for function in ["main", "open_connections", "open_connection"] {
        let found = boxes
            .iter()
            .filter_map(Value::as_str)
            .any(|name| name.ends_with(&format!("::{function}")));
        assert!(found, "{function} is not among {boxes:?}");
    }

    browser.evaluate(&format!("{group}.querySelector('.sockets').open = true"));
    let first = leak["connections"][0]["local"]
        .as_str()
        .expect("an address");
    assert!(text_of(&mut browser, &group).contains(first));
    // Two points of the last hour are ten seconds apart.
    browser.wait_until(&format!("{group}.querySelector('.plot path')"));
    assert_eq!(
        browser.evaluate("document.querySelectorAll('img, script:not([type=module])').length"),
        0
    );
    assert_eq!(browser.complaints(), json!([]));
    // The policy is in force, and what it forbids is told.
    browser.evaluate("document.body.setAttribute('style', 'color: red')");
    wait_until("the browser complains", || {
        browser.complaints() != json!([])
    });
}

#[test]
fn what_the_reader_has_unfolded_zoomed_to_and_focused_stays_when_the_report_is_new() {
    let mut story = Story::begin(&[]);
    let leak = story.leak(7);
    let mut browser = Browser::open(story.serving.url());
    let group = group_of(&leak);
    browser.wait_until(&group);
    let zoomed = "[...document.querySelectorAll('.flame button')].find((box) => box.textContent.endsWith('::open_connections'))";
    browser.evaluate(&format!(
        "window.marked = {zoomed}; marked.focus(); marked.click()"
    ));
    browser.evaluate(&format!("{group}.querySelector('.sockets').open = true"));
    browser.evaluate("window.scrollTo(0, 200)");
    let scrolled = browser.evaluate("window.scrollY");
    assert_eq!(browser.evaluate("marked.style.width"), "100%");

    story.leak(14);
    browser.wait_until("document.title === '14 leaked connections - tcpleak'");
    assert_eq!(browser.evaluate("document.activeElement === marked"), true);
    assert_eq!(browser.evaluate("marked.style.width"), "100%");
    assert_eq!(browser.evaluate("window.scrollY"), scrolled);
    assert_eq!(
        browser.evaluate(&format!("{group}.querySelector('.sockets').open")),
        true
    );

    browser.evaluate(&format!("{group}.querySelector('summary').click()"));
    browser.wait_until(&format!("!{group}.querySelector('.body')"));
    let folded = text_of(&mut browser, &group);
    assert!(folded.contains("keeps 14 connections"), "{folded}");
    assert_eq!(browser.complaints(), json!([]));
}

#[test]
fn the_flamegraph_is_used_by_keys_alone() {
    let mut story = Story::begin(&[]);
    let leak = story.leak(7);
    let mut browser = Browser::open(story.serving.url());
    browser.wait_until(&group_of(&leak));
    let press = |key: &str| {
        format!(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
        )
    };
    let focused = "document.activeElement.textContent";
    browser.evaluate("document.querySelector('.flame [tabindex=\"0\"]').focus()");
    assert_eq!(browser.evaluate(focused), "all leaked connections");
    browser.evaluate(&press("ArrowDown"));
    assert_eq!(browser.evaluate(focused), "<img src=//>\\u{202e}");
    let told = text_of(&mut browser, "document.querySelector('.pointed')");
    assert!(told.contains(": 7 of 7 connections, 100 %"), "{told}");
    browser.evaluate("document.activeElement.click()");
    let around = "document.querySelectorAll('.flame .around').length";
    assert_eq!(browser.evaluate(around), 1);
    browser.evaluate(&press("Escape"));
    assert_eq!(browser.evaluate(around), 0);
    browser.evaluate(&press("ArrowUp"));
    assert_eq!(browser.evaluate(focused), "all leaked connections");
    let boxes = "document.querySelectorAll('.flame button').length";
    let own = browser.evaluate(boxes).as_u64();
    browser.evaluate("document.querySelector('#flame input').click()");
    assert!(browser.evaluate(boxes).as_u64() > own);
    assert_eq!(browser.complaints(), json!([]));
}

#[test]
fn a_page_that_is_paused_shows_news_when_it_is_resumed() {
    let mut story = Story::begin(&[]);
    let leak = story.leak(7);
    let mut browser = Browser::open(story.serving.url());
    browser.wait_until(&group_of(&leak));
    let pause = "document.getElementById('pause')";
    browser.evaluate(&format!("{pause}.click()"));
    assert_eq!(text_of(&mut browser, pause), "Resume");
    assert!(browser.text().contains("paused"));
    story.leak(14);
    assert!(
        text_of(&mut browser, "document.getElementById('leaks')").contains("keeps 7 connections")
    );
    browser.evaluate(&format!("{pause}.click()"));
    browser.wait_until("document.title === '14 leaked connections - tcpleak'");
}

#[test]
fn the_last_report_stays_when_tcpleak_is_gone_and_the_page_says_so() {
    let mut story = Story::begin(&[]);
    let leak = story.leak(7);
    let mut browser = Browser::open(story.serving.url());
    let group = group_of(&leak);
    browser.wait_until(&group);
    assert_eq!(story.serving.terminate(), 0);
    browser.wait_until("document.querySelector('.trouble')");
    let told = text_of(&mut browser, "document.querySelector('.trouble')");
    assert!(told.contains("tcpleak does not answer since "), "{told}");
    assert!(told.contains("What you see is from "), "{told}");
    assert!(text_of(&mut browser, &group).contains("keeps 7 connections"));
}

#[test]
fn a_page_that_needs_a_token_takes_it_from_its_address_and_does_not_keep_it_there() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let token = directory.path().join("token");
    fs::write(&token, "0123456789abcdef\n").expect("it is ours");
    let token = token.to_str().expect("a path of ASCII");
    let story = Story::begin(&["--token-file", token]);
    let mut browser = Browser::open(story.serving.url());
    let trouble = "document.querySelector('.trouble')";
    browser.wait_until(trouble);
    assert!(text_of(&mut browser, trouble).contains("tcpleak wants a token"));
    browser.evaluate("document.getElementById('token').value = 'this-one-is-wrong'");
    browser.evaluate("document.querySelector('.trouble button').click()");
    browser.wait_until(trouble);
    browser.evaluate("location.hash = 'token=0123456789abcdef'");
    browser.wait_until("document.title === 'No leak - tcpleak'");
    assert_eq!(browser.evaluate(trouble), Value::Null);
    assert_eq!(browser.evaluate("location.hash"), "");
    let told = browser.text();
    assert!(
        told.contains("No connection is held open whose peer has been gone"),
        "{told}"
    );
    assert_eq!(browser.complaints(), json!([]));
}
