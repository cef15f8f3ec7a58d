//! `cargo xtask package`: what would be published builds by itself and holds all that it needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::workspace::Workspace;

/// The published packages, each before those that need it.
const PACKAGES: [&str; 2] = ["tcpleak-ebpf", "tcpleak"];

/// What each of them holds besides its sources.
const PAPERS: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// All packages of the workspace have the version of this one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Packages, unpacks, builds from what was unpacked, and looks at the result.
pub fn run(workspace: &Workspace) -> Result<()> {
    // A directory of its own: a program found there can only come from the unpacked package.
    let target = workspace.target.join("packaged");
    let mut package = workspace.cargo();
    package
        .args(["package", "--allow-dirty", "--target-dir"])
        .arg(&target);
    package.args(PACKAGES.map(|name| format!("--package={name}")));
    process::run(package.env_remove("TCPLEAK_EBPF_OBJECT"))?;

    let unpacked = |name: &str| target.join(format!("package/{name}-{VERSION}"));
    for name in PACKAGES {
        for paper in PAPERS {
            ensure!(
                unpacked(name).join(paper).is_file(),
                "the package {name} lacks {paper}"
            );
        }
    }
    same_objects(&workspace.kept_objects(), &unpacked("tcpleak").join("bpf"))?;

    let version = process::output(Command::new(target.join("debug/tcpleak")).arg("--version"))?;
    ensure!(
        version.contains(VERSION),
        "the packaged tcpleak calls itself {version:?}"
    );
    println!("{version} builds from its package.");
    Ok(())
}

/// Fails unless every kept file is in the package, byte for byte.
fn same_objects(kept: &Path, packaged: &Path) -> Result<()> {
    for entry in fs::read_dir(kept).with_context(|| format!("cannot list {}", kept.display()))? {
        let name = entry
            .with_context(|| format!("cannot list {}", kept.display()))?
            .file_name();
        let bytes = |directory: &Path| {
            let file = directory.join(&name);
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        ensure!(
            bytes(kept)? == bytes(packaged)?,
            "the packaged {} is not the kept one",
            name.display()
        );
    }
    Ok(())
}
