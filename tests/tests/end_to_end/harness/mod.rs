//! What the stories are told with: leaking programs, their peers, network namespaces, and tcpleak
//! itself. Everything that is started here ends when its value is dropped, and by itself after some
//! minutes should the tests be killed.

mod backends;
mod browser;
mod compiled;
mod control_group;
mod fixture;
mod forgetting;
mod kernel_objects;
mod network_namespace;
mod own_root;
mod program;
mod reports;
mod run;
mod server;
mod serving;
mod tcpleak;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

pub use backends::backends_of;
pub use browser::Browser;
pub use compiled::{Compiled, output_of};
pub use control_group::ControlGroup;
pub use fixture::Fixture;
pub use forgetting::watch_forgetting;
pub use kernel_objects::KernelObjects;
pub use network_namespace::NetworkNamespace;
pub use own_root::{Part, start_in_own_root, with_empty};
pub use program::{Apache, Nginx, Program};
pub use reports::{
    assert_complete, assert_own_functions, assert_passes_in_order, assert_passes_through,
    assert_runs_in, functions, groups, has_qualifier, is_named, leaks, passes_through, title,
};
pub use run::{Run, RunEnded, a_moment};
pub use server::{Server, answer_http_request, read_http_request, reset};
pub use serving::Serving;
pub use tcpleak::{Ended, Finished, Tracer, command, finish, finish_within, interrupt, run};

/// How long anything may take that should take a moment. A machine that is known to be slow says how
/// many seconds that is there.
pub fn patience() -> Duration {
    let seconds = env::var("TCPLEAK_TEST_PATIENCE").ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(20))
}

/// The tcpleak under test.
pub fn tcpleak_binary() -> PathBuf {
    require_root();
    if let Some(path) = env::var_os("TCPLEAK_BIN") {
        return PathBuf::from(path);
    }
    let profile = profile_directory();
    let candidates = [
        profile.join("tcpleak"),
        profile.with_file_name("release").join("tcpleak"),
    ];
    let found = candidates.iter().find(|path| path.is_file());
    found.cloned().unwrap_or_else(|| {
        panic!(
            "there is no {}: build it, or name it in TCPLEAK_BIN",
            candidates[0].display()
        )
    })
}

/// A program of this package.
pub fn fixture_binary(name: &str) -> PathBuf {
    require_root();
    let directory = env::var_os("TCPLEAK_FIXTURES").map_or_else(profile_directory, PathBuf::from);
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "there is no {}: build it, or set TCPLEAK_FIXTURES",
        path.display()
    );
    path
}

/// `target/debug` or its like: the tests run as `target/debug/deps/end_to_end-…`.
fn profile_directory() -> PathBuf {
    let this = env::current_exe().expect("the test knows its own path");
    this.ancestors()
        .nth(2)
        .expect("the test lies two directories deep")
        .to_path_buf()
}

/// A program of the distribution.
pub fn installed(program: &str, package: &str) -> PathBuf {
    require_root();
    tcpleak_tests::installed(program, package).unwrap_or_else(|error| panic!("{error}"))
}

/// A program of the distribution, and the same program of each directory below the one that this variable
/// names, if it is set.
pub fn with_others(own: PathBuf, variable: &str, program: &str) -> Vec<PathBuf> {
    let mut programs = vec![own];
    if let Some(directory) = std::env::var_os(variable) {
        let entries = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{variable}={directory:?}: {error}"));
        programs.extend(entries.map(|entry| entry.expect("a directory").path().join(program)));
        assert!(programs.len() > 1, "there is nothing in {directory:?}");
    }
    programs
}

/// Fails unless the test may load kernel programs. No test comes far without one of the programs
/// above.
fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the end-to-end tests load kernel programs: run them with `cargo xtask test`, or as root"
    );
}

/// Waits until something is the case.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < patience(),
            "waited {:?} in vain: {what}",
            patience()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The lines of a stream as they come. The channel closes with the stream.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The directory of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the repository")
}
