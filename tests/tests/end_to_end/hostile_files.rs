//! Files of other processes that do harm to who reads them carelessly: a pipe that nobody writes
//! to, a device without an end, a mapped library that loses its contents.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::fs::{CWD, Mode};
use serde_json::Value;

use crate::harness::{
    Compiled, Ended, Fixture, Server, Tracer, assert_complete, assert_own_functions,
    passes_through, patience, title,
};

/// The own functions of `forgets` on the way to connect(), innermost first.
const OWN: [&str; 4] = ["open_connection", "fetch_page", "crawl", "main"];

/// A report is late after this. It takes a second or two where nothing is in its way.
fn usual_time() -> Duration {
    patience() / 2
}

/// Waits for a leak of two connections with its code path.
#[track_caller]
fn leak_in_usual_time(tracer: &mut Tracer) -> Value {
    tracer.wait_for_group_within(usual_time(), "a leak with its code path", |group| {
        group["leak"] == true && group["count"] == 2 && !title(group).is_empty()
    })
}

#[track_caller]
fn assert_ended_well(ended: &Ended) {
    assert_eq!(ended.code, 3);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// Watches `forgets`, whose file lies in a directory that holds something hostile once it runs.
#[track_caller]
fn watch_among(program: &Path, plant: impl FnOnce(&Path)) -> Value {
    let server = Server::start();
    let address = server.address();
    let mut client = Fixture::start_program(Command::new(program).args([&*address, "2"]));
    plant(program.parent().expect("it lies in a directory"));
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    client.facts();
    let leak = leak_in_usual_time(&mut tracer);
    assert_ended_well(&tracer.interrupt());
    leak
}

fn make_pipe(path: &Path) {
    rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("its place is free");
}

/// Watches a program whose own path leads to something hostile; its code must be known all the same.
#[track_caller]
fn assert_is_named_though_its_path_is(plant: impl FnOnce(&Path)) {
    let program = Compiled::c("forgets", &["-g"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let path = directory.path().join("forgets");
    fs::copy(program.path(), &path).expect("the directory is ours");
    let leak = watch_among(&path, |_| {
        fs::remove_file(&path).expect("it was just written");
        plant(&path);
    });
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
}

#[test]
fn a_pipe_in_the_place_of_a_running_program_delays_nothing() {
    assert_is_named_though_its_path_is(make_pipe);
}

#[test]
fn a_link_to_a_device_in_the_place_of_a_running_program_is_not_read() {
    assert_is_named_though_its_path_is(|path| {
        symlink("/dev/zero", path).expect("its place is free");
    });
}

/// Watches a program whose debug information is something hostile; its code has addresses instead
/// of names, and its path is known to the root.
#[track_caller]
fn assert_is_followed_though_its_debug_information_is(plant: impl FnOnce(&Path)) {
    let program = Compiled::c("forgets", &["-g"]);
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let (stripped, debug) = program.set_apart(directory.path());
    let leak = watch_among(&stripped, |_| {
        fs::remove_file(&debug).expect("it was just written");
        plant(&debug);
    });
    assert_complete(&leak["origin"]);
    assert!(title(&leak).starts_with("stripped+0x"), "{leak:#}");
}

#[test]
fn a_pipe_in_the_place_of_debug_information_delays_nothing() {
    assert_is_followed_though_its_debug_information_is(make_pipe);
}

#[test]
fn a_link_to_a_device_in_the_place_of_debug_information_is_not_read() {
    assert_is_followed_though_its_debug_information_is(|path| {
        symlink("/dev/zero", path).expect("its place is free");
    });
}

#[test]
fn endless_debug_information_is_not_read_to_its_end() {
    assert_is_followed_though_its_debug_information_is(|path| {
        let file = fs::File::create(path).expect("its place is free");
        // It takes no room on disk.
        file.set_len(1 << 40).expect("a file may be sparse");
    });
}

/// The way of the program that is called back by a library, innermost first.
const CALLED_BACK: [&str; 6] = [
    "open_connection",
    "open_with_library",
    "on_visit",
    "visit_page",
    "visit_pages",
    "main",
];

/// Starts the program that a library calls back, with a copy of the library.
fn start_called_back(server: &Server, library: &Path) -> Fixture {
    let original = Compiled::c("library", &["-g", "-shared", "-fPIC"]);
    fs::copy(original.path(), library).expect("the directory is ours");
    let library = library.to_str().expect("the path is UTF-8");
    let program = Compiled::c("calls_back", &["-g", "-Wl,-z,now"]);
    program.start(&[&server.address(), library])
}

fn truncate(file: &Path) {
    let file = OpenOptions::new().write(true).open(file);
    let emptied = file.and_then(|file| file.set_len(0));
    emptied.expect("the file is ours");
}

#[test]
fn a_mapped_library_that_loses_its_contents_costs_one_code_path_and_not_the_tracer() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let library = directory.path().join("library");
    let server = Server::start();
    let mut client = start_called_back(&server, &library);
    let healthy_program = Compiled::c("forgets", &["-g"]);
    let healthy_server = Server::start();
    let mut healthy = healthy_program.start(&[&healthy_server.address(), "2"]);
    let pids = [client.pid_text(), healthy.pid_text()];
    let mut tracer = Tracer::watch(&["--pid", &pids[0], "--pid", &pids[1]]);

    // Now tcpleak has the library before it as well.
    client.go();
    server.hang_up_on(1);
    let leak = tracer.wait_for_titled_leak_of(1);
    assert_own_functions(&leak["origin"], &CALLED_BACK);
    assert_complete(&leak["origin"]);

    truncate(&library);
    client.go();
    server.hang_up_on(1);
    let client_pid = serde_json::json!([client.pid()]);
    let leak = tracer.wait_for_group_within(usual_time(), "the second leak", |group| {
        let another = !passes_through(&group["origin"], "open_with_library");
        group["leak"] == true && group["pids"] == client_pid && (another || group["count"] == 2)
    });
    if passes_through(&leak["origin"], "open_without_library") {
        assert_eq!(title(&leak), "open_connection");
    }

    // And tcpleak goes on.
    healthy.tell();
    healthy_server.hang_up_on(2);
    healthy.facts();
    let healthy_pid = serde_json::json!([healthy.pid()]);
    let leak = tracer.wait_for_group_within(usual_time(), "the healthy program", |group| {
        group["leak"] == true && group["pids"] == healthy_pid && !title(group).is_empty()
    });
    assert_own_functions(&leak["origin"], &OWN);
    assert_complete(&leak["origin"]);
    assert_ended_well(&tracer.interrupt());
}

#[test]
fn a_library_that_had_lost_its_contents_before_leaves_the_callers_of_connect_named() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let library = directory.path().join("library");
    let server = Server::start();
    let mut client = start_called_back(&server, &library);
    // The first step is done unwatched: from then on the program needs no library.
    client.go();
    server.hang_up_on(1);
    truncate(&library);
    let mut tracer = Tracer::of(&client);
    client.go();
    server.hang_up_on(1);

    let leak = tracer.wait_for_group_within(usual_time(), "the second leak", |group| {
        group["leak"] == true && passes_through(&group["origin"], "open_without_library")
    });
    assert_eq!(title(&leak), "open_connection");
    for function in ["open_connection", "open_without_library", "on_visit"] {
        assert!(passes_through(&leak["origin"], function), "{leak:#}");
    }
    assert_ended_well(&tracer.interrupt());
}
