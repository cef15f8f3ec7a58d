//! The kernels that tests run on, and where they come from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Arch;
use super::debian::{self, BOOKWORM, RELEASES, SECURITY, Source, Suites};
use crate::process;

/// A kernel that is known by its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its release, and the word for it on the command line.
    pub release: &'static str,
    package: &'static str,
    sources: &'static [Source],
    lacks: &'static [Lack],
}

/// Something that a kernel does not have, so that tests of it cannot run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// A part of the names of these tests, and of no others.
    pub tests: &'static str,
    /// What it is.
    pub what: &'static str,
}

/// What no machine has: it is tested on the host, and no kernel makes a difference to it.
const IN_NO_MACHINE: &[Lack] = &[
    Lack {
        tests: "serve_page::",
        what: "a browser is too large for a machine",
    },
    Lack {
        tests: "prometheus_scrapes_it",
        what: "there is no Prometheus in a machine",
    },
];

/// Debian's kernels for virtual machines, oldest first.
pub const KNOWN: &[Known] = &[
    Known {
        release: "5.10",
        package: "linux-image-cloud-",
        sources: &[(SECURITY, "bullseye-security")],
        lacks: &[
            Lack {
                tests: "mptcp",
                what: "it is built without Multipath TCP",
            },
            Lack {
                tests: "io_uring_holds_without_a_descriptor",
                what: "io_uring has no direct descriptors of sockets before 5.19",
            },
        ],
    },
    Known {
        release: "6.1",
        package: "linux-image-cloud-",
        sources: BOOKWORM,
        lacks: &[],
    },
    Known {
        release: "6.12",
        package: "linux-image-6.12-cloud-",
        sources: BOOKWORM,
        lacks: &[],
    },
    Known {
        release: "7.2",
        package: "linux-image-cloud-",
        sources: &[(RELEASES, "sid")],
        lacks: &[],
    },
];

/// Modules that tests need, with those that they need; what is built in is not looked for.
const MODULES: [&str; 5] = ["inet_diag", "tcp_diag", "veth", "ip_tunnel", "dummy"];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it is called in the summary.
    pub name: String,
    /// The exact version, as far as it is known before the boot.
    pub version: String,
    /// The architecture.
    pub arch: Arch,
    /// The file that is booted.
    pub image: PathBuf,
    /// The modules that tests need, unpacked.
    pub modules: Vec<PathBuf>,
    lacks: &'static [Lack],
}

impl Kernel {
    /// What tests need that is not there.
    pub fn lacks(&self) -> impl Iterator<Item = &'static Lack> {
        self.lacks.iter().chain(IN_NO_MACHINE)
    }

    /// A kernel of the user's own, whose modules nobody knows.
    pub fn of_file(path: &Path, arch: Arch) -> Self {
        Self {
            name: path.display().to_string(),
            version: "as it says when it boots".into(),
            arch,
            image: path.to_owned(),
            modules: Vec::new(),
            lacks: &[],
        }
    }
}

/// The known kernel of a release.
pub fn known(release: &str) -> Result<Known> {
    let found = KNOWN.iter().find(|known| known.release == release);
    let all: Vec<_> = KNOWN.iter().map(|known| known.release).collect();
    found.copied().with_context(|| {
        format!(
            "no kernel is known as {release:?}: there are {}; --kernel PATH takes any",
            all.join(", ")
        )
    })
}

impl Known {
    /// Fetches it into the cache. Where the index cannot be reached, one that was fetched before
    /// will do.
    pub fn fetch(&self, cache: &Path, arch: Arch) -> Result<Kernel> {
        let directory = cache.join(format!("kernel-{}-{}", self.release, arch.word()));
        let kept = directory.join("kernel");
        let fetched = self.fetch_into(&directory, &kept, arch);
        match (fetched, kept_version(&kept)) {
            (Ok(()), Some(version)) => self.kernel(&kept, version, arch),
            (Err(error), Some(version)) => {
                eprintln!(
                    "{}: the one from before is used, because: {error:#}",
                    self.release
                );
                self.kernel(&kept, version, arch)
            }
            (Err(error), None) => Err(error),
            (Ok(()), None) => anyhow::bail!("{} holds no kernel", kept.display()),
        }
    }

