//! Java on Debian's OpenJDK, as it is: no agent, no flag.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tcpleak_tests::WITH_HTTP_CLIENT;

use crate::harness::{
    Apache, Compiled, Fixture, Server, Tracer, assert_complete, assert_own_functions,
    assert_passes_in_order, installed, leaks, output_of, title, wait_until, with_others,
};

/// What commons-httpclient needs, beside the program itself.
const LIBRARIES: [&str; 3] = [
    "/usr/share/java/commons-httpclient.jar",
    "/usr/share/java/commons-logging.jar",
    "/usr/share/java/commons-codec.jar",
];

/// The functions of `Forgets` in the main thread, innermost first.
const FORGETS: [&str; 4] = [
    "Forgets.open",
    "Forgets.visit",
    "Forgets.repeat",
    "Forgets.main",
];

/// Starts the main class of a compiled program, with these options of Java.
fn start(program: &Compiled, options: &[&str], arguments: &[&str]) -> Fixture {
    let java = installed("java", "openjdk-17-jdk-headless");
    start_with(&java, program, options, arguments)
}

/// As [`start`], with this Java.
pub fn start_with(
    java: &Path,
    program: &Compiled,
    options: &[&str],
    arguments: &[&str],
) -> Fixture {
    let class = program.path();
    let mut class_path = class
        .parent()
        .expect("it lies somewhere")
        .as_os_str()
        .to_owned();
    for library in LIBRARIES {
        class_path.push(":");
        class_path.push(library);
    }
    let mut command = Command::new(java);
    command.args(options).arg("-cp").arg(class_path);
    command.arg(class.file_stem().expect("a class has a name"));
    Fixture::start_program(command.args(arguments))
}

/// The Java of the host, and those in the directory that `TCPLEAK_TEST_JDKS` names, see `.ci/jdks`.
fn javas() -> Vec<PathBuf> {
    let java = installed("java", "openjdk-17-jdk-headless");
    with_others(java, "TCPLEAK_TEST_JDKS", "bin/java")
}

/// Watches `Forgets` forget a connection, after it has closed others.
fn watch_forgets(options: &[&str], how: &str, times: &str) -> Value {
    let java = installed("java", "openjdk-17-jdk-headless");
    watch_forgets_with(&java, options, how, times)
}

/// As [`watch_forgets`], with this Java.
fn watch_forgets_with(java: &Path, options: &[&str], how: &str, times: &str) -> Value {
    let program = Compiled::java("Forgets", &[]);
    let server = Server::start();
    let port = server.port();
    server.serve(drop);
    let mut client = start_with(java, &program, options, &[&port, how, times]);
    let everything = ["--captures", "1000000", "--budget", "100%"];
    let pid = client.pid_text();
    let options = [&["--pid", &pid], &everything[..]].concat();
    let mut tracer = Tracer::watch(&options);
    client.go();
    let leak = tracer.wait_for_titled_leak_of(1);
    assert_eq!(leak["process"]["pid"], client.pid());
    assert_complete(&leak["origin"]);
    leak
}

/// The Java frames of a path: function, file and line.
pub fn java_frames(path: &Value) -> Vec<[Value; 3]> {
    let frames = path["frames"].as_array().into_iter().flatten();
    let java = frames.filter(|frame| frame["runtime"] == "java");
    let parts = java.map(|frame| ["function", "file", "line"].map(|part| frame[part].clone()));
    parts.collect()
}

/// Fails unless a path passes through these functions, each at the line with this text.
#[track_caller]
fn assert_has_lines(path: &Value, program: &Compiled, places: &[(&str, &str)]) {
    let functions: Vec<&str> = places.iter().map(|(function, _)| *function).collect();
    let frames = assert_passes_in_order(path, &functions);
    for (frame, (function, text)) in frames.into_iter().zip(places) {
        let class = function.split('.').next().unwrap_or_default();
        assert_eq!(frame["file"], format!("{class}.java"), "{frame:#}");
        assert_eq!(frame["line"], program.line_of(text), "{frame:#}");
    }
}

