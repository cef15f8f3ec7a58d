//! The report as one JSON document (`docs/json.md`), and its schema.

use std::{borrow::Cow, fmt::Write as _, io};

use schemars::generate::SchemaSettings;

use crate::{plain, report::Report};

/// Writes the report as one indented document, with a newline at its end.
///
/// # Errors
///
/// What writing to `out` returns.
pub fn render(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let document = serde_json::to_string_pretty(report)?;
    writeln!(out, "{}", escape(&document))
}

/// The JSON Schema (draft 2020-12) of the document, as kept in `docs/tcpleak.schema.json`.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Report>()
        .into()
}

/// The same document with every hostile character as `\uXXXX`. JSON itself only asks for that below
/// U+0020, yet people look at documents on terminals.
pub(crate) fn escape(document: &str) -> Cow<'_, str> {
    // Inside strings a line break is escaped already: the raw ones are the document's own.
    let hostile = |character| character != '\n' && plain::is_hostile(character);
    if !document.contains(hostile) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 64);
    for character in document.chars() {
        if hostile(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        output::{ndjson, samples},
        report::{FileHandles, Group},
    };

    fn document(groups: Vec<Group>) -> Value {
        let mut out = Vec::new();
        render(&samples::report(groups), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn is_valid(document: &Value) -> bool {
        jsonschema::validator_for(&schema())
            .unwrap()
            .is_valid(document)
    }

    #[test]
    fn a_document_of_every_verdict_fits_the_schema() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let document = document(samples::every_verdict());
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        assert_eq!(document["groups"].as_array().unwrap().len(), 14);
    }

    #[test]
    fn descriptors_and_open_files_fit_the_schema() {
        let mut report = samples::report(Vec::new());
        report.processes = vec![samples::descriptors(4242)];
        report.totals.file_handles = Some(FileHandles {
            open: 434,
            limit: i64::MAX as u64,
        });
        let mut out = Vec::new();
        render(&report, &mut out).unwrap();
        let document = serde_json::from_slice::<Value>(&out).unwrap();
        assert!(is_valid(&document));
        assert_eq!(document["processes"][0]["runs_out_in_s"], 100.0);
        assert_eq!(document["totals"]["file_handles"]["open"], 434);
    }

    #[test]
    fn what_is_not_known_is_null_and_fits_the_schema() {
        let mut group = samples::eof_consumed();
        group.process.pid = None;
        group.process.exe = None;
        group.process.cmdline = None;
        group.process.cgroup = None;
        group.remote = None;
        group.growth_per_min = None;
        let document = document(vec![group]);
        assert!(is_valid(&document));
        for pointer in [
            "/process/pid",
            "/process/exe",
            "/opener",
            "/remote",
            "/growth_per_min",
            "/origin",
            "/last_use",
        ] {
            assert_eq!(
                document.pointer(&format!("/groups/0{pointer}")),
                Some(&Value::Null),
                "{pointer}"
            );
        }
    }

    #[test]
    fn a_document_that_is_wrong_does_not_fit_the_schema() {
        let right = document(vec![samples::eof_unread()]);
        let wrong = |pointer: &str, value: Value| {
            let mut document = right.clone();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        assert!(is_valid(&right));
        assert!(!is_valid(&wrong("/schema", json!(2))));
        assert!(!is_valid(&wrong("/groups/0/verdict", json!("eof-lost"))));
        assert!(!is_valid(&wrong("/groups/0/oldest_s", json!("3 min"))));
        assert!(!is_valid(&wrong("/groups/0/count", json!(-1))));
        assert!(!is_valid(&wrong(
            "/groups/0/evidence",
            json!({ "guess": true })
        )));
        let mut incomplete = right.clone();
        incomplete["groups"][0]
            .as_object_mut()
            .unwrap()
            .remove("origin");
        assert!(!is_valid(&incomplete));
    }

    #[test]
    fn a_line_is_the_same_document_on_one_line() {
        let mut out = Vec::new();
        ndjson::render(&samples::report(samples::every_verdict()), &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            document(samples::every_verdict())
        );
    }

    #[test]
    fn hostile_names_are_escaped_and_unchanged() {
        let mut group = samples::hostile();
        group.process.comm.push('\u{e0041}');
        let comm = group.process.comm.clone();
        let mut out = Vec::new();
        render(&samples::report(vec![group.clone()]), &mut out).unwrap();
        ndjson::render(&samples::report(vec![group]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| !line.contains(plain::is_hostile)));
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["groups"][0]["process"]["comm"], comm);
    }

    #[test]
    fn the_time_is_utc() {
        assert_eq!(document(Vec::new())["taken_at"], "2026-05-14T22:41:07Z");
    }
}
