//! tcpleak without the right to load programs into the kernel.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::harness::{finish, tcpleak_binary};

/// The user "nobody".
const NOBODY: u32 = 65_534;

/// A directory with tcpleak in it, that everybody may look into: into the one where it was built nobody may not.
fn public_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::copy(tcpleak_binary(), directory.path().join("tcpleak")).expect("tcpleak can be copied");
    directory
}

#[test]
fn without_root_the_message_names_the_cause_and_the_way_out() {
    let directory = public_directory();
    let program = directory.path().join("tcpleak");
    let commands = [&[][..], &["snapshot"], &["doctor"]];
    // Without programs, the descriptors of others are out of reach.
    let ways = ["", "lifecycle=none"];
    for (arguments, way) in commands
        .into_iter()
        .flat_map(|arguments| ways.map(|way| (arguments, way)))
    {
        let mut unprivileged = Command::new(&program);
        unprivileged
            .args(arguments)
            .env("TCPLEAK_FORCE_BACKEND", way)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/");
        let finished = finish(unprivileged.spawn().expect("nobody may run it"));
        assert_eq!(finished.code(), 1, "{arguments:?}: {finished:?}");
        let said = finished.stderr.clone() + &finished.stdout;
        assert!(said.contains("sudo"), "{arguments:?}: {said}");
        assert!(
            said.contains("root") || said.contains("CAP_"),
            "{arguments:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn who_may_not_look_into_processes_says_that_their_namespaces_are_not_known() {
    let directory = public_directory();
    let capabilities = "+bpf,+perfmon";
    // Before 5.11 maps count as locked memory, of which nobody has little. From then on they do not, and root
    // in a container may not raise the limit.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    let mut traces_only = Command::new("setpriv");
    traces_only
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
        .arg(directory.path().join("tcpleak"))
        .args(["snapshot", "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let finished = finish(traces_only.spawn().expect("setpriv is installed"));
    let document = finished.document();
    let notes = document["notes"].as_array().expect("there is a list");
    let told = notes.iter().filter_map(|note| note.as_str());
    assert!(
        told.into_iter()
            .any(|note| note.contains("network namespaces could not be entered")),
        "{notes:#?}"
    );
}