#[test]
fn a_crawler_that_an_exception_keeps_from_releasing_connections_is_found_with_its_code() {
    let apache = Apache::start();
    let program = Compiled::java("Crawler", WITH_HTTP_CLIENT);
    let page = format!("http://{}/missing", apache.address());
    let mut crawler = start(&program, &[], &[&page, "10"]);
    let mut tracer = Tracer::of(&crawler);
    assert_eq!(crawler.go().one::<u32>("missing"), 10);

    let leak = tracer.wait_for_titled_leak_of(10);
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["process"]["pid"], crawler.pid());
    assert_eq!(leak["process"]["comm"], "java");
    assert_eq!(leak["opener"]["pid"], crawler.pid());
    assert_eq!(leak["endpoint"], apache.address());
    assert_eq!(title(&leak), "Crawler.fetch");
    let origin = &leak["origin"];
    assert_eq!(origin["kind"], "connect");
    assert_eq!(origin["unreadable"], Value::Null);
    assert_complete(origin);
    assert_own_functions(origin, &["Crawler.fetch", "Crawler.crawl", "Crawler.main"]);
    let places = [
        ("Crawler.fetch", "client.executeMethod(request);"),
        ("Crawler.crawl", "fetch(page);"),
        ("Crawler.main", "crawler.crawl(arguments[0], count);"),
    ];
    assert_has_lines(origin, &program, &places);
    assert_passes_in_order(
        origin,
        &[
            "connect",
            "java.net.Socket.connect",
            "org.apache.commons.httpclient.HttpConnection.open",
            "org.apache.commons.httpclient.HttpClient.executeMethod",
            "Crawler.fetch",
        ],
    );
    let ended = tracer.interrupt();
    assert_eq!(leaks(ended.last()).count(), 1, "{:#}", ended.last());
}

#[test]
fn the_same_frames_are_found_interpreted_and_from_either_compiler() {
    let program = Compiled::java("Forgets", &[]);
    let interpreted = watch_forgets(&["-Xint"], "main", "1");
    let origin = &interpreted["origin"];
    assert_own_functions(origin, &FORGETS);
    let places = [
        (FORGETS[0], "return new Socket("),
        (FORGETS[1], "Socket socket = open(port);"),
        (FORGETS[2], "visit(port, isLast);"),
    ];
    assert_has_lines(origin, &program, &places);
    let frames = java_frames(origin);
    assert!(frames.len() > 10, "{frames:?}");
    for compiler in ["-XX:TieredStopAtLevel=1", "-XX:-TieredCompilation"] {
        let compiled = watch_forgets(&["-Xcomp", compiler], "main", "1");
        let origin = &compiled["origin"];
        assert_eq!(java_frames(origin), frames, "{compiler}");
    }
    let warm = watch_forgets(&[], "main", "3000");
    assert_eq!(java_frames(&warm["origin"]), frames, "after 3,000 times");
}

#[test]
fn every_version_of_java_has_the_same_functions() {
    for java in javas() {
        for options in [&["-Xint"][..], &["-Xcomp", "-XX:-TieredCompilation"]] {
            let leak = watch_forgets_with(&java, options, "main", "1");
            assert_own_functions(&leak["origin"], &FORGETS);
        }
        let warm = watch_forgets_with(&java, &[], "main", "500");
        assert_own_functions(&warm["origin"], &FORGETS);
        if has_virtual_threads(&java) {
            let leak = watch_forgets_with(&java, &[], "virtual", "0");
            assert_is_virtual(&leak["origin"]);
            let leak = watch_forgets_with(&java, &[], "virtual", "20");
            assert_is_virtual_with_gaps(&leak["origin"]);
        }
    }
}

fn has_virtual_threads(java: &Path) -> bool {
    let version = output_of(Command::new(java).arg("--version"));
    let version = version.split_whitespace().nth(1).expect("a version");
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= 21)
}

