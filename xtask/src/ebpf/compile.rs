//! Compiling the kernel programs, once per register layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kept::Objects;
use super::object_file::{absolute_paths, without_debug_information};
use super::toolchain::{Toolchain, cargo_home};
use crate::process;
use crate::workspace::Workspace;

/// The architectures that tcpleak runs on. A program reads its arguments from the registers of the
/// machine that it runs on, so that each needs an object of its own.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Features, target and parts of the standard library.
const OPTIONS: [&str; 7] = [
    "--package=tcpleak-ebpf",
    "--bin=tcpleak-ebpf",
    "--features=programs",
    "--release",
    "--locked",
    "--target=bpfel-unknown-none",
    "-Zbuild-std=core",
];

/// What the kernel programs are compiled with, whatever the profiles of the host programs say.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "false"),
    // The type information is made from the debug information.
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
];

/// Everything above in words: a part of the sources, because it decides the objects.
pub fn settings() -> String {
    let flags: Vec<_> = ARCHITECTURES.iter().map(|name| flags(name)).collect();
    format!("{OPTIONS:?} {PROFILE:?} {flags:?}")
}

/// Compiler flags without those that name directories of this machine.
fn flags(architecture: &str) -> Vec<String> {
    vec![
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // What is cleared or copied within the programs is so by words, in place. In order, which is meant
        // for packets, it would be by calls that take each byte by itself.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
    ]
}

/// Compiles the object of every architecture.
pub fn all(workspace: &Workspace, toolchain: &Toolchain) -> Result<Objects> {
    ARCHITECTURES
        .iter()
        .map(|architecture| {
            let object = object(workspace, toolchain, architecture)
                .with_context(|| format!("building the kernel programs for {architecture}"))?;
            Ok((format!("tcpleak.{architecture}.o"), object))
        })
        .collect()
}

fn object(workspace: &Workspace, toolchain: &Toolchain, architecture: &str) -> Result<Vec<u8>> {
    process::run(
        cargo(workspace, toolchain, architecture, "cargo")
            .arg("build")
            .args(OPTIONS),
    )?;
    let linked = target(workspace, architecture).join("bpfel-unknown-none/release/tcpleak-ebpf");
    let linked = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
    let object = without_debug_information(&linked)?;
    let paths = absolute_paths(&object);
    ensure!(
        paths.is_empty(),
        "the object holds paths of this machine, which --remap-path-prefix should replace: {paths:?}"
    );
    Ok(object)
}

/// Runs clippy over the kernel programs; warnings are errors.
pub fn clippy(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    toolchain.need_clippy()?;
    process::run(
        cargo(workspace, toolchain, ARCHITECTURES[0], "cargo-clippy")
            .arg("clippy")
            .args(OPTIONS)
            .args(["--", "--deny", "warnings"]),
    )
}

/// A command of the toolchain in the workspace, with a target directory of its own: the host
/// programs are built by another compiler with other flags.
fn cargo(
    workspace: &Workspace,
    toolchain: &Toolchain,
    architecture: &str,
    program: &str,
) -> Command {
    let mut flags = flags(architecture);
    flags.extend(path_prefixes(workspace, toolchain));
    let mut command = toolchain.command(program);
    command
        .current_dir(&workspace.root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", target(workspace, architecture))
        .envs(PROFILE);
    command
}

fn target(workspace: &Workspace, architecture: &str) -> PathBuf {
    workspace.target.join("ebpf").join(architecture)
}

/// Flags that make the source paths in the type information the same on every machine. Of several
/// prefixes that fit, rustc takes the last.
fn path_prefixes(workspace: &Workspace, toolchain: &Toolchain) -> Vec<String> {
    let mut prefixes = vec![(workspace.root.clone(), "")];
    if let Some(cargo_home) = cargo_home() {
        let registries = fs::read_dir(cargo_home.join("registry/src"))
            .into_iter()
            .flatten()
            .flatten();
        prefixes.push((cargo_home, "cargo/"));
        prefixes.extend(registries.map(|registry| (registry.path(), "crates/")));
    }
    prefixes.push((toolchain.library_source(), "library/"));
    prefixes
        .iter()
        .map(|(from, to)| path_prefix(from, to))
        .collect()
}

fn path_prefix(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}/={to}", from.display())
}
