//! Functions of Python, found in programs that run as anybody's do. What is expected of a code path is
//! what the interpreter itself says of its stack at that connect(), by an audit hook.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    Fixture, Server, Tracer, assert_complete, assert_passes_in_order, functions, installed,
    repository, title,
};

/// A program from `tests/fixtures/python`, as one text.
fn script(name: &str) -> String {
    let read = |name: &str| {
        let path = repository().join("tests/fixtures/python").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    read("told.py") + &read(name)
}

/// A command that runs a program, which gets the port to connect to.
fn command(python: &Python, name: &str, server: &Server) -> Command {
    let mut command = python.command();
    command.args(["-c", &script(name), &server.port()]);
    command
}

/// An interpreter.
enum Python {
    /// One that is installed.
    Installed(PathBuf),
    /// One with a root of its own, see `.ci/pythons`.
    Rooted(PathBuf, String),
}

impl Python {
    fn host() -> Self {
        Self::Installed(installed("python3", "python3"))
    }

    /// That of the host, and those in the directory that `TCPLEAK_TEST_PYTHONS` names.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::host()];
        if let Some(directory) = std::env::var_os("TCPLEAK_TEST_PYTHONS") {
            let entries = fs::read_dir(&directory).expect("a directory of interpreters");
            for entry in entries {
                let root = entry.expect("an interpreter").path();
                let version = root.file_name().expect("a name").to_string_lossy();
                all.push(Self::Rooted(root.clone(), version.into_owned()));
            }
            assert!(all.len() > 1, "there are no interpreters in {directory:?}");
        }
        all
    }

    fn command(&self) -> Command {
        match self {
            Self::Installed(path) => Command::new(path),
            Self::Rooted(root, version) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(format!("/usr/bin/python{version}"));
                command
            }
        }
    }
}

/// The functions of Python in a code path, as the audit hook tells them.
fn told_alike(path: &Value) -> Vec<String> {
    let frames = path["frames"].as_array().expect("there is a code path");
    let of_python = frames.iter().filter(|frame| frame["runtime"] == "python");
    of_python
        .map(|frame| {
            let function = frame["function"].as_str().unwrap_or("?");
            format!("{function}:{}", frame["line"])
        })
        .collect()
}

/// Waits for the leak of one connection, and checks its origin against what the program told.
#[track_caller]
fn expect_told(tracer: &mut Tracer, client: &mut Fixture) -> Value {
    let expected = client.facts().list::<String>("stack");
    let leak = tracer.wait_for_leak_with_origin();
    let origin = &leak["origin"];
    assert_eq!(told_alike(origin), expected, "{origin:#}");
    assert!(
        !functions(origin).contains(&"_PyEval_EvalFrameDefault"),
        "what evaluates is replaced: {origin:#}"
    );
    leak
}

/// Runs a program to its leak while it is watched.
#[track_caller]
fn leak_of(python: &Python, name: &str) -> Value {
    let server = Server::start();
    let mut client = Fixture::start_program(&mut command(python, name, &server));
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    expect_told(&mut tracer, &mut client)
}

#[test]
fn functions_of_python_are_named_with_their_lines_whatever_the_version() {
    for python in Python::all() {
        let leak = leak_of(&python, "forgets.py");
        let origin = &leak["origin"];
        assert_complete(origin);
        let own = origin["frames"].as_array().expect("frames").iter();
        let own: Vec<&str> = own
            .filter(|frame| frame["own"] == true)
            .filter_map(|frame| frame["function"].as_str())
            .collect();
        assert!(own[0] == "Pool.get" || own[0] == "get", "{own:?}");
        assert_eq!(own[1..], ["fetch", "<module>"]);
        assert_eq!(title(&leak), own[0]);
    }
}

