//! The documentation of the outputs says what the outputs do.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use serde_json::Value;
use tcpleak::output::json::schema;

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

fn read(name: &str) -> String {
    let path = docs(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// With `TCPLEAK_UPDATE_SCHEMA=1` this writes the schema instead.
#[test]
fn the_schema_in_the_tree_is_the_one_of_the_report() {
    if env::var_os("TCPLEAK_UPDATE_SCHEMA").is_some() {
        fs::write(docs("tcpleak.schema.json"), format!("{:#}\n", schema())).unwrap();
    }
    let kept: Value = serde_json::from_str(&read("tcpleak.schema.json")).unwrap();
    assert!(
        kept == schema(),
        "docs/tcpleak.schema.json is not current: run \
         TCPLEAK_UPDATE_SCHEMA=1 cargo test -p tcpleak --test output_docs"
    );
}

/// The code blocks of a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    document
        .split(&start)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_examples_in_the_documentation_fit_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = read("json.md");
    let (whole, lines) = (blocks(&document, "json"), blocks(&document, "jsonl"));
    assert_eq!((whole.len(), lines.len()), (1, 1));
    for example in whole.iter().map(String::as_str).chain(lines[0].lines()) {
        let example: Value = serde_json::from_str(example).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&example)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn every_field_is_documented() {
    let document = read("json.md");
    let mut names = BTreeSet::new();
    property_names(&schema(), &mut names);
    assert!(
        names.contains("oldest_s") && names.contains("window_bytes"),
        "{names:?}"
    );
    for name in names {
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/json.md does not explain `{name}`"
        );
    }
}

fn property_names(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object
                .values()
                .for_each(|value| property_names(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| property_names(value, names)),
        _ => {}
    }
}

#[test]
fn every_verdict_and_qualifier_is_explained() {
    let document = read("verdicts.md");
    for (definition, least) in [("Verdict", 10), ("Qualifier", 9)] {
        let words = constants(&schema()["$defs"][definition]);
        assert!(words.len() >= least, "{definition}: {words:?}");
        for word in words {
            let heading = format!("### `{word}`");
            assert!(
                document.lines().any(|line| line.starts_with(&heading)),
                "docs/verdicts.md has no heading for `{word}`"
            );
        }
    }
}

#[test]
fn every_word_about_a_code_path_is_explained() {
    let document = read("json.md");
    let (schema, mut explained) = (schema(), 0);
    for definition in ["PathKind", "Incomplete", "TitlePath", "Direction"] {
        for word in constants(&schema["$defs"][definition]) {
            assert!(
                document.contains(&format!("`{word}`")),
                "docs/json.md does not explain `{word}`"
            );
            explained += 1;
        }
    }
    assert_eq!(explained, 6 + 7 + 3 + 2);
}

/// The words of an enumeration in a schema.
fn constants(schema: &Value) -> Vec<String> {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    variants
        .filter_map(|variant| variant["const"].as_str())
        .map(str::to_owned)
        .collect()
}
