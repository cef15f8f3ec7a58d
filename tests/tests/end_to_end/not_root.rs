//! tcpleak without the right to load programs into the kernel.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use crate::harness::{finish, tcpleak_binary};

/// The user "nobody".
const NOBODY: u32 = 65_534;

#[test]
fn without_root_the_message_names_the_cause_and_the_way_out() {
    // Nobody may not be able to look into the directory where tcpleak was built.
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let program = directory.path().join("tcpleak");
    fs::copy(tcpleak_binary(), &program).expect("tcpleak can be copied");

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