#[test]
fn a_file_of_python_is_told_by_its_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("crawler.py");
    fs::write(&path, script("forgets.py")).expect("the program is written");
    let server = Server::start();
    let mut client = Fixture::start_program(
        Command::new(installed("python3", "python3"))
            .arg(&path)
            .arg(server.port()),
    );
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    let leak = expect_told(&mut tracer, &mut client);
    let frames = assert_passes_in_order(&leak["origin"], &["create_connection", "Pool.get"]);
    assert_eq!(frames[1]["file"].as_str().map(Path::new), Some(&*path));
    assert_eq!(frames[1]["own"], true);
    assert_eq!(frames[0]["own"], false, "{:#}", frames[0]);
    let library = frames[0]["file"].as_str().unwrap_or_default();
    assert!(library.ends_with("/socket.py"), "{library}");
}

#[test]
fn a_leak_in_the_standard_library_is_put_down_to_the_function_that_called_it() {
    let leak = leak_of(&Python::host(), "uses_library.py");
    assert_eq!(title(&leak), "crawl");
}

#[test]
fn a_leak_of_a_pool_of_threads_has_the_functions_of_its_own_thread() {
    for python in Python::all() {
        let leak = leak_of(&python, "uses_threads.py");
        assert_complete(&leak["origin"]);
        assert_eq!(title(&leak), "fetch");
        assert_ne!(leak["opener"]["tid"], leak["opener"]["pid"]);
    }
}

#[test]
fn a_leak_of_a_task_has_the_coroutines_that_await_each_other() {
    for python in Python::all() {
        let leak = leak_of(&python, "uses_tasks.py");
        assert!(title(&leak).ends_with("fetch"), "{leak:#}");
    }
}

#[test]
fn what_a_coroutine_opens_before_and_after_it_was_woken_is_one_leak() {
    for python in Python::all() {
        let server = Server::start();
        let mut client = Fixture::start_program(&mut command(&python, "awaits_often.py", &server));
        let mut tracer = Tracer::of(&client);
        client.tell();
        server.hang_up_on(3);
        client.facts();
        let leak = tracer.wait_for_titled_leak_of(3);
        assert!(title(&leak).ends_with("fetch"), "{leak:#}");
    }
}

#[test]
fn a_stack_of_hundreds_of_functions_is_named_as_far_as_it_is_followed() {
    let server = Server::start();
    let python = Python::host();
    let mut client = Fixture::start_program(&mut command(&python, "goes_deep.py", &server));
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    let expected = client.facts().list::<String>("stack");
    let leak = tracer.wait_for_leak_with_origin();
    let told = told_alike(&leak["origin"]);
    assert!(told.len() >= 64, "{}", told.len());
    assert_eq!(told, expected[..told.len()]);
    assert_eq!(title(&leak), "descend");
}

#[test]
fn a_program_of_python_that_starts_later_is_known_before_its_first_connection() {
    let server = Server::start();
    let mut tracer = Tracer::watch(&["--port", &server.port()]);
    let mut client = Fixture::start_program(&mut command(&Python::host(), "forgets.py", &server));
    // Programs are looked at soon after they start, not at once: one that connects within milliseconds
    // may be faster, and on a busy machine so may one that takes longer.
    thread::sleep(Duration::from_secs(1));
    client.tell();
    server.hang_up_on(1);
    expect_told(&mut tracer, &mut client);
}

#[test]
fn a_program_of_python_in_a_namespace_of_pids_is_named() {
    let server = Server::start();
    let mut inside = command(&Python::host(), "forgets.py", &server);
    let mut outside = Command::new("unshare");
    outside
        .args(["--pid", "--fork", "--kill-child"])
        .arg(inside.get_program())
        .args(inside.get_args());
    inside = outside;
    let mut client = Fixture::start_program(&mut inside);
    assert_eq!(
        client.ready().one::<u32>("pid"),
        1,
        "it has pids of its own"
    );
    let mut tracer = Tracer::watch(&["--port", &server.port()]);
    client.tell();
    server.hang_up_on(1);
    expect_told(&mut tracer, &mut client);
}