    fn fetch_into(&self, directory: &Path, kept: &Path, arch: Arch) -> Result<()> {
        let suites = Suites::open(directory.join("apt"), arch, self.sources)?;
        let name = format!("{}{}", self.package, arch.debian());
        // The package of that name stands for the latest kernel, which is in others.
        let parts = suites.below(&name, holds_kernel)?;
        let version = parts
            .first()
            .context("apt names no kernel")?
            .version
            .clone();
        if kept_version(kept) == Some(version.clone()) {
            return Ok(());
        }
        if kept.exists() {
            fs::remove_dir_all(kept)?;
        }
        let unpacked = directory.join("unpacked");
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        fs::create_dir_all(&unpacked)?;
        for package in suites.download(&parts)? {
            debian::unpack(&package, &unpacked)?;
        }
        fs::create_dir_all(kept)?;
        let image = find(&unpacked, &|name| name.starts_with("vmlinuz"))
            .context("the packages hold no vmlinuz")?;
        fs::copy(image, kept.join("vmlinuz"))?;
        for module in MODULES {
            keep_module(&unpacked, module, kept)?;
        }
        fs::remove_dir_all(&unpacked)?;
        fs::write(kept.join("version"), version)?;
        Ok(())
    }

    fn kernel(&self, kept: &Path, version: String, arch: Arch) -> Result<Kernel> {
        let mut modules = Vec::new();
        for entry in fs::read_dir(kept)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "ko") {
                modules.push(path);
            }
        }
        let name = match arch {
            Arch::X86_64 => self.release.to_owned(),
            Arch::Aarch64 => format!("{} arm64", self.release),
        };
        Ok(Kernel {
            name,
            version: format!("Debian {version}"),
            arch,
            image: kept.join("vmlinuz"),
            modules,
            lacks: self.lacks,
        })
    }
}

/// `linux-image-6.1.0-56-cloud-amd64` and its like, in newer suites with `linux-binary-…` and
/// `linux-modules-…` beside.
fn holds_kernel(package: &str) -> bool {
    ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .filter_map(|start| package.strip_prefix(start))
        .any(|rest| {
            rest.starts_with(|first: char| first.is_ascii_digit()) && rest.matches('.').count() > 1
        })
}

fn kept_version(kept: &Path) -> Option<String> {
    fs::read_to_string(kept.join("version")).ok()
}

/// Keeps a module, unpacked: not every kernel can do that itself.
fn keep_module(unpacked: &Path, module: &str, kept: &Path) -> Result<()> {
    let plain = format!("{module}.ko");
    let packed = format!("{module}.ko.xz");
    let Some(found) = find(unpacked, &|name| name == plain || name == packed) else {
        return Ok(());
    };
    let place = kept.join(&plain);
    fs::copy(&found, &place)?;
    if found.extension().is_some_and(|suffix| suffix == "xz") {
        let packed = kept.join(&packed);
        fs::rename(&place, &packed)?;
        process::output(
            std::process::Command::new("xz")
                .arg("--decompress")
                .arg(&packed),
        )?;
    }
    Ok(())
}

/// The first file below a directory whose name is asked for.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if let Some(found) = find(&path, wanted) {
                return Some(found);
            }
        } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_release() {
        assert_eq!(known("6.1").unwrap().release, "6.1");
        let error = known("6.2").unwrap_err().to_string();
        assert!(error.contains("5.10, 6.1, 6.12, 7.2"), "{error}");
    }

    #[test]
    fn the_packages_of_a_kernel_are_told_from_those_around_it() {
        assert!(holds_kernel("linux-image-6.1.0-56-cloud-amd64"));
        assert!(holds_kernel("linux-binary-7.2.3+deb14-cloud-amd64"));
        assert!(!holds_kernel("linux-image-cloud-amd64"));
        assert!(!holds_kernel("linux-image-6.12-cloud-amd64"));
        assert!(!holds_kernel("linux-base"));
    }
}
