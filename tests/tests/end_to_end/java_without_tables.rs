//! A Java whose virtual machine does not say how it lays out what it has.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    harness::{Compiled, Server, Tracer, assert_passes_in_order, installed},
    java::{java_frames, start_with},
};

/// Has each file of one directory in another one too, but for those with this name.
fn link_all_but(name: &str, from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is a directory").flatten() {
        if entry.file_name() != name {
            symlink(entry.path(), to.join(entry.file_name())).expect("it is ours");
        }
    }
}

/// Makes a Java in a directory whose virtual machine has its tables by other names. It looks them up
/// itself, by the names' hashes: these are still the same, as `S` and `t` count there as `T` and `S`.
/// Returns the program.
fn without_tables(directory: &Path) -> PathBuf {
    let java = fs::canonicalize(installed("java", "openjdk-17-jdk-headless")).expect("it is there");
    let home = java.ancestors().nth(2).expect("it lies in bin");
    let server = "lib/server";
    link_all_but("bin", home, directory);
    fs::remove_file(directory.join("lib")).expect("it was linked");
    link_all_but("server", &home.join("lib"), &directory.join("lib"));
    link_all_but("libjvm.so", &home.join(server), &directory.join(server));
    let mut library = fs::read(home.join(server).join("libjvm.so")).expect("Java has it");
    let (name, other) = (b"gHotSpotVMStruct", b"gHotSpotVMTSruct");
    let mut found = 0;
    for start in 0..library.len() - name.len() {
        if library[start..].starts_with(name) {
            library[start..start + name.len()].copy_from_slice(other);
            found += 1;
        }
    }
    assert!(found > 0, "there are no tables");
    fs::write(directory.join(server).join("libjvm.so"), library).expect("it is ours");
    let program = directory.join("bin/java");
    fs::create_dir(directory.join("bin")).expect("it is ours");
    fs::copy(java, &program).expect("it is ours");
    program
}

#[test]
fn a_virtual_machine_without_tables_is_said_and_its_frames_stay_native() {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let java = without_tables(directory.path());
    let program = Compiled::java("Forgets", &[]);
    let server = Server::start();
    let mut client = start_with(&java, &program, &[], &[&server.port(), "main", "0"]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(1);
    client.facts();
    let leak = tracer.wait_for_leak_with_origin();
    let origin = &leak["origin"];
    let why = origin["unreadable"].as_str().unwrap_or_default();
    assert!(
        why.starts_with("java: ") && why.contains("tables"),
        "{origin:#}"
    );
    assert_eq!(java_frames(origin), Vec::<[Value; 3]>::new(), "{origin:#}");
    assert_passes_in_order(origin, &["connect"]);
}
