//! The objects that are kept in the tree, and the file beside them that says where they come from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::object_file::absolute_paths;
use super::sources::sha256;
use super::toolchain::Versions;

/// Name of the file beside the objects.
const RECORD: &str = "SOURCES";

const HEADER: &str = "\
# Written by `cargo xtask ebpf`: what the objects in this directory were built from. The hashes are
# SHA-256. `cargo xtask ebpf --check` compares them with the sources and the objects.
";

/// Where the objects come from: the content of `SOURCES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Hash of the sources.
    pub sources: String,
    /// What compiled them.
    pub toolchain: Versions,
    /// Hash of each object, by file name.
    pub objects: BTreeMap<String, String>,
}

/// Objects by file name, such as `tcpleak.x86_64.o`.
pub type Objects = BTreeMap<String, Vec<u8>>;

impl Record {
    /// Describes fresh objects.
    pub fn of(sources: String, toolchain: Versions, objects: &Objects) -> Self {
        let objects = objects
            .iter()
            .map(|(name, bytes)| (name.clone(), sha256(bytes)))
            .collect();
        Self {
            sources,
            toolchain,
            objects,
        }
    }

    /// Reads the record of a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}: run `cargo xtask ebpf`", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!(
                "cannot understand {}: run `cargo xtask ebpf`",
                path.display()
            )
        })
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    fn text(&self) -> Result<String> {
        Ok(format!("{HEADER}{}", toml::to_string(self)?))
    }

    /// Fails unless the objects are the recorded ones, and were built from `sources`.
    pub fn verify(&self, sources: &str, objects: &Objects) -> Result<()> {
        let recorded: Vec<_> = self.objects.keys().collect();
        let present: Vec<_> = objects.keys().collect();
        ensure!(
            recorded == present,
            "the kept objects are {present:?}, but SOURCES describes {recorded:?}: run `cargo xtask ebpf`"
        );
        for (name, bytes) in objects {
            ensure!(
                self.objects[name] == sha256(bytes),
                "{name} is not the object that SOURCES describes: run `cargo xtask ebpf`"
            );
            let paths = absolute_paths(bytes);
            ensure!(
                paths.is_empty(),
                "{name} holds paths of the machine that built it: {paths:?}"
            );
        }
        ensure!(
            self.sources == sources,
            "the kernel programs have changed since the kept objects were built: run `cargo xtask ebpf`"
        );
        Ok(())
    }
}

/// Writes objects and their record into a directory, which is created.
pub fn write(directory: &Path, record: &Record, objects: &Objects) -> Result<()> {
    let failed = || format!("cannot write into {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    for (name, bytes) in objects {
        fs::write(directory.join(name), bytes).with_context(failed)?;
    }
    fs::write(directory.join(RECORD), record.text()?).with_context(failed)
}

/// Reads all objects of a directory.
pub fn read_objects(directory: &Path) -> Result<Objects> {
    let failed = || {
        format!(
            "cannot read {}: run `cargo xtask ebpf`",
            directory.display()
        )
    };
    let mut objects = Objects::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "o") {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            objects.insert(name, fs::read(&path).with_context(failed)?);
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Objects {
        Objects::from([("tcpleak.x86_64.o".into(), b"\x7fELF".to_vec())])
    }

    fn record() -> Record {
        let toolchain = Versions {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25)".into(),
            llvm: "22.1.8".into(),
            bpf_linker: "bpf-linker 0.13.0".into(),
        };
        Record::of("1234".into(), toolchain, &objects())
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        assert_eq!(Record::parse(&record().text().unwrap()).unwrap(), record());
    }

    #[test]
    fn a_record_with_a_missing_line_is_refused() {
        let text = record().text().unwrap();
        for line in ["sources = ", "llvm = ", "[objects]"] {
            let shorter: String = text
                .lines()
                .filter(|kept| !kept.starts_with(line))
                .map(|kept| format!("{kept}\n"))
                .collect();
            assert!(Record::parse(&shorter).is_err(), "without {line}");
        }
    }

    #[test]
    fn current_objects_pass() {
        record().verify("1234", &objects()).unwrap();
    }

    #[test]
    fn sources_that_moved_on_are_noticed() {
        assert_fails_with(record().verify("5678", &objects()), "have changed");
    }

    #[test]
    fn a_changed_object_is_noticed() {
        let changed = Objects::from([("tcpleak.x86_64.o".into(), b"other".to_vec())]);
        assert_fails_with(record().verify("1234", &changed), "tcpleak.x86_64.o is not");
    }

    #[test]
    fn a_missing_object_is_noticed() {
        assert_fails_with(
            record().verify("1234", &Objects::new()),
            "SOURCES describes",
        );
    }

    #[test]
    fn a_path_inside_an_object_is_noticed() {
        let objects =
            Objects::from([("tcpleak.x86_64.o".into(), b"\0/home/someone/src\0".to_vec())]);
        let record = Record::of("1234".into(), record().toolchain, &objects);
        assert_fails_with(record.verify("1234", &objects), "/home/someone/src");
    }

    fn assert_fails_with(result: Result<()>, reason: &str) {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}
