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

/// Whether a frame is of this function, which may be an instance of a generic one (`fetch::<Page>`),
/// or a part of it that the compiler set apart (`fetch [clone .cold]`).
pub fn is_named(frame: &Value, function: &str) -> bool {
    let name = frame["function"].as_str().unwrap_or_default();
    name.strip_prefix(function).is_some_and(|rest| {
        let further = ["<", "::<", "(", "[", " [", "."];
        rest.is_empty() || further.iter().any(|start| rest.starts_with(start))
    })
}

/// Whether a code path, if there is one, passes through this function.
pub fn passes_through(path: &Value, function: &str) -> bool {
    let mut frames = path["frames"].as_array().into_iter().flatten();
    frames.any(|frame| is_named(frame, function))
}

/// Fails unless a code path passes through these functions in this order, innermost first; others
/// may lie between. Returns their frames.
#[track_caller]
pub fn assert_passes_in_order<'a>(path: &'a Value, expected: &[&str]) -> Vec<&'a Value> {
    let mut frames = path["frames"].as_array().into_iter().flatten();
    let mut find = |function: &&str| frames.find(|frame| is_named(frame, function));
    let found: Option<Vec<&Value>> = expected.iter().map(&mut find).collect();
    found.unwrap_or_else(|| {
        panic!("the code path does not pass through {expected:?} in this order: {path:#}")
    })
}

/// Fails unless these are the program's own functions of a code path, innermost first, and no others
/// are.
#[track_caller]
pub fn assert_own_functions(path: &Value, expected: &[&str]) {
    let frames = path["frames"].as_array().into_iter().flatten();
    let own: Vec<&Value> = frames.filter(|frame| frame["own"] == true).collect();
    let as_expected = own.len() == expected.len()
        && own
            .iter()
            .zip(expected)
            .all(|(frame, function)| is_named(frame, function));
    assert!(
        as_expected,
        "the program's own functions are not {expected:?}: {path:#}"
    );
}

/// Fails unless a code path is proven to reach the first function of its thread.
#[track_caller]
pub fn assert_complete(path: &Value) {
    assert_eq!(path["complete"], true, "the code path is cut off: {path:#}");
}

/// The function that gives a group its title; empty when the group has none.
pub fn title(group: &Value) -> &str {
    group["title"]["function"].as_str().unwrap_or_default()
}

/// Fails unless several frames of a code path lie in an interpreter: in its program, or in the
/// library of the same name that some distributions put it into.
#[track_caller]
pub fn assert_runs_in(path: &Value, interpreter: &std::path::Path) {
    let interpreter = std::fs::canonicalize(interpreter).expect("it was just started");
    let name = interpreter.file_name().unwrap_or_default();
    let library = format!("/lib{}.so", name.to_string_lossy());
    let frames = path["frames"].as_array().into_iter().flatten();
    let modules = frames.filter_map(|frame| frame["module"].as_str());
    let inside =
        modules.filter(|module| Some(*module) == interpreter.to_str() || module.contains(&library));
    assert!(inside.count() > 5, "{path:#}");
}

/// Whether a group has a qualifier.
pub fn has_qualifier(group: &Value, qualifier: &str) -> bool {
    let qualifiers = group["qualifiers"]
        .as_array()
        .expect("a group has qualifiers");
    qualifiers.iter().any(|present| present == qualifier)
}
