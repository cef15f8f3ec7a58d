//! `cargo xtask package`: what would be published builds by itself and holds all that it needs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
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
    forget_unpacked()?;
    forget_built(&target)?;
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

/// Removes what cargo unpacked of these packages before. It does not look whether a package of the same version
/// has other contents now.
fn forget_unpacked() -> Result<()> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    for kind in ["src", "cache"] {
        let registries = home.iter().map(|home| home.join("registry").join(kind));
        // Those that are directories of this machine have names without a host.
        let local = registries.flat_map(|all| fs::read_dir(all).into_iter().flatten().flatten());
        for registry in local.filter(|one| one.file_name().as_encoded_bytes().starts_with(b"-")) {
            for name in PACKAGES {
                let unpacked = registry.path().join(format!("{name}-{VERSION}"));
                if unpacked.is_dir() {
                    fs::remove_dir_all(&unpacked)
                        .with_context(|| format!("cannot remove {}", unpacked.display()))?;
                }
                let packed = registry.path().join(format!("{name}-{VERSION}.crate"));
                if packed.is_file() {
                    fs::remove_file(&packed)
                        .with_context(|| format!("cannot remove {}", packed.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Has cargo build these packages anew, for the same reason.
fn forget_built(target: &Path) -> Result<()> {
    let Ok(built) = fs::read_dir(target.join("debug/.fingerprint")) else {
        return Ok(());
    };
    for entry in built.flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"tcpleak") {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
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
