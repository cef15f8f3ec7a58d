//! The JSON document and its schema.

use std::{fs, net::TcpStream, thread, time::Duration};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::harness::{Fixture, Server, Tracer, groups, repository, reset, run};

pub fn schema() -> Validator {
    let path = repository().join("docs/tcpleak.schema.json");
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let schema = serde_json::from_str(&text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a JSON Schema")
}

#[track_caller]
pub fn assert_valid(schema: &Validator, report: &Value) {
    let errors: Vec<String> = schema
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{report:#}");
}

/// Leaks of several kinds.
struct Leaks {
    server: Server,
    clients: Vec<Fixture>,
    listener: Fixture,
}

impl Leaks {
    fn prepare() -> Self {
        let server = Server::start();
        let address = server.address();
        let client = |oddity: &[&str]| Fixture::start(oddity);
        let clients = vec![
            client(&["connect", &address, "1"]),
            client(&["connect", &address, "1"]),
            client(&["share-with-child", &address]),
            client(&["send-away", &address]),
        ];
        Self {
            server,
            clients,
            listener: Fixture::start(&["listen", "127.0.0.1:0"]),
        }
    }

    fn spring(&mut self) {
        self.clients[0].go();
        reset(self.server.accept());
        for client in &mut self.clients[1..] {
            client.go();
            self.server.hang_up_on(1);
        }
        TcpStream::connect(self.listener.address()).expect("it listens");
    }

    /// `--pid` of every program.
    fn selection(&self) -> Vec<String> {
        let fixtures = self.clients.iter().chain([&self.listener]);
        fixtures
            .flat_map(|fixture| ["--pid".into(), fixture.pid_text()])
            .collect()
    }
}

fn texts(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

#[test]
fn every_line_of_ndjson_is_valid() {
    let schema = schema();
    let mut leaks = Leaks::prepare();
    let selection = leaks.selection();
    let mut options = texts(&selection);
    options.push("--all");
    let mut tracer = Tracer::watch(&options);
    leaks.spring();
    for verdict in ["dead-fd", "inherited", "not-accepted", "eof-unread"] {
        tracer.wait_for_group(verdict, |group| {
            group["leak"] == true && group["verdict"] == verdict
        });
    }

    let ended = tracer.interrupt();
    assert!(ended.reports.len() > 2);
    for report in &ended.reports {
        assert_valid(&schema, report);
    }
}

#[test]
fn the_documents_of_a_watch_and_of_a_snapshot_are_valid() {
    let schema = schema();
    let mut leaks = Leaks::prepare();
    leaks.spring();
    thread::sleep(Duration::from_secs(1));
    let selection = leaks.selection();
    let common = [
        texts(&selection),
        vec!["--min-age", "500ms", "--format", "json", "--all"],
    ]
    .concat();

    let snapshot = run(&[vec!["snapshot"], common.clone()].concat());
    assert_valid(&schema, &snapshot.document());
    assert!(
        groups(&snapshot.document()).count() >= 4,
        "{:#}",
        snapshot.document()
    );
    let watch = run(&[common, vec!["--duration", "1s"]].concat());
    assert_valid(&schema, &watch.document());
    assert!(
        groups(&watch.document()).count() >= 4,
        "{:#}",
        watch.document()
    );
}

#[test]
fn the_schema_refuses_what_is_not_a_report() {
    let schema = schema();
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(1);
    tracer.wait_for_leak_of(1);
    let report = tracer.interrupt().last().clone();
    assert_valid(&schema, &report);

    assert!(!schema.is_valid(&json!({})));
    for (pointer, wrong) in [
        ("/schema", json!("one")),
        ("/groups/0/verdict", json!("no-such-verdict")),
        ("/groups/0/count", json!("many")),
        ("/groups/0/holders/0/fds", json!(3)),
        ("/groups/0/evidence", json!({})),
        ("/groups/0/origin/frames", json!(null)),
    ] {
        let mut changed = report.clone();
        let place = changed.pointer_mut(pointer);
        *place.unwrap_or_else(|| panic!("no {pointer} in {report:#}")) = wrong;
        assert!(
            !schema.is_valid(&changed),
            "the schema allows {pointer} to be anything"
        );
    }
}
