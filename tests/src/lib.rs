//! The programs that the tests compile from `tests/fixtures`, with the flags that a story is about.
//! The ones in `src/bin` are built by cargo, with frame pointers.
//!
//! All are listed here, so that they can be compiled in one place and run in another: a virtual
//! machine has no compilers.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// What a program is written in, and what compiles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C by gcc.
    C,
    /// C by gcc, with the C library musl.
    CWithMusl,
    /// C++ by g++.
    Cpp,
    /// Rust by the rustc of the cargo that runs.
    Rust,
    /// The same, as its tests.
    RustTests,
    /// Pure Go.
    Go,
    /// The same, as its tests.
    GoTests,
    /// Java, for version 11 and later.
    Java,
}

/// A program or library, and how it is compiled.
#[derive(Debug, PartialEq, Eq)]
pub struct Build {
    language: Language,
    name: &'static str,
    flags: &'static [&'static str],
}

/// The machine that programs are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// This one.
    Host,
    /// One with 64-bit ARM, by Debian's cross compilers.
    Aarch64,
}

/// Everything that the tests compile.
pub const BUILDS: &[Build] = &[
    c("asks", &["-g"]),
    c("calls_back", &["-g", "-Wl,-z,now"]),
    c("first_plugin", &["-g", "-shared", "-fPIC"]),
    c("first_plugin", &["-s", "-shared", "-fPIC"]),
    c("forgets", &[]),
    c("forgets", &["-g"]),
    c("forgets", &["-g", "-no-pie", "-fno-pie"]),
    c("forgets", &["-g", "-static"]),
    c("forgets", &["-g", "-static-pie"]),
    c("forgets", &["-no-pie", "-fno-pie"]),
    c("forgets", &["-s"]),
    c("forgets", &["-static"]),
    c("forgets", &["-static", "-s"]),
    c("forgets", IN_OWN_ROOT),
    c("handlers", &["-g", "-pthread"]),
    c("handles_signal", &["-g"]),
    c("handles_signal", &["-s"]),
    c("large_buffer", UNTOUCHED),
    c("library", &["-g", "-shared", "-fPIC"]),
    c("loads_plugins", &[]),
    c("loads_plugins", &["-g"]),
    c("makes_code", &["-g"]),
    c("replaces_itself", &["-g"]),
    c("second_plugin", &["-g", "-shared", "-fPIC"]),
    c("two_ways", &["-g", "-pthread"]),
    of(Language::CWithMusl, "forgets", &["-static"]),
    of(Language::Cpp, "forgets", &[]),
    of(Language::Cpp, "forgets", &["-g"]),
    of(Language::Rust, "forgets", &["-Cdebuginfo=line-tables-only"]),
    of(Language::Rust, "forgets", &["-Cdebuginfo=none"]),
    of(Language::Go, "forgets", &[]),
    of(Language::Go, "forgets", STRIPPED),
    of(Language::Go, "forgets", &["-ldflags=-s -w"]),
    of(Language::RustTests, "forgets_test", WITH_LINES),
    of(Language::GoTests, "forgets_test", &[]),
    of(Language::Java, "Crawler", WITH_HTTP_CLIENT),
    of(Language::Java, "Forgets", &[]),
    of(Language::Go, "requests", &[]),
    of(Language::Go, "requests", STRIPPED),
];

/// For a program in C that touches no part of its stack before it uses it.
pub const UNTOUCHED: &[&str] = &["-g", "-pthread", "-fno-stack-clash-protection"];

/// For tests in Rust, as cargo builds them.
pub const WITH_LINES: &[&str] = &["-Cdebuginfo=line-tables-only"];

/// For a program in Go that is stripped of its symbols.
pub const STRIPPED: &[&str] = &["-buildmode=pie", "-ldflags=-s -w"];

/// For a program that uses commons-httpclient, as in Debian's libcommons-httpclient-java.
pub const WITH_HTTP_CLIENT: &[&str] = &["-cp", "/usr/share/java/commons-httpclient.jar"];

