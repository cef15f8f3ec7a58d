//! Packages of Debian, fetched and unpacked without root and without installing anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Arch;
use crate::process;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The label of an archive of Debian, and a suite in it.
pub type Source = (&'static str, &'static str);

/// The archive of releases.
pub const RELEASES: &str = "Debian";
/// The archive of their repairs.
pub const SECURITY: &str = "Debian-Security";

/// Debian 12.
pub const BOOKWORM: &[Source] = &[(RELEASES, "bookworm"), (SECURITY, "bookworm-security")];

/// Some suites of Debian for one architecture, with an index and a cache of their own.
pub struct Suites {
    directory: PathBuf,
    arch: Arch,
}

/// A package as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Suites {
    /// Opens them, and brings the index up to date. The archives are fetched from where this host
    /// fetches them.
    pub fn open(directory: PathBuf, arch: Arch, sources: &[Source]) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("making {}", directory.display()))?;
        }
        let mirrors = mirrors()?;
        let mut lines = String::new();
        for (label, suite) in sources {
            let mirror = mirror_of(&mirrors, label).with_context(|| {
                format!("apt fetches no archive {label:?} on this host, or was never updated")
            })?;
            lines += &format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        }
        fs::write(directory.join("sources.list"), lines)?;
        // Nothing is installed, so that everything that is needed is seen to be missing.
        fs::write(directory.join("status"), "")?;
        let suites = Self { directory, arch };
        process::output(
            suites
                .apt("apt-get")
                .args(["-q", "update", "--error-on=any"]),
        )?;
        Ok(suites)
    }

    /// These packages and everything that they depend on.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut apt = self.apt("apt-get");
        apt.args(["-q", "--simulate", "--no-install-recommends", "install"]);
        let text = process::output(apt.args(names))?;
        let packages: Vec<Package> = text.lines().filter_map(to_install).collect();
        ensure!(!packages.is_empty(), "apt names no packages for {names:?}");
        Ok(packages)
    }

    /// The packages that one depends on, and those that these depend on, as far as the suites have them
    /// and the name is one that is wanted.
    pub fn below(&self, name: &str, wanted: fn(&str) -> bool) -> Result<Vec<Package>> {
        let mut apt = self.apt("apt-cache");
        let text = process::output(apt.args(["depends", "--recurse", "--important", name]))?;
        let names = text.lines().filter(|line| wanted(line));
        names.map(|name| self.newest(name)).collect()
    }

    fn newest(&self, name: &str) -> Result<Package> {
        let mut apt = self.apt("apt-cache");
        let text = process::output(apt.args(["show", "--no-all-versions", name]))?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(Package {
            name: name.to_owned(),
            version: version.context("apt knows no version")?.to_owned(),
        })
    }

    /// Downloads packages, and returns the files in their order. What was downloaded before is not
    /// downloaded again.
    pub fn download(&self, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let archives = self.directory.join("cache/archives");
        let missing: Vec<String> = packages
            .iter()
            .filter(|package| find(&archives, package).is_none())
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        if !missing.is_empty() {
            let mut apt = self.apt("apt-get");
            apt.args(["-q", "download"]).args(missing);
            process::output(apt.current_dir(&archives))?;
        }
        let file = |package: &Package| {
            find(&archives, package).with_context(|| format!("{} is not there", package.name))
        };
        packages.iter().map(file).collect()
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        let inside = |part: &str| self.directory.join(part).display().to_string();
        let arch = self.arch.debian();
        for option in [
            format!("Dir::State={}", inside("state")),
            format!("Dir::State::status={}", inside("status")),
            format!("Dir::Cache={}", inside("cache")),
            format!("Dir::Etc::sourcelist={}", inside("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures={arch}"),
            // The directories are the user's own, not those of apt's own user.
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            apt.arg("-o").arg(option);
        }
        apt.env("LC_ALL", "C");
        apt
    }
}

/// The archives that this host's apt fetches: on each line a label, and where it is.
fn mirrors() -> Result<String> {
    let mut apt = Command::new("apt-get");
    process::output(apt.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"]))
}

fn mirror_of<'a>(mirrors: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = mirrors.lines().filter_map(|line| line.split_once(' '));
    lines.find_map(|(other, mirror)| (other == label).then_some(mirror))
}

/// A line of what apt would do: `Inst NAME (VERSION SUITE [ARCHITECTURE])`.
fn to_install(line: &str) -> Option<Package> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    Some(Package {
        name: name.to_owned(),
        version: rest.split(' ').next()?.to_owned(),
    })
}

fn find(archives: &Path, package: &Package) -> Option<PathBuf> {
    // In names of files the colon of an epoch is escaped.
    let start = format!("{}_{}_", package.name, package.version.replace(':', "%3a"));
    let entries = fs::read_dir(archives).ok()?.flatten();
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && name.ends_with(".deb")
    };
    entries.map(|entry| entry.path()).find(is_it)
}

/// Unpacks a package into a directory, without its documentation.
pub fn unpack(package: &Path, directory: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--fsys-tarfile").arg(package);
    let mut contents = unpack
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = contents.stdout.take().context("its output is piped")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "--no-same-owner", "-C"]);
    tar.arg(directory);
    for left_out in ["doc", "man", "locale", "info", "lintian"] {
        tar.arg(format!("--exclude=./usr/share/{left_out}"));
    }
    let unpacked = tar.stdin(stream).status().context("cannot start tar")?;
    let contents = contents.wait()?;
    if !unpacked.success() || !contents.success() {
        bail!("{} cannot be unpacked", package.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_found_by_its_label() {
        let mirrors = "Debian-Security http://mirror/security/\nDebian http://mirror/debian/\n";
        assert_eq!(mirror_of(mirrors, RELEASES), Some("http://mirror/debian/"));
        assert_eq!(
            mirror_of(mirrors, SECURITY),
            Some("http://mirror/security/")
        );
        assert_eq!(mirror_of("Ubuntu http://mirror/", RELEASES), None);
    }

    #[test]
    fn a_line_of_what_apt_would_do_names_a_package_and_its_version() {
        let line = "Inst libgcc-s1 (1:12.2.0-14 Debian:12.14/oldstable [amd64])";
        let package = to_install(line).unwrap();
        assert_eq!(package.name, "libgcc-s1");
        assert_eq!(package.version, "1:12.2.0-14");
        assert_eq!(to_install("Conf libgcc-s1 (1:12.2.0-14)"), None);
        assert_eq!(to_install("Reading package lists..."), None);
    }
}
