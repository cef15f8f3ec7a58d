use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;
use crate::{
    output::{samples, text::Text},
    plain::plain,
    report::{AgeKind, Group, Qualifier},
};

/// What lies between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

#[test]
fn the_policy_admits_the_style_and_the_script_of_the_page_and_nothing_else() {
    let Page {
        html,
        content_security_policy: policy,
    } = page();
    let script = between(html, "<script type=\"module\">", "</script>");
    let style = between(html, "<style>", "</style>");
    assert!(policy.contains(&format!("script-src '{}';", hash(script))));
    assert!(policy.contains(&format!("style-src '{}';", hash(style))));
    assert!(policy.starts_with("default-src 'none'; "));
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
    assert_eq!(html.matches("<script").count(), 1);
    assert_eq!(html.matches("<style").count(), 1);
    // What `printf alert | openssl dgst -sha256 -binary | base64` prints.
    assert_eq!(
        hash("alert"),
        "sha256-35BQWN1npAn++BSA6B5HNlcrDttNf7mHxpXNB+Jg7IE="
    );
}

#[test]
fn the_page_needs_nothing_that_the_policy_forbids() {
    let Page { html, .. } = page();
    // The name of a vocabulary is no address that anything is loaded from.
    let html = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:",
        "https:",
        " style=\"",
        " onclick=",
        " onload=",
        " onerror=",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "@import",
        "url(",
        "localStorage",
        "sessionStorage",
        "document.cookie",
        "{{",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

/// What an expression of the page's words is for each of these, as JavaScript has it.
fn words_of(expression: &str, values: &Value) -> Vec<Value> {
    let script = format!(
        "{}\nprocess.stdin.toArray().then((chunks) => console.log(JSON.stringify(\
         JSON.parse(Buffer.concat(chunks)).map((it) => {expression}))));",
        WORDS.join("\n")
    );
    let mut node = Command::new("node")
        .args(["--input-type=module", "--eval", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the words of the page need node (package nodejs)");
    let mut input = node.stdin.take().unwrap();
    input.write_all(values.to_string().as_bytes()).unwrap();
    drop(input);
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text of a report on one line.
fn text_of(group: Group) -> String {
    let text = Text {
        width: 10_000,
        zone: TimeZone::UTC,
        full_stacks: false,
    };
    let mut out = Vec::new();
    text.render(&samples::report(vec![group]), &mut out)
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    one_line(&anstream::adapter::strip_str(&text).to_string())
}

fn every_qualifier() -> impl Iterator<Item = Group> {
    let qualifiers = [
        Qualifier::Growing,
        Qualifier::AgeUnknown,
        Qualifier::BeforeTracer,
        Qualifier::NotTraced,
        Qualifier::NotSampled,
        Qualifier::OwnerFromSurvey,
        Qualifier::HeldWithoutDescriptor,
        Qualifier::ProcessEnded,
        Qualifier::ClosedByExit,
        Qualifier::RecentlySent,
        Qualifier::LeakOrIdlePool,
    ];
    qualifiers.into_iter().flat_map(|qualifier| {
        [true, false].map(|leak| Group {
            qualifiers: vec![qualifier],
            leak,
            age_kind: AgeKind::AtLeast,
            ..samples::eof_unread()
        })
    })
}

#[test]
fn the_page_says_of_each_group_what_the_text_says() {
    let groups: Vec<Group> = samples::every_verdict()
        .into_iter()
        .chain(every_qualifier())
        .chain([samples::handler()])
        .collect();
    let said = words_of(
        "[`${status(it)[0]} ${it.verdict}`, `${subject(it)} ${predicate(it)}`, growth(it), evidence(it), \
         verdictOf(it).next, ...remarks(it)]",
        &json!(groups),
    );
    assert_eq!(said.len(), groups.len());
    for (group, said) in groups.into_iter().zip(said) {
        let text = text_of(group);
        for sentence in said.as_array().unwrap() {
            let sentence = one_line(sentence.as_str().unwrap());
            assert!(text.contains(&sentence), "{sentence:?} is not in\n{text}");
        }
    }
}

#[test]
fn every_verdict_has_a_meaning_on_the_page() {
    let groups = samples::every_verdict();
    for meaning in words_of("[it.verdict, verdictOf(it).meaning]", &json!(groups)) {
        assert_ne!(meaning[1], "", "{meaning}");
    }
}

#[test]
fn a_group_of_which_nothing_is_known_is_still_told() {
    let nothing =
        json!([{}, {"verdict": "of-the-future"}, {"verdict": "constructor", "evidence": null}]);
    let said = words_of(
        "[status(it), subject(it), predicate(it), evidence(it), remarks(it), titlePlace(it), noCodePath(it)]",
        &nothing,
    );
    assert_eq!(said[0][1], "an unknown process");
    assert_eq!(said.len(), 3);
}

#[test]
fn characters_that_would_not_show_are_written_out_as_in_the_text() {
    let every: Vec<String> = (0..=0x10_ffff)
        .filter_map(char::from_u32)
        .map(String::from)
        .collect();
    let every = every.concat();
    let escaped = words_of("plain(it)", &json!([every]));
    assert!(escaped[0] == *plain(&every), "they differ");
}

#[test]
fn numbers_are_said_as_in_the_text() {
    let said = words_of(
        "[duration(it), bytes(it), pace(it), perMinute(it)].map((text) => text.replaceAll(NO_BREAK, ' '))",
        &json!([0.5, 59, 192.4, 7530, 187_200, 1_048_576]),
    );
    assert_eq!(
        said[0],
        json!([
            "less than a second",
            "1 bytes",
            "30 more each minute",
            "0.5 per minute"
        ])
    );
    assert_eq!(
        said[1],
        json!(["59 s", "59 bytes", "59 more each second", "59 per minute"])
    );
    assert_eq!(said[2][0], "3 min 12 s");
    assert_eq!(
        said[3],
        json!([
            "2 h 5 min",
            "7.4 KiB",
            "7530 more each second",
            "7530 per minute"
        ])
    );
    assert_eq!(said[4][0], "2 d 4 h");
    assert_eq!(said[5][1], "1.0 MiB");
}