/// For a root that has its C library and its loader in another place than the host.
pub const IN_OWN_ROOT: &[&str] = &[
    "-g",
    "-Wl,-rpath,/only/here",
    "-Wl,--dynamic-linker=/only/here/loader",
];

/// What every C and C++ program is built with: as releases are, and never with frame pointers.
const RELEASE: [&str; 5] = ["-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"];

/// Newer distributions build all for processors that sign return addresses; others do nothing there. The
/// program that perf is compared with goes without: perf does not follow signed ones everywhere.
const SIGNED: &str = "-mbranch-protection=standard";
const NOT_SIGNED: &str = "forgets";

const CROSS_GCC: &str = "aarch64-linux-gnu-gcc";

/// Names the directory `usr` of the unpacked package `musl-dev` for 64-bit ARM.
const CROSS_MUSL: &str = "TCPLEAK_CROSS_MUSL";

const fn c(name: &'static str, flags: &'static [&'static str]) -> Build {
    of(Language::C, name, flags)
}

const fn of(language: Language, name: &'static str, flags: &'static [&'static str]) -> Build {
    Build {
        language,
        name,
        flags,
    }
}

impl Build {
    /// The build of this source with these flags; fails when it is not listed.
    pub fn listed(language: Language, name: &str, flags: &[&str]) -> Result<&'static Self> {
        let is_it = |build: &&Self| {
            build.language == language && build.name == name && build.flags == flags
        };
        BUILDS.iter().find(is_it).with_context(|| {
            format!("{language:?} {name} {flags:?} is not among the BUILDS in tests/src/lib.rs")
        })
    }

    /// Path of the source file below `tests/fixtures`.
    pub fn source(&self) -> String {
        let (directory, suffix) = match self.language {
            Language::C | Language::CWithMusl => ("c", "c"),
            Language::Cpp => ("cpp", "cpp"),
            Language::Rust | Language::RustTests => ("rust", "rs"),
            Language::Go | Language::GoTests => ("go", "go"),
            Language::Java => ("java", "java"),
        };
        format!("{directory}/{}.{suffix}", self.name)
    }

    /// Where the compiled file lies in a store. Java has its other classes beside it.
    pub fn place(&self, store: &Path) -> PathBuf {
        let number = BUILDS.iter().position(|build| build == self);
        let directory = number.map_or_else(String::new, |number| number.to_string());
        let place = store.join(directory).join(self.name);
        match self.language {
            Language::Java => place.with_extension("class"),
            _ => place,
        }
    }

    /// Compiles it into a store. Go keeps its caches in `scratch`.
    pub fn compile(&self, machine: Machine, store: &Path, scratch: &Path) -> Result<()> {
        let place = self.place(store);
        let directory = place.parent().context("a place lies in a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut compiler = self.compiler(machine, scratch)?;
        if self.language == Language::CWithMusl && machine == Machine::Aarch64 {
            use_cross_musl(&mut compiler, directory)?;
        }
        compiler.args(self.flags);
        match self.language {
            Language::Java => compiler.arg("-d").arg(directory),
            _ => compiler.arg("-o").arg(&place),
        };
        compiler.arg(fixtures.join(self.source()));
        let output = compiler.output();
        let output = output.with_context(|| format!("cannot run {compiler:?}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{compiler:?} failed: {errors}");
        Ok(())
    }

    fn compiler(&self, machine: Machine, scratch: &Path) -> Result<Command> {
        let mut compiler = Command::new(match (self.language, machine) {
            (Language::C, Machine::Host) => installed("gcc", "gcc")?,
            (Language::C | Language::CWithMusl, Machine::Aarch64) => {
                installed(CROSS_GCC, "gcc-aarch64-linux-gnu")?
            }
            (Language::CWithMusl, Machine::Host) => installed("musl-gcc", "musl-tools")?,
            (Language::Cpp, Machine::Host) => installed("g++", "g++")?,
            (Language::Cpp, Machine::Aarch64) => {
                installed("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")?
            }
            (Language::Rust | Language::RustTests, _) => rustc(),
            (Language::Go | Language::GoTests, _) => installed("go", "golang-go")?,
            (Language::Java, _) => installed("javac", "openjdk-17-jdk-headless")?,
        });
        if machine == Machine::Aarch64 {
            match self.language {
                Language::Rust | Language::RustTests => compiler
                    .args(["--target", "aarch64-unknown-linux-gnu"])
                    .arg(format!("-Clinker={CROSS_GCC}")),
                Language::Java => &mut compiler,
                Language::Go | Language::GoTests => compiler.env("GOARCH", "arm64"),
                _ if self.name == NOT_SIGNED => &mut compiler,
                Language::C | Language::CWithMusl | Language::Cpp => compiler.arg(SIGNED),
            };
        }
        match self.language {
            Language::C | Language::CWithMusl => compiler.args(RELEASE),
            Language::Cpp => compiler.arg("-std=c++17").args(RELEASE),
            Language::Rust => compiler.args([
                "--edition=2024",
                "-Copt-level=3",
                "-Cforce-frame-pointers=no",
            ]),
            Language::RustTests => compiler.args(["--edition=2024", "--test"]),
            Language::Go | Language::GoTests => compiler
                .args(match self.language {
                    Language::GoTests => &["test", "-c"][..],
                    _ => &["build"],
                })
                .env("CGO_ENABLED", "0")
                .env("GO111MODULE", "off")
                .env("GOFLAGS", "")
                .env("GOPATH", scratch.join("go"))
                .env("GOCACHE", scratch.join("go-cache")),
            Language::Java => {
                compiler.args(["--release", "11", "-Xlint:all,-path,-serial", "-Werror"])
            }
        };
        Ok(compiler)
    }
}

/// Has the cross compiler take musl's headers, library and start code in place of its own C library's, as
/// `musl-gcc` does with the compiler of the host.
fn use_cross_musl(compiler: &mut Command, directory: &Path) -> Result<()> {
    let musl = env::var_os(CROSS_MUSL).map(PathBuf::from);
    let musl = musl.with_context(|| format!("{CROSS_MUSL} does not tell where musl-dev is"))?;
    let libraries = musl.join("lib/aarch64-linux-musl");
    let start = ["crt1.o", "crti.o"].map(|name| libraries.join(name).display().to_string());
    let end = libraries.join("crtn.o");
    let specs = directory.join("specs");
    let text = format!(
        "*startfile:\n{}\n\n*endfile:\n{}\n\n",
        start.join(" "),
        end.display()
    );
    fs::write(&specs, text).with_context(|| format!("writing {}", specs.display()))?;
    compiler.arg("-specs").arg(specs);
    compiler.arg("-nostdinc").arg("-isystem");
    compiler.arg(musl.join("include/aarch64-linux-musl"));
    compiler.arg("-L").arg(libraries);
    Ok(())
}

/// The path of a program of the distribution, and where none is installed, an error that names its
/// package. Those of Debian go before others of the same name.
pub fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = ["/usr/bin", "/usr/sbin"].map(PathBuf::from);
    let found = debian
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file());
    found.with_context(|| format!("this takes the real {program}: apt-get install {package}"))
}

/// The compiler that belongs to the cargo that runs the tests; others may be too old.
fn rustc() -> PathBuf {
    let beside_cargo = |cargo| PathBuf::from(cargo).with_file_name("rustc");
    let found = env::var_os("RUSTC").map(PathBuf::from);
    found
        .or_else(|| env::var_os("CARGO").map(beside_cargo))
        .unwrap_or_else(|| "rustc".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_has_its_source_and_is_listed_once() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        for (number, build) in BUILDS.iter().enumerate() {
            assert!(fixtures.join(build.source()).is_file(), "{build:?}");
            let first = BUILDS.iter().position(|other| other == build);
            assert_eq!(first, Some(number), "{build:?} is listed twice");
        }
    }

    #[test]
    fn what_is_not_listed_is_not_built() {
        let error = Build::listed(Language::C, "forgets", &["-O0"]).unwrap_err();
        assert!(error.to_string().contains("BUILDS"), "{error}");
    }
}
