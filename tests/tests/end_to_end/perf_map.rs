//! Code that a program makes while it runs: a map in /tmp may name it, where anybody may write.

use std::{
    fs::{self, File},
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, Mode};
use serde_json::Value;

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_complete, assert_own_functions,
    assert_passes_in_order, passes_through, patience, title,
};

/// The name that the map gives to the made function.
const MADE: &str = "handle_request";

/// A report is late after this. It takes a second or two where nothing is in its way.
fn usual_time() -> Duration {
    patience() / 2
}

/// A perf map. It is removed when this value is dropped.
struct PerfMap {
    path: PathBuf,
    line: String,
}

impl PerfMap {
    /// The place and the right contents for a program; nothing is written yet.
    fn of(program: &Fixture, prefix: &str) -> Self {
        let ready = program.ready();
        let start: String = ready.one("start");
        let size: String = ready.one("size");
        Self {
            path: format!("/tmp/perf-{}.map", program.pid()).into(),
            line: format!("{prefix}{start} {prefix}{size} {MADE}\n"),
        }
    }

    fn write_to(&self, path: &Path) {
        fs::write(path, &self.line).expect("root may write to /tmp");
    }
}

impl Drop for PerfMap {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = fs::remove_file(&self.path);
    }
}

/// Watches a program that makes code; `plant` puts its perf map there.
#[track_caller]
fn watch(prefix: &str, plant: impl FnOnce(&PerfMap)) -> Value {
    let server = Server::start();
    let program = Compiled::c("makes_code", &["-g"]);
    let mut client = program.start(&[&server.address()]);
    let map = PerfMap::of(&client, prefix);
    plant(&map);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();
    let leak = tracer.wait_for_group_within(usual_time(), "a leak with its code path", |group| {
        group["leak"] == true && group["count"] == 1 && !title(group).is_empty()
    });
    // Names or not, the path is followed through the made function by its frame pointer.
    let path = ["open_connection", "run_script", "main"];
    assert_passes_in_order(&leak["origin"], &path);
    assert_complete(&leak["origin"]);
    assert_eq!(title(&leak), "open_connection");
    assert_eq!(tracer.interrupt().code, 3);
    leak
}

/// Fails when the map was believed.
#[track_caller]
fn assert_is_not_believed(plant: impl FnOnce(&PerfMap)) {
    let leak = watch("", plant);
    assert!(!passes_through(&leak["origin"], MADE), "{leak:#}");
}

#[test]
fn made_code_is_named_by_the_map_that_its_program_wrote() {
    for prefix in ["", "0x"] {
        let leak = watch(prefix, |map| map.write_to(&map.path));
        let path = ["open_connection", MADE, "run_script", "main"];
        let frames = assert_passes_in_order(&leak["origin"], &path);
        assert_eq!(frames[1]["runtime"], "jit", "{leak:#}");
    }
}

#[test]
fn made_code_without_a_map_is_passed_through_and_has_no_name() {
    let leak = watch("", |_| ());
    let frames = leak["origin"]["frames"].as_array();
    let frames = frames.expect("a path has frames");
    let mut pairs = frames.windows(2);
    let made = pairs.find(|pair| pair[1]["function"] == "run_script");
    let made = &made.expect("somebody called the made function")[0];
    assert!(made["function"].is_null(), "{leak:#}");
    assert!(made["module"].is_null(), "{leak:#}");
}

#[test]
fn a_pipe_in_the_place_of_a_perf_map_delays_nothing() {
    assert_is_not_believed(|map| {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(CWD, &map.path, mode).expect("its place is free");
    });
}

#[test]
fn a_link_in_the_place_of_a_perf_map_is_not_followed() {
    let elsewhere = tempfile::tempdir().expect("there is a directory for temporary files");
    assert_is_not_believed(|map| {
        // What it leads to would do.
        let target = elsewhere.path().join("map");
        map.write_to(&target);
        symlink(&target, &map.path).expect("its place is free");
    });
    assert_is_not_believed(|map| {
        symlink("/etc/shadow", &map.path).expect("its place is free");
    });
}

#[test]
fn a_perf_map_of_another_user_is_not_believed() {
    assert_is_not_believed(|map| {
        map.write_to(&map.path);
        chown(&map.path, Some(65534), None).expect("root may give files away");
    });
}

#[test]
fn an_endless_perf_map_is_not_read_to_its_end() {
    let leak = watch("", |map| {
        map.write_to(&map.path);
        let file = File::options().write(true).open(&map.path);
        let enlarged = file.and_then(|file| file.set_len(1 << 40));
        enlarged.expect("a file may be sparse");
    });
    assert_own_functions(&leak["origin"], &["open_connection", "run_script", "main"]);
}
