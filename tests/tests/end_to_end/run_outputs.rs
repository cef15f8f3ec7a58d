//! `tcpleak run`: what it writes, and what it keeps to itself.

use std::{fs, path::Path, process::Command, thread};

use serde_json::Value;

use crate::harness::{Run, RunEnded, Server, a_moment, installed, output_of, repository};

/// A run whose command forgets one connection.
#[track_caller]
fn leak(options: &[&str]) -> RunEnded {
    let server = Server::start();
    let mut run = Run::leaky(options, &["connect", &server.address(), "1"]);
    run.go();
    server.hang_up_on(1);
    thread::sleep(a_moment());
    run.end()
}

#[track_caller]
fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// A file of suppressions, and the options that name it.
struct Rules(tempfile::NamedTempFile);

impl Rules {
    fn of(rules: &str) -> Self {
        let file =
            tempfile::NamedTempFile::new().expect("there is a directory for temporary files");
        fs::write(file.path(), rules).expect("the file is ours");
        Self(file)
    }

    fn options(&self) -> [&str; 2] {
        ["--suppressions", text(self.0.path())]
    }
}

#[test]
fn a_leak_that_is_suppressed_fails_nothing_and_is_counted() {
    let rules = Rules::of(
        "[[suppress]]\nprocess = \"leaky\"\nframe = \"*open_connection\"\nremote = \"127.0.0.0/8\"\n\
         reason = \"issue 42\"\n\n[[suppress]]\nprocess = \"nginx\"\nreason = \"not here\"\n",
    );
    let ended = leak(&rules.options());
    assert_eq!(ended.code, 0, "{ended:#?}");
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(told[0], "tcpleak: no connection was leaked.");
    assert!(
        told[1].contains("suppressed 1 leaked connection of leaky"),
        "{told:?}"
    );
    let stderr = ended
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(stderr.contains("was not needed: not here"), "{stderr}");
    let run = &ended.report["run"];
    assert_eq!(run["suppressed"][0]["reason"], "issue 42");
    assert_eq!(run["suppressed"][0]["group"]["verdict"], "eof-unread");
    assert_eq!(run["unused_suppressions"][0]["line"], 9);
    assert_eq!(ended.report["groups"], Value::Array(Vec::new()));
}

#[test]
fn a_suppression_that_has_expired_or_is_about_something_else_suppresses_nothing() {
    for patterns in [
        "process = \"leaky\"\nexpires = 2020-01-31",
        "process = \"leaky\"\nremote = \":1\"",
    ] {
        let rules = Rules::of(&format!("[[suppress]]\nreason = \"old\"\n{patterns}\n"));
        let ended = leak(&rules.options());
        assert_eq!(ended.code, 3, "{patterns}: {ended:#?}");
        let unused = &ended.report["run"]["unused_suppressions"][0];
        assert_eq!(unused["expired"], patterns.contains("expires"));
    }
}

#[test]
fn a_file_of_suppressions_that_is_wrong_stops_the_run_before_its_command() {
    let rules = Rules::of("[[suppress]]\nprocess = \"leaky\"\n");
    let arguments = [&["run"][..], &rules.options(), &["--", "echo", "started"]].concat();
    let refused = crate::harness::run(&arguments);
    assert_eq!(
        (refused.code(), refused.stdout.as_str()),
        (1, ""),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("reason") && refused.stderr.contains("line 1"));
}

#[test]
fn junit_has_each_leak_as_a_test_that_failed() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let file = directory.path().join("leaks.xml");
    let ended = leak(&["--junit", text(&file)]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    let script = "import sys, json, xml.etree.ElementTree as tree\n\
                  suite = tree.parse(sys.argv[1]).getroot().find('testsuite')\n\
                  failure = suite.find('testcase/failure')\n\
                  print(json.dumps([suite.get('failures'), suite.find('testcase').get('name'),\n\
                  failure.get('type'), failure.text]))";
    let python = installed("python3", "python3");
    let parsed = output_of(Command::new(python).args(["-c", script]).arg(&file));
    let parsed: Value = serde_json::from_str(&parsed).expect("it is JSON");
    assert_eq!(parsed[0], "1");
    assert_eq!(parsed[2], "eof-unread");
    let name = parsed[1].as_str().expect("the test has a name");
    assert!(name.contains("open_connection"), "{name}");
    let failure = parsed[3].as_str().expect("the failure has a text");
    assert!(
        failure.contains("Evidence") && failure.contains("open_connection"),
        "{failure}"
    );
}

#[test]
fn github_shows_each_leak_at_its_line() {
    let ended = leak(&["--github"]);
    let annotations: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("::error "))
        .collect();
    let [annotation] = annotations[..] else {
        panic!("one leak is one annotation: {ended:#?}");
    };
    let (properties, message) = annotation["::error ".len()..]
        .split_once("::")
        .unwrap_or_else(|| panic!("{annotation}"));
    let property = |name: &str| {
        let mut all = properties
            .split(',')
            .filter_map(|property| property.split_once('='));
        let found = all.find(|(key, _)| *key == name).map(|(_, value)| value);
        found.unwrap_or_else(|| panic!("no {name} in {annotation}"))
    };
    // Below the directory that the command runs in files are told from there.
    let directory = std::env::current_dir().expect("there is one");
    let file = directory.join(property("file"));
    assert!(
        file.ends_with("tests/src/bin/leaky/connect.rs"),
        "{}",
        file.display()
    );
    let line: usize = property("line").parse().expect("a number");
    let source = fs::read_to_string(repository().join("tests/src/bin/leaky/connect.rs"));
    let source = source.expect("the fixture is there");
    let line = source.lines().nth(line - 1).expect("there is such a line");
    assert!(line.contains("TcpStream::connect(to)?"), "{line}");
    assert!(
        property("title").starts_with("tcpleak%3A eof-unread in "),
        "{annotation}"
    );
    assert!(message.starts_with("leaky (pid "), "{annotation}");
}

#[test]
fn command_lines_are_kept_to_itself_unless_they_are_asked_for() {
    let script = "import socket, sys, time\n\
                  kept = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
                  kept.recv(1)\ntime.sleep(2)";
    let python = installed("python3", "python3");
    let program = tempfile::NamedTempFile::new().expect("there is a directory for temporary files");
    fs::write(program.path(), script).expect("the file is ours");
    for shown in [false, true] {
        let server = Server::start();
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let file = directory.path().join("leaks.xml");
        let mut options = vec!["--github", "--junit", text(&file)];
        if shown {
            options.push("--command-lines");
        }
        let port = server.port();
        let arguments = [
            text(&python),
            text(program.path()),
            &port,
            "--password=hunter2",
        ];
        let run = Run::start(&options, arguments.iter().map(std::ffi::OsStr::new));
        server.hang_up_on(1);
        let ended = run.end();
        assert_eq!(ended.code, 3, "{ended:#?}");
        let junit = fs::read_to_string(&file).expect("it was written");
        for output in [ended.stderr, ended.report.to_string(), junit] {
            assert_eq!(output.contains("hunter2"), shown, "{output}");
        }
    }
}

#[test]
fn the_document_of_a_run_is_valid() {
    let rules = Rules::of("[[suppress]]\nprocess = \"nginx\"\nreason = \"not here\"\n");
    let schema = crate::json_schema::schema();
    crate::json_schema::assert_valid(&schema, &leak(&rules.options()).report);
}
