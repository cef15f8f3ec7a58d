//! What the kernel programs are built from, reduced to one hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::compile;

/// The hash of everything that decides the objects besides the toolchain: the files of the package
/// `tcpleak-ebpf`, the locked versions of what its programs depend on, and how they are compiled.
pub fn hash(root: &Path) -> Result<String> {
    let package = root.join("tcpleak-ebpf");
    let mut parts = BTreeMap::new();
    read_files(&package, "", &mut parts)?;
    let lock = read_text(&root.join("Cargo.lock"))?;
    let manifest = read_text(&package.join("Cargo.toml"))?;
    parts.insert(
        "locked versions".into(),
        locked_versions(&manifest, &lock)?.into_bytes(),
    );
    parts.insert("settings".into(), compile::settings().into_bytes());
    Ok(hash_of_parts(&parts))
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes).as_slice())
}

/// Each part goes in with its name and length, so that nothing can move from one part into the
/// next unseen.
fn hash_of_parts(parts: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in parts {
        for field in [name.as_bytes(), bytes] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }
    hexadecimal(hash.finalize().as_slice())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads every regular file below a directory. Symbolic links are left out: they are the licences.
fn read_files(directory: &Path, prefix: &str, parts: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_dir() {
            read_files(&path, &format!("{name}/"), parts)?;
        } else if kind.is_file() {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            parts.insert(name, bytes);
        }
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The part of a `Cargo.toml` that names what the kernel programs depend on: what only user space
/// needs is listed under its target.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// One line `name version checksum` for each package that the dependencies in `manifest` lead to in
/// `lock`, sorted.
fn locked_versions(manifest: &str, lock: &str) -> Result<String> {
    let manifest: Manifest = toml::from_str(manifest).context("in the manifest of tcpleak-ebpf")?;
    let lock: Lock = toml::from_str(lock).context("in Cargo.lock")?;
    let mut waiting: Vec<String> = manifest.dependencies.into_keys().collect();
    let mut seen = BTreeSet::new();
    let mut lines = BTreeSet::new();
    // A reference is `name`, or `name version` where the lock holds several versions.
    while let Some(reference) = waiting.pop() {
        let mut words = reference.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        if !seen.insert(reference.clone()) {
            continue;
        }
        let packages = lock.package.iter().filter(|package| {
            package.name == name && version.is_none_or(|version| package.version == version)
        });
        for package in packages {
            let checksum = package.checksum.as_deref().unwrap_or("-");
            lines.insert(format!("{} {} {checksum}\n", package.name, package.version));
            waiting.extend(package.dependencies.iter().cloned());
        }
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        [dependencies]
        kernel = { version = "1", optional = true }
        [target.'cfg(not(target_arch = "bpf"))'.dependencies]
        userspace = "1"
    "#;

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "kernel"
        version = "1.0.0"
        checksum = "aa"
        dependencies = ["macros", "shared 2.0.0"]
        [[package]]
        name = "macros"
        version = "1.1.0"
        dependencies = ["kernel"]
        [[package]]
        name = "shared"
        version = "1.0.0"
        [[package]]
        name = "shared"
        version = "2.0.0"
        [[package]]
        name = "userspace"
        version = "1.0.0"
        dependencies = ["shared 1.0.0"]
    "#;

    #[test]
    fn only_what_the_kernel_programs_lead_to_is_listed() {
        let listed = locked_versions(MANIFEST, LOCK).unwrap();
        assert_eq!(listed, "kernel 1.0.0 aa\nmacros 1.1.0 -\nshared 2.0.0 -\n");
    }

    #[test]
    fn a_lock_that_cannot_be_read_is_named() {
        let error = locked_versions(MANIFEST, "package = 1").unwrap_err();
        assert!(error.to_string().contains("Cargo.lock"), "{error}");
    }

    #[test]
    fn moving_a_byte_from_one_file_to_the_next_changes_the_hash() {
        let parts = |first: &str, second: &str| {
            hash_of_parts(&BTreeMap::from([
                ("a".to_owned(), first.into()),
                ("b".to_owned(), second.into()),
            ]))
        };
        assert_eq!(parts("xy", "z"), parts("xy", "z"));
        assert_ne!(parts("xy", "z"), parts("x", "yz"));
    }

    #[test]
    fn renaming_a_file_changes_the_hash() {
        let one = |name: &str| hash_of_parts(&BTreeMap::from([(name.to_owned(), b"x".to_vec())]));
        assert_ne!(one("main.rs"), one("lib.rs"));
    }

    #[test]
    fn the_hash_is_plain_sha256() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
