//! What runs in the machine, built for it: with the C library inside, so that it needs none there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Arch;
use super::debian::{self, BOOKWORM, Suites};
use crate::process;
use crate::test::END_TO_END;
use crate::workspace::Workspace;

/// The programs, on the host.
pub struct Programs {
    /// tcpleak, as it is released.
    pub tcpleak: PathBuf,
    /// The end-to-end tests.
    pub tests: PathBuf,
    /// Directory of the leaking programs that cargo builds.
    pub fixtures: PathBuf,
    /// Names of these.
    pub fixture_names: Vec<String>,
    /// The first process of the machine.
    pub init: PathBuf,
    /// Directory of the leaking programs that other compilers build.
    pub compiled: PathBuf,
    /// The directory for temporary files that the tests were built with.
    pub scratch: PathBuf,
}

/// Builds all of it.
pub fn build(workspace: &Workspace, arch: Arch) -> Result<Programs> {
    let target = arch.target();
    let tests = tests(workspace, arch)?;
    process::run(cargo(workspace, arch).args(["build", "--release", "--package", "tcpleak"]))?;
    process::run(cargo(workspace, arch).args(["build", "--package", END_TO_END, "--bins"]))?;
    let fixtures = workspace.target.join(target).join("debug");
    let compiled = workspace
        .target
        .join("vm")
        .join(arch.word())
        .join("compiled");
    if compiled.exists() {
        fs::remove_dir_all(&compiled)?;
    }
    let mut compile = workspace.cargo();
    compile.args(["run", "--quiet", "--package", END_TO_END]);
    compile.args(["--bin", "compile-fixtures", "--"]);
    compile.arg(&compiled).arg(workspace.target.join("tmp"));
    compile.arg(arch.word());
    if !arch.is_hosts() {
        compile.env("TCPLEAK_CROSS_MUSL", musl(workspace, arch)?);
    }
    process::run(&mut compile)?;
    Ok(Programs {
        tcpleak: workspace.target.join(target).join("release/tcpleak"),
        tests,
        init: fixtures.join("vm-init"),
        fixtures,
        fixture_names: ["leaky", "leaky-crawler"].map(str::to_owned).into(),
        compiled,
        scratch: workspace.target.join("tmp"),
    })
}

/// Fetches musl's C library, which no cross compiler brings. Gives its directory `usr`.
fn musl(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let cache = workspace.target.join("vm");
    let directory = cache.join(format!("musl-{}", arch.word()));
    let usr = directory.join("usr");
    if !usr.exists() {
        let suites = Suites::open(directory.join("apt"), arch, BOOKWORM)?;
        for package in suites.download(&suites.closure(&["musl-dev"])?)? {
            debian::unpack(&package, &directory)?;
        }
    }
    Ok(usr)
}

/// Builds the end-to-end tests. Cargo names the file, among much else, one message to a line.
fn tests(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let mut build = cargo(workspace, arch);
    build.args(["test", "--no-run", "--package", END_TO_END]);
    build.args([
        "--test",
        "end_to_end",
        "--message-format=json-render-diagnostics",
    ]);
    let messages = process::output(&mut build)?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "end_to_end";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.context("cargo names no program of the end-to-end tests")
}

fn cargo(workspace: &Workspace, arch: Arch) -> Command {
    let mut cargo = workspace.cargo();
    // This takes the place of the flags in .cargo/config.toml, so these are here too.
    cargo.env(
        "RUSTFLAGS",
        "-C force-frame-pointers=yes -C target-feature=+crt-static",
    );
    cargo.env("CARGO_BUILD_TARGET", arch.target());
    if arch == Arch::Aarch64 && !arch.is_hosts() {
        let linker = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
        cargo.env(linker, "aarch64-linux-gnu-gcc");
    }
    cargo
}
