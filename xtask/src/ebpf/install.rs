//! Installing a toolchain for the kernel programs, by its usual installer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::toolchain::{Compiler, Kind, linker};
use crate::{process, workspace};

/// The release of bpf-linker that is installed where there is none.
const BPF_LINKER: &str = "0.13.0";

/// Debian's compiler, the source of its library, and what bpf-linker is built with.
const DEBIAN_PACKAGES: [&str; 8] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "g++",
];

/// Installs what is missing of a set.
pub fn install(kind: Kind) -> Result<()> {
    match kind {
        Kind::Rustup => rustup_nightly()?,
        Kind::Debian => debian_packages(&DEBIAN_PACKAGES)?,
    }
    if linker().is_none() {
        bpf_linker(Compiler::installed(kind)?.llvm_major())?;
    }
    Ok(())
}

/// Installs clippy into a set.
pub fn clippy(kind: Kind) -> Result<()> {
    match kind {
        Kind::Rustup => rustup(&["component", "add", "clippy", "--toolchain", "nightly"]),
        Kind::Debian => debian_packages(&["rust-web-clippy"]),
    }
}

/// A nightly that is there already is completed, not updated.
fn rustup_nightly() -> Result<()> {
    if Compiler::installed(Kind::Rustup).is_ok() {
        return rustup(&["component", "add", "rust-src", "--toolchain", "nightly"]);
    }
    rustup(&[
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ])
}

fn rustup(arguments: &[&str]) -> Result<()> {
    eprintln!("$ rustup {}", arguments.join(" "));
    // One attempt: there is another set to fall back on.
    process::output(
        Command::new("rustup")
            .args(arguments)
            .env("RUSTUP_MAX_RETRIES", "0"),
    )?;
    Ok(())
}

fn debian_packages(packages: &[&str]) -> Result<()> {
    ensure!(
        Path::new("/etc/debian_version").exists(),
        "this is not Debian"
    );
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !is_installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut update = apt_get()?;
    process::run(update.arg("update"))?;
    let mut install = apt_get()?;
    process::run(
        install
            .args(["install", "--yes", "--no-install-recommends"])
            .args(missing),
    )
}

fn apt_get() -> Result<Command> {
    let mut command = process::as_root("apt-get")?;
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

fn is_installed(package: &str) -> bool {
    let query = ["--show", "--showformat=${db:Status-Status}", package];
    process::output(Command::new("dpkg-query").args(query))
        .is_ok_and(|status| status == "installed")
}

/// Builds bpf-linker on the LLVM that the compiler was built on: it must read the compiler's bitcode.
fn bpf_linker(llvm_major: &str) -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{llvm_major}");
    if !Path::new(&prefix).join("include/llvm-c").is_dir() {
        bail!(
            "bpf-linker is not on PATH, and to build it the development files of LLVM {llvm_major} \
             are missing (apt-get install llvm-{llvm_major}-dev)"
        );
    }
    process::run(
        Command::new(workspace::host_cargo())
            .current_dir("/")
            .env("LLVM_PREFIX", prefix)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER])
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm_major}"),
            ]),
    )
    .context("building bpf-linker")
}
