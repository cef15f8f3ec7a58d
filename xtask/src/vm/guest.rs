//! The file system of the machine: packages of Debian, the programs under test, and their plan.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Arch;
use super::cpio::Archive;
use super::debian::{self, BOOKWORM, Suites};
use super::kernels::Kernel;
use super::programs::Programs;
use crate::workspace::Workspace;

/// The real programs that tests run, and what these tests look at them with.
const PACKAGES: &[&str] = &[
    "apache2-bin",
    "bash",
    "binutils",
    "bsdutils",
    "coreutils",
    "curl",
    "grep",
    "iproute2",
    "libc-bin",
    "libc6-dbg",
    "libcommons-httpclient-java",
    "linux-perf",
    "nginx",
    "nodejs",
    "openjdk-17-jdk-headless",
    "python3",
    "python3-pytest",
    "ruby",
    "util-linux",
];

/// Directories of a system that no package brings.
const DIRECTORIES: &[&str] = &[
    "dev",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "var/log/nginx",
    "var/lib/nginx",
];

const USERS: &str = "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Fetches the packages and unpacks them into a directory that becomes the machine's root. Where
/// the index cannot be reached, what was fetched before will do.
pub fn root(cache: &Path, arch: Arch) -> Result<PathBuf> {
    let directory = cache.join(format!("root-{}", arch.word()));
    let root = directory.join("root");
    let stamp = directory.join("packages");
    match fetch(&directory, &root, &stamp, arch) {
        Err(error) if stamp.exists() => {
            eprintln!("the packages from before are used, because: {error:#}");
        }
        fetched => fetched.context("the programs that the tests run cannot be had")?,
    }
    Ok(root)
}

fn fetch(directory: &Path, root: &Path, stamp: &Path, arch: Arch) -> Result<()> {
    let suites = Suites::open(directory.join("apt"), arch, BOOKWORM)?;
    let packages = suites.closure(PACKAGES)?;
    let wanted = format!("{packages:?}");
    if fs::read_to_string(stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let files = suites.download(&packages)?;
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for file in files {
        debian::unpack(&file, root)?;
    }
    for name in DIRECTORIES {
        fs::create_dir_all(root.join(name))?;
    }
    // Debian's packages leave this one to their scripts.
    symlink("bash", root.join("usr/bin/sh")).or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), USERS)?;
    fs::write(root.join("etc/group"), GROUPS)?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// A program that runs in the machine, and its arguments.
pub struct Suite {
    /// What its results are called.
    pub name: &'static str,
    /// The program and its arguments.
    pub words: Vec<String>,
}

/// Packs everything into one file, from which the kernel fills its first file system.
pub fn pack(
    workspace: &Workspace,
    root: &Path,
    programs: &Programs,
    kernel: &Kernel,
    suites: &[Suite],
    file: &Path,
) -> Result<()> {
    let output = File::create(file).with_context(|| format!("writing {}", file.display()))?;
    let mut archive = Archive::new(BufWriter::new(output));
    archive.tree(&programs.init, "init")?;
    archive.tree(root, "system")?;
    archive.directory("system/vm")?;
    archive.tree(&programs.tcpleak, "system/vm/tcpleak")?;
    archive.tree(&programs.tests, "system/vm/end_to_end")?;
    archive.tree(&programs.compiled, "system/vm/compiled")?;
    archive.directory("system/vm/fixtures")?;
    for name in &programs.fixture_names {
        archive.tree(
            &programs.fixtures.join(name),
            &format!("system/vm/fixtures/{name}"),
        )?;
    }
    archive.directory("system/vm/modules")?;
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.tree(module, &format!("system/vm/modules/{name}"))?;
    }
    // The tests look for these where they were built.
    for path in ["tests/fixtures", "tests/src", "docs"] {
        let path = workspace.root.join(path);
        above(&mut archive, &path)?;
        archive.tree(&path, &format!("system{}", path.display()))?;
    }
    above(&mut archive, &programs.scratch.join("file"))?;
    archive.file("system/vm/environment", 0o644, environment().as_bytes())?;
    archive.file("system/vm/plan", 0o644, plan(suites).as_bytes())?;
    archive.finish()
}

/// Adds the directories that a path of the host lies in.
fn above<W: std::io::Write>(archive: &mut Archive<W>, path: &Path) -> Result<()> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    for directory in above.into_iter().skip(1) {
        archive.directory(&format!("system{}", directory.display()))?;
    }
    Ok(())
}

fn environment() -> String {
    [
        // Nobody has set Debian's alternatives, of which Java's programs are some.
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/jvm/java-17-openjdk-amd64/bin:/usr/lib/jvm/java-17-openjdk-arm64/bin",
        "HOME=/root",
        "LC_ALL=C.UTF-8",
        "TCPLEAK_BIN=/vm/tcpleak",
        "TCPLEAK_FIXTURES=/vm/fixtures",
        "TCPLEAK_COMPILED=/vm/compiled",
        // At a nanosecond for each instruction, an emulated machine is several times slower than a real one.
        "TCPLEAK_TEST_PATIENCE=120",
        "RUST_BACKTRACE=0",
    ]
    .join("\n")
}

fn plan(suites: &[Suite]) -> String {
    let line = |suite: &Suite| format!("{}\t{}\n", suite.name, suite.words.join("\t"));
    suites.iter().map(line).collect()
}