/// Fails unless a path is that of a virtual thread that was suspended before: then what is not on the stack
/// is said to be missing.
#[track_caller]
fn assert_is_virtual_with_gaps(path: &Value) {
    assert_passes_in_order(
        path,
        &[
            "Forgets.open",
            "java.util.concurrent.ForkJoinWorkerThread.run",
        ],
    );
    let frames = path["frames"].as_array().into_iter().flatten();
    let mut gaps = frames.filter(|frame| {
        frame["function"]
            .as_str()
            .is_some_and(|it| it.starts_with('('))
    });
    assert_eq!(
        gaps.next().is_some(),
        path["unreadable"] != Value::Null,
        "{path:#}"
    );
}

/// Fails unless a path is that of a virtual thread of `Forgets`, and of the one that carried it.
#[track_caller]
fn assert_is_virtual(path: &Value) {
    let task = "Forgets.lambda$main$1";
    assert_own_functions(path, &[&FORGETS[..3], &[task]].concat());
    let carried = "java.util.concurrent.ForkJoinWorkerThread.run";
    assert_passes_in_order(path, &[task, "java.lang.VirtualThread.run", carried]);
}

#[test]
fn methods_that_were_inlined_are_named() {
    let compiled = watch_forgets(&["-Xcomp", "-XX:TieredStopAtLevel=1"], "main", "1");
    let frames = assert_passes_in_order(&compiled["origin"], &["Forgets.open", "Forgets.visit"]);
    assert_eq!(frames[0]["inlined"], true, "{:#}", compiled["origin"]);
    assert_eq!(frames[0]["own"], true);
}

#[test]
fn a_task_of_a_thread_pool_is_named() {
    let leak = watch_forgets(&[], "pool", "3");
    let own = [
        "Forgets.open",
        "Forgets.visit",
        "Forgets.repeat",
        "Forgets.lambda$main$0",
    ];
    assert_own_functions(&leak["origin"], &own);
    assert_passes_in_order(
        &leak["origin"],
        &[
            "Forgets.lambda$main$0",
            "java.util.concurrent.FutureTask.run",
            "java.util.concurrent.ThreadPoolExecutor.runWorker",
            "java.lang.Thread.run",
        ],
    );
}

/// The frames of the main thread as `jstack` tells them.
fn by_jstack(pid: u32) -> Vec<[Value; 3]> {
    let mut jstack = Command::new(installed("jstack", "openjdk-17-jdk-headless"));
    let all = output_of(jstack.arg(pid.to_string()));
    let of_main = all
        .split("\n\n")
        .find(|thread| thread.trim_start().starts_with("\"main\""));
    let calls = of_main.into_iter().flat_map(str::lines);
    let calls = calls.filter_map(|line| line.trim().strip_prefix("at "));
    let frame = |call: &str| {
        let (function, place) = call.strip_suffix(')')?.split_once('(')?;
        let place = place.rsplit('/').next()?;
        Some(match place.split_once(':') {
            Some((file, line)) => [
                json!(function),
                json!(file),
                json!(line.parse::<u32>().ok()?),
            ],
            // Native methods: their class has a file, which jstack does not tell.
            None => [json!(function), Value::Null, Value::Null],
        })
    };
    calls.filter_map(frame).collect()
}

#[test]
fn frames_are_the_ones_that_jstack_tells_of_a_thread_that_waits_there() {
    let program = Compiled::java("Forgets", &[]);
    let server = Server::start();
    let waiting = server.keep_waiting();
    let mut client = start(&program, &[], &[&server.port(), "main", "0"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    let mut told = Vec::new();
    wait_until("the program is in connect()", || {
        told = by_jstack(client.pid());
        told.first().is_some_and(|[function, ..]| {
            function
                .as_str()
                .is_some_and(|name| name.ends_with(".connect0"))
        })
    });
    drop(waiting);
    server.hang_up_on(2);
    client.facts();

    let leak = tracer.wait_for_titled_leak_of(1);
    let mut frames = java_frames(&leak["origin"]);
    for frame in &mut frames {
        if frame[2].is_null() {
            frame[1] = Value::Null;
        }
    }
    assert_eq!(frames, told);
}
