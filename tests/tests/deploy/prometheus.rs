//! The rules for Prometheus.

use std::{collections::BTreeSet, fs, path::Path};

use crate::tools::{file, installed, repository, run, temporary, text};

const RULES: &str = "deploy/prometheus/alerts.yml";
const TESTS: &str = "deploy/prometheus/alerts.test.yml";
const CONFIGURATION: &str = "deploy/prometheus/prometheus.yml";

/// What promtool says to a file: whether it is content, and its words.
pub fn promtool(arguments: &[&str], file: &Path) -> (bool, String) {
    let said = run(installed("promtool", "prometheus")
        .args(arguments)
        .arg(file));
    (said.content, said.words)
}

/// The metrics of tcpleak that a text names.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character))
        .filter(|word| word.starts_with("tcpleak_"))
        .map(str::to_owned)
        .collect()
}

/// The metrics that tcpleak has, by its source.
pub fn metrics_of_tcpleak() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let source = repository().join("tcpleak/src");
    let directory = fs::read_dir(source.join("metrics")).expect("the source is there");
    let files = directory.map(|entry| entry.expect("it can be read").path());
    for file in files.chain([source.join("metrics.rs")]) {
        if file.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("the source is there");
        // Every second part stands in quotation marks.
        let parts: Vec<&str> = text.split('"').collect();
        for pair in parts.chunks_exact(2) {
            if let [before, name] = pair
                && name.starts_with("tcpleak_")
            {
                let counts = before.trim_end().ends_with("counter(");
                names.insert(format!("{name}{}", if counts { "_total" } else { "" }));
            }
        }
    }
    names
}

/// Fails unless tcpleak has all metrics that a text names.
#[track_caller]
pub fn assert_known(text: &str) {
    let (named, known) = (metrics_in(text), metrics_of_tcpleak());
    assert!(!named.is_empty(), "{text}");
    let unknown: Vec<&String> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are none of {known:#?}");
}

#[test]
fn the_metrics_of_tcpleak_are_found_in_its_source() {
    let known = metrics_of_tcpleak();
    for name in [
        "tcpleak_leaked_connections",
        "tcpleak_ports_in_use",
        "tcpleak_records_dropped_total",
        "tcpleak_resident_memory_bytes",
    ] {
        assert!(known.contains(name), "{name}: {known:#?}");
    }
}

#[test]
fn promtool_takes_the_rules_and_the_configuration() {
    let (content, words) = promtool(&["check", "rules"], &file(RULES));
    assert!(content, "{words}");
    let broken = temporary(&text(RULES).replace("rate(", "rated("), ".yml");
    assert!(!promtool(&["check", "rules"], broken.path()).0);
    let (content, words) = promtool(&["check", "config"], &file(CONFIGURATION));
    assert!(content, "{words}");
}

#[test]
fn every_alert_is_told_when_it_should_be_and_not_before() {
    let (content, words) = promtool(&["test", "rules"], &file(TESTS));
    assert!(content, "{words}");
    let tested = text(TESTS);
    let rules = text(RULES);
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert_eq!(alerts.len(), 9, "{alerts:?}");
    for alert in alerts {
        // Once before it is told, and once when it is.
        let tests = tested.matches(&format!("alertname: {alert}\n")).count();
        assert!(tests >= 2, "{alert}");
    }
}

#[test]
fn the_rules_are_about_metrics_that_there_are() {
    assert_known(&text(RULES));
    assert_known(&text(TESTS));
}
