//! tcpleak keeps to its budget.

use std::time::{Duration, Instant};

use crate::harness::{Fixture, Tracer};

#[test]
fn reads_and_writes_that_would_cost_more_than_the_budget_are_not_traced() {
    let mut chatter = Fixture::start(&["chatter"]);
    let pid = chatter.pid_text();
    let mut tracer = Tracer::watch(&["--pid", &pid, "--budget", "0.5%"]);
    chatter.tell();
    let begun = Instant::now();
    let says_so = |tracer: &Tracer| {
        let notes = tracer.reports().last().map(|report| &report["notes"]);
        let notes = notes
            .and_then(|notes| notes.as_array())
            .into_iter()
            .flatten();
        notes
            .filter_map(|note| note.as_str())
            .any(|note| note.starts_with("Reads and writes are not traced for now"))
    };
    while !says_so(&tracer) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "reads and writes are traced at any cost: {:#?}",
            tracer.reports().last()
        );
        tracer.watch_for(Duration::from_millis(500));
    }
    assert_eq!(tracer.interrupt().code, 0);
}
