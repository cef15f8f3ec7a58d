//! The compiler of the kernel programs: found on this machine, or installed.
//!
//! It needs what a stable Rust lacks: the source of the `core` library, the right to build it, and
//! `bpf-linker`. Two sets have it all: rustup's nightly, and packages of Debian.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::install;
use crate::process;

/// A set of tools that can build the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The nightly compiler of rustup, with its component rust-src
    Rustup,
    /// Debian's packages rustc-web, cargo-web and rust-web-src
    Debian,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rustup => "rustup's nightly",
            Self::Debian => "Debian's rustc-web",
        })
    }
}

/// What decides the bytes of an object besides its sources. The LLVM in bpf-linker, which generates
/// the code, does not tell its version: in Debian's set it is the compiler's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Versions {
    /// First line of `rustc --version`.
    pub rustc: String,
    /// LLVM of the compiler.
    pub llvm: String,
    /// What `bpf-linker --version` says.
    pub bpf_linker: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}, LLVM {}, {}",
            self.rustc, self.llvm, self.bpf_linker
        )
    }
}

/// A complete set of tools on this machine.
#[derive(Debug)]
pub struct Toolchain {
    /// Which set it is.
    pub kind: Kind,
    /// The versions of its parts.
    pub versions: Versions,
    compiler: Compiler,
}

/// The first complete set among `kinds`, those installed before those that must be downloaded. Of
/// several installed ones the one that built the kept objects is preferred, so that a rebuild
/// changes as little as it can.
pub fn find(kinds: &[Kind], recorded: Option<&Versions>) -> Result<Toolchain> {
    let mut installed = installed(kinds);
    if let Some(same) = installed
        .iter()
        .position(|found| Some(&found.versions) == recorded)
    {
        return Ok(installed.swap_remove(same));
    }
    if !installed.is_empty() {
        return Ok(installed.swap_remove(0));
    }
    for &kind in kinds {
        match install::install(kind).and_then(|()| Toolchain::installed(kind)) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => eprintln!("{kind} cannot be used: {reason:#}"),
        }
    }
    bail!(
        "no compiler for the kernel programs. Either `rustup toolchain install nightly --component \
         rust-src` and put bpf-linker on PATH (https://github.com/aya-rs/bpf-linker), or run this \
         as root on Debian 12, which installs them by apt-get"
    )
}

/// Every set among `kinds` that is complete already.
pub fn installed(kinds: &[Kind]) -> Vec<Toolchain> {
    kinds
        .iter()
        .filter_map(|&kind| Toolchain::installed(kind).ok())
        .collect()
}

impl Toolchain {
    /// The set, or what it lacks.
    fn installed(kind: Kind) -> Result<Self> {
        let compiler = Compiler::installed(kind)?;
        ensure!(
            compiler.library_source().join("core").is_dir(),
            "the source of the core library is missing below {}",
            compiler.library_source().display()
        );
        let linker = linker().context("bpf-linker is missing")?;
        let versions = Versions {
            rustc: compiler.version.clone(),
            llvm: compiler.llvm.clone(),
            bpf_linker: process::output(Command::new(linker).arg("--version"))?,
        };
        Ok(Self {
            kind,
            versions,
            compiler,
        })
    }

    /// One of the set's own programs (`cargo`, `cargo-clippy`), which will use the set's compiler
    /// and none of the settings that this task inherited from the cargo that started it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.compiler.program(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting_of_cargo(name)) {
            command.env_remove(name);
        }
        // Allows `-Z build-std` where the compiler is not a nightly one.
        command.env("RUSTC_BOOTSTRAP", "1");
        command.env("RUSTC", self.compiler.program("rustc"));
        command.env("CARGO", self.compiler.program("cargo"));
        if let Some(path) = path_with_linker() {
            command.env("PATH", path);
        }
        command
    }

    /// Where the standard library's source is, with the path that rustc gives its files.
    pub fn library_source(&self) -> PathBuf {
        self.compiler.library_source()
    }

    /// Makes sure that the set has clippy.
    pub fn need_clippy(&self) -> Result<()> {
        if !self.compiler.program("cargo-clippy").is_file() {
            install::clippy(self.kind)?;
        }
        Ok(())
    }
}

/// Settings meant for another compiler. What says where things are and how to reach a registry stays.
fn is_setting_of_cargo(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = ["CARGO_HOME", "CARGO_BUILD_JOBS", "RUSTUP_HOME"].contains(&&*name)
        || [
            "CARGO_HTTP_",
            "CARGO_NET_",
            "CARGO_REGISTR",
            "CARGO_SOURCE_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    !kept && (name.starts_with("CARGO") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH")
}

/// The compiler of a set.
#[derive(Debug)]
pub struct Compiler {
    /// Directory of `rustc` and `cargo`.
    programs: PathBuf,
    sysroot: PathBuf,
    version: String,
    /// LLVM of the compiler, such as `22.1.8`.
    llvm: String,
}

impl Compiler {
    /// The compiler of a set, whether or not the rest of the set is there.
    pub fn installed(kind: Kind) -> Result<Self> {
        let rustc = match kind {
            Kind::Rustup => PathBuf::from(process::output(Command::new("rustup").args([
                "which",
                "--toolchain",
                "nightly",
                "rustc",
            ]))?),
            Kind::Debian => PathBuf::from("/usr/bin/rustc"),
        };
        let programs = rustc.parent().context("rustc has no directory")?.to_owned();
        ensure!(
            programs.join("cargo").is_file(),
            "{} has no cargo",
            programs.display()
        );
        // LD_LIBRARY_PATH may name the libraries of the compiler that built this task.
        let ask = |question: &[&str]| {
            process::output(
                Command::new(&rustc)
                    .args(question)
                    .env_remove("LD_LIBRARY_PATH"),
            )
        };
        let description = ask(&["--version", "--verbose"])?;
        let version = description.lines().next().unwrap_or_default().to_owned();
        let llvm = description
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .with_context(|| format!("{} does not name its LLVM", rustc.display()))?
            .to_owned();
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        Ok(Self {
            programs,
            sysroot,
            version,
            llvm,
        })
    }

    /// Major version of the compiler's LLVM.
    pub fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or_default()
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn library_source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }
}

/// `bpf-linker`, on PATH or where `cargo install` puts it.
pub fn linker() -> Option<PathBuf> {
    process::on_path("bpf-linker").or_else(|| {
        let installed = cargo_home()?.join("bin/bpf-linker");
        installed.is_file().then_some(installed)
    })
}

/// Cargo's directory for registries and installed programs.
pub fn cargo_home() -> Option<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")),
    }
}

/// PATH with the linker's directory at its end.
fn path_with_linker() -> Option<OsString> {
    let linker = linker()?;
    let path = std::env::var_os("PATH")?;
    std::env::join_paths(std::env::split_paths(&path).chain(linker.parent().map(Path::to_owned)))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_calling_cargo_do_not_reach_the_kernel_build() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_TARGET_DIR",
        ] {
            assert!(is_setting_of_cargo(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "PATH",
        ] {
            assert!(!is_setting_of_cargo(OsStr::new(name)), "{name}");
        }
    }
}
