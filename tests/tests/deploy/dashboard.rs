//! The dashboard for Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    prometheus::{assert_known, promtool},
    tools::{Said, deploy_tool, file, run, temporary, text},
};

const DASHBOARD: &str = "deploy/grafana/dashboard.json";

/// What Grafana's types say to a dashboard.
fn check(dashboard: &str) -> Said {
    let dashboard = temporary(dashboard, ".json");
    run(deploy_tool("python")
        .arg(file("tests/tests/deploy/check_dashboard.py"))
        .arg(dashboard.path()))
}

#[test]
fn grafana_knows_every_field_and_every_value_has_its_type() {
    let dashboard = text(DASHBOARD);
    let said = check(&dashboard);
    assert!(
        said.content && said.words.trim() == "valid",
        "{}",
        said.words
    );
    for (right, wrong) in [
        (r#""gridPos""#, r#""gridPosition""#),
        (r#""mode": "multi""#, r#""mode": "many""#),
        (r#""expr""#, r#""expression""#),
        (r#""lineWidth": 1"#, r#""lineWidth": "1""#),
        (r#""id": "merge""#, r#""id": 5"#),
    ] {
        assert!(dashboard.contains(right), "{right}");
        let said = check(&dashboard.replace(right, wrong));
        assert!(!said.content, "{wrong}: {}", said.words);
    }
}

/// The queries of a dashboard, wherever they stand.
fn queries(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|field| queries(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

#[test]
fn promtool_takes_every_query_and_tcpleak_has_every_metric() {
    let dashboard = text(DASHBOARD);
    assert_known(&dashboard);
    let dashboard: Value = serde_json::from_str(&dashboard).expect("it is JSON");
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() >= 20, "{found:#?}");
    let rule = |(number, query): (usize, &String)| {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".+");
        assert!(!query.contains('$'), "{query}");
        serde_json::json!({ "record": format!("query:{number}"), "expr": query })
    };
    let rules: Vec<Value> = found.iter().enumerate().map(rule).collect();
    // What is JSON is YAML too.
    let check = |rules: &[Value]| {
        let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
        promtool(
            &["check", "rules"],
            temporary(&groups.to_string(), ".yml").path(),
        )
    };
    let (content, words) = check(&rules);
    assert!(content, "{words}");
    let broken = serde_json::json!({ "record": "query:broken", "expr": "sum by (a tcpleak_x" });
    assert!(!check(&[broken]).0);
}

#[test]
fn no_two_panels_have_the_same_place_or_number() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let (mut numbers, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().expect("it has a number")));
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("it has a place");
        let (left, top) = (place("x"), place("y"));
        assert!(left + place("w") <= 24, "{panel:#}");
        for x in left..left + place("w") {
            for y in top..top + place("h") {
                assert!(cells.insert((x, y)), "{panel:#}");
            }
        }
    }
}
