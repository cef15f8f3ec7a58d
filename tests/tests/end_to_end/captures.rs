//! How many code paths are captured, and what the report says of the rest.

use std::time::Duration;

use crate::harness::{
    Compiled, Server, Tracer, assert_complete, assert_own_functions, groups, has_qualifier, title,
};

/// The program's own functions on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

/// How many connections the program opens at once.
const COUNT: usize = 300;

/// Watches the program open many connections at once; returns the tracer when they are a leak.
fn watch(options: &[&str]) -> (Tracer, u32) {
    let server = Server::start();
    let mut client = Compiled::c("forgets", &["-g"]).start(&[&server.address(), "300"]);
    let pid = client.pid_text();
    let mut tracer = Tracer::watch(&[&["--pid", &pid], options].concat());
    client.tell();
    server.hang_up_on(COUNT);
    client.facts();
    tracer.wait_for_titled_leak_of(COUNT);
    let pid = client.pid();
    // The connections must not end before the report that is looked at.
    tracer.watch_for(Duration::from_millis(500));
    (tracer, pid)
}

#[test]
fn connections_beyond_the_limit_of_captures_are_counted_and_stay_in_their_group() {
    let (tracer, pid) = watch(&["--captures", "1"]);
    let last = tracer.reports().last().expect("there are reports");
    let found: Vec<_> = groups(last).collect();
    assert_eq!(found.len(), 1, "{last:#}");
    let leak = found[0];
    assert_eq!(leak["count"], COUNT);
    assert_eq!(leak["pids"], serde_json::json!([pid]));
    assert!(has_qualifier(leak, "not-sampled"), "{leak:#}");
    let unsampled = leak["unsampled"].as_u64().expect("it is a number");
    assert!((1..COUNT as u64).contains(&unsampled), "{leak:#}");
    assert!(
        last["totals"]["unsampled"].as_u64() >= Some(unsampled),
        "{last:#}"
    );
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_eq!(title(leak), "open_connection");
}

#[test]
fn a_burst_within_the_limit_of_captures_is_sampled_as_a_whole() {
    let (tracer, _) = watch(&["--captures", "1000"]);
    let last = tracer.reports().last().expect("there are reports");
    let leak = groups(last).next().expect("the leak stays");
    assert_eq!(leak["count"], COUNT);
    assert_eq!(leak["unsampled"], 0, "{leak:#}");
    assert!(!has_qualifier(leak, "not-sampled"), "{leak:#}");
    assert_own_functions(&leak["origin"], &OWN);
}
