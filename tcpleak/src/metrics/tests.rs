use super::*;
use crate::{
    output::samples,
    report::{Container, Qualifier},
};

fn rows(report: &Report, name: &str) -> Vec<Row> {
    let metrics = measure(report, &Health::default());
    let metric = metrics.into_iter().find(|metric| metric.name == name);
    metric.unwrap_or_else(|| panic!("{name} is measured")).rows
}

#[test]
fn a_leak_is_counted_by_program_verdict_and_function() {
    let mut leak = samples::eof_unread();
    leak.process.unit = Some("crawler.service".into());
    let report = samples::report(vec![leak.clone()]);
    let found = rows(&report, "tcpleak_leaked_connections");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value, leak.count as f64);
    let labels = &found[0].labels;
    assert_eq!(labels["process"], leak.process.comm);
    assert_eq!(labels["unit"], "crawler.service");
    assert_eq!(labels["verdict"], "eof-unread");
    assert_eq!(labels["title"], leak.title.unwrap().function);
    assert!(!labels.contains_key("pod"));
    let oldest = rows(&report, "tcpleak_leaked_connections_oldest_age_seconds");
    assert_eq!(oldest[0].value, leak.oldest_s);
}

#[test]
fn a_pod_is_named_by_its_container() {
    let mut leak = samples::eof_unread();
    leak.process.container = Some(Container {
        id: "ab".repeat(32),
        pod: Some("crawler-7d9f".into()),
        namespace: Some("shop".into()),
        ..Container::default()
    });
    let found = rows(&samples::report(vec![leak]), "tcpleak_leaked_connections");
    assert_eq!(found[0].labels["pod"], "crawler-7d9f");
    assert_eq!(found[0].labels["namespace"], "shop");
    assert_eq!(found[0].labels["container"], "ab".repeat(32));
}

#[test]
fn what_is_no_leak_or_has_ended_is_not_counted_as_one() {
    let mut ended = samples::eof_unread();
    ended.qualifiers.push(Qualifier::ProcessEnded);
    let report = samples::report(vec![ended, samples::pooled(), samples::orphaned()]);
    assert_eq!(rows(&report, "tcpleak_leaked_connections"), []);
    let half_dead = rows(&report, "tcpleak_half_dead_connections");
    assert_eq!(half_dead.len(), 1);
    assert_eq!(half_dead[0].labels["verdict"], "orphaned");
}

#[test]
fn many_leaks_are_few_rows_and_none_is_lost() {
    let leaks: Vec<_> = (0..2 * ROWS as u64)
        .map(|number| {
            let mut leak = samples::eof_unread();
            leak.process.comm = format!("worker{number}");
            leak.count = 3;
            leak
        })
        .collect();
    let found = rows(&samples::report(leaks), "tcpleak_leaked_connections");
    assert_eq!(found.len(), ROWS + 1);
    assert_eq!(found[ROWS].labels["process"], OTHER);
    let sum: f64 = found.iter().map(|row| row.value).sum();
    assert_eq!(sum, 6.0 * ROWS as f64);
}

#[test]
fn names_follow_the_conventions_whatever_the_report_is() {
    let report = samples::report(Vec::new());
    let metrics = measure(&report, &Health::default());
    for metric in &metrics {
        assert!(metric.name.starts_with("tcpleak_"), "{}", metric.name);
        assert!(!metric.name.ends_with("_total"), "{}", metric.name);
        if let Some(unit) = metric.unit.word() {
            assert!(metric.name.ends_with(unit), "{}", metric.name);
        }
        assert!(!metric.help.ends_with('.'), "{}", metric.name);
    }
    let names: std::collections::BTreeSet<_> = metrics.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), metrics.len());
}
