//! The report of a run as JUnit XML: one test for each leak, failed, and one that is skipped for each that
//! is suppressed. A run without any has one test, which passes, so that it is seen to have been there.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::text::Text;
use crate::{
    plain::plain,
    report::{Group, Report},
};

/// What the tests are of.
const SUITE: &str = "tcpleak";
/// The test of a run without leaks.
const PASSED: &str = "connections are closed";

/// Writes the document.
///
/// # Errors
///
/// What writing to `out` returns.
pub fn render(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let leaks: Vec<&Group> = report.groups.iter().filter(|group| group.leak).collect();
    let suppressed = report.run.as_ref().map(|run| run.suppressed.as_slice());
    let suppressed = suppressed.unwrap_or_default();
    let tests = (leaks.len() + suppressed.len()).max(1).to_string();
    let numbers = [
        ("tests", tests),
        ("failures", leaks.len().to_string()),
        ("errors", "0".to_owned()),
        ("skipped", suppressed.len().to_string()),
    ];
    let numbers = || {
        numbers
            .iter()
            .map(|(name, number)| (*name, number.as_str()))
    };
    let mut writer = Writer::new_with_indent(out, b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer
        .create_element("testsuites")
        .with_attribute(("name", SUITE))
        .with_attributes(numbers())
        .write_inner_content(|writer| {
            let suite = writer
                .create_element("testsuite")
                .with_attribute(("name", SUITE));
            let suite = suite.with_attributes(numbers());
            let time = report.taken_at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            let suite = suite.with_attribute(("timestamp", time.as_str()));
            suite.write_inner_content(|writer| {
                for group in &leaks {
                    failed(writer, group)?;
                }
                for leak in suppressed {
                    skipped(writer, &leak.group, &leak.reason)?;
                }
                if leaks.is_empty() && suppressed.is_empty() {
                    let case = writer.create_element("testcase");
                    case.with_attributes([("name", PASSED), ("classname", SUITE)])
                        .write_empty()?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
    writeln!(writer.get_mut())
}

fn failed(writer: &mut Writer<impl io::Write>, group: &Group) -> io::Result<()> {
    let mut text = Vec::new();
    Text::for_files().render_group(group, &mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let message = Text::sentence(group);
    test(writer, group, |writer| {
        writer
            .create_element("failure")
            .with_attribute(("message", allowed(&message).as_str()))
            .with_attribute(("type", group.verdict.word()))
            .write_text_content(BytesText::new(&allowed(&text)))
            .map(drop)
    })
}

fn skipped(writer: &mut Writer<impl io::Write>, group: &Group, reason: &str) -> io::Result<()> {
    test(writer, group, |writer| {
        let message = allowed(reason);
        writer
            .create_element("skipped")
            .with_attribute(("message", message.as_str()))
            .write_empty()
            .map(drop)
    })
}

fn test<W: io::Write>(
    writer: &mut Writer<W>,
    group: &Group,
    content: impl FnOnce(&mut Writer<W>) -> io::Result<()>,
) -> io::Result<()> {
    let class = allowed(&format!("{SUITE}.{}", group.process.comm));
    writer
        .create_element("testcase")
        .with_attribute(("name", allowed(&Text::heading(group)).as_str()))
        .with_attribute(("classname", class.as_str()))
        .write_inner_content(content)
        .map(drop)
}

/// The text without what XML does not allow, however it is escaped. Its lines stay.
fn allowed(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| plain(line).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quick_xml::{
        Reader,
        events::{BytesStart, attributes::Attribute},
    };

    use super::*;
    use crate::{
        output::samples::{dead_fd, eof_unread, hostile, report},
        report::{Run, Suppressed},
    };

    struct Element {
        name: String,
        attributes: BTreeMap<String, String>,
        text: String,
    }

    impl Element {
        fn of(element: &BytesStart<'_>) -> Self {
            let attribute =
                |one: Attribute<'_>| (one.key.as_ref().to_owned(), unescaped(&one.value));
            let attributes = element.attributes().map(Result::unwrap);
            Self {
                name: element.name().as_ref().to_owned(),
                attributes: attributes.map(attribute).collect(),
                text: String::new(),
            }
        }
    }

    /// The elements of the document, each with the text in it.
    fn elements(report: &Report) -> Vec<Element> {
        let mut document = Vec::new();
        render(report, &mut document).unwrap();
        let document = String::from_utf8(document).unwrap();
        let mut reader = Reader::from_str(&document);
        let mut found: Vec<Element> = Vec::new();
        loop {
            let text = match reader.read_event().unwrap() {
                Event::Start(element) | Event::Empty(element) => {
                    found.push(Element::of(&element));
                    continue;
                }
                Event::Text(text) => text.to_string(),
                Event::GeneralRef(reference) => unescaped(&format!("&{};", &*reference)),
                Event::Eof => return found,
                _ => continue,
            };
            if let Some(last) = found.last_mut() {
                last.text += &text;
            }
        }
    }

    fn unescaped(text: &str) -> String {
        quick_xml::escape::unescape(text).unwrap().into_owned()
    }

    #[test]
    fn a_leak_is_a_test_that_failed() {
        let found = elements(&report(vec![eof_unread(), dead_fd()]));
        let names: Vec<&str> = found.iter().map(|element| element.name.as_str()).collect();
        let test = ["testcase", "failure"];
        assert_eq!(
            names,
            [&["testsuites", "testsuite"], &test[..], &test].concat()
        );
        assert_eq!(found[1].attributes["tests"], "2");
        assert_eq!(found[1].attributes["failures"], "2");
        assert_eq!(found[3].attributes["type"], "eof-unread");
        assert!(found[3].text.contains("Evidence"), "{}", found[3].text);
        assert!(found[3].text.lines().count() > 10);
    }

    #[test]
    fn a_run_without_leaks_is_a_test_that_passed() {
        let found = elements(&report(Vec::new()));
        assert_eq!(found[1].attributes["tests"], "1");
        assert_eq!(found[1].attributes["failures"], "0");
        assert_eq!(found[2].attributes["name"], PASSED);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_is_suppressed_is_skipped_and_says_why() {
        let mut report = report(Vec::new());
        report.run = Some(Run {
            command_status: Some(0),
            command_signal: None,
            suppressed: vec![Suppressed {
                reason: "known: <#42> & \"rest\"".into(),
                line: 1,
                group: eof_unread(),
            }],
            unused_suppressions: Vec::new(),
            still_running: Vec::new(),
        });
        let found = elements(&report);
        assert_eq!(found[1].attributes["skipped"], "1");
        assert_eq!(found[3].name, "skipped");
        assert_eq!(found[3].attributes["message"], "known: <#42> & \"rest\"");
    }

    #[test]
    fn a_hostile_name_leaves_a_document_that_can_be_read() {
        let mut group = hostile();
        group.process.comm.push_str("\u{1}\u{fffe}]]><&\"");
        let found = elements(&report(vec![group]));
        let class = &found[2].attributes["classname"];
        assert!(class.ends_with("\\x01\u{fffd}]]><&\""), "{class}");
    }
}
