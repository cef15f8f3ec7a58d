//! Reading the JSON document.

use serde_json::Value;

/// The groups of a report.
pub fn groups(report: &Value) -> impl Iterator<Item = &Value> {
    report["groups"]
        .as_array()
        .expect("a report has groups")
        .iter()
}

/// The groups of a report that are leaks.
pub fn leaks(report: &Value) -> impl Iterator<Item = &Value> {
    groups(report).filter(|group| group["leak"] == true)
}

/// The functions of a code path, innermost first.
pub fn functions(path: &Value) -> Vec<&str> {
    let frames = path["frames"].as_array();
    let frames = frames.unwrap_or_else(|| panic!("there is no code path: {path}"));
    frames
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .collect()
}

/// Fails unless a code path passes through this function; returns the frame.
#[track_caller]
pub fn assert_passes_through<'a>(path: &'a Value, function: &str) -> &'a Value {
    let frames = path["frames"].as_array().into_iter().flatten();
    let frame = frames
        .into_iter()
        .find(|frame| frame["function"] == function);
    frame.unwrap_or_else(|| panic!("the code path does not pass through {function}: {path:#}"))
}

/// Whether a group has a qualifier.
pub fn has_qualifier(group: &Value, qualifier: &str) -> bool {
    let qualifiers = group["qualifiers"]
        .as_array()
        .expect("a group has qualifiers");
    qualifiers.iter().any(|present| present == qualifier)
}
