//! Programs that are compiled for the tests, with the flags that a story is about: those in
//! `tests/fixtures`, listed in `tests/src/lib.rs`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{LazyLock, OnceLock},
};

use tcpleak_tests::{BUILDS, Build, Language, Machine, WITH_LINES};

use super::{Fixture, installed, repository};

/// A program or library, compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    path: PathBuf,
    source: PathBuf,
}

impl Compiled {
    /// A C program: `tests/fixtures/c/NAME.c`.
    #[track_caller]
    pub fn c(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::C, name, flags)
    }

    /// A C program whose C library is musl.
    #[track_caller]
    pub fn c_with_musl(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::CWithMusl, name, flags)
    }

    /// A C++ program: `tests/fixtures/cpp/NAME.cpp`.
    #[track_caller]
    pub fn cpp(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::Cpp, name, flags)
    }

    /// A Rust program: `tests/fixtures/rust/NAME.rs`.
    #[track_caller]
    pub fn rust(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::Rust, name, flags)
    }

    /// A Go program: `tests/fixtures/go/NAME.go`, in pure Go.
    #[track_caller]
    pub fn go(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::Go, name, flags)
    }

    /// The tests of a Rust program: `tests/fixtures/rust/NAME.rs`.
    #[track_caller]
    pub fn rust_tests(name: &str) -> Self {
        Self::build(Language::RustTests, name, WITH_LINES)
    }

    /// The tests of a Go program: `tests/fixtures/go/NAME.go`.
    #[track_caller]
    pub fn go_tests(name: &str) -> Self {
        Self::build(Language::GoTests, name, &[])
    }

    /// A Java program: `tests/fixtures/java/NAME.java`.
    #[track_caller]
    pub fn java(name: &str, flags: &[&str]) -> Self {
        Self::build(Language::Java, name, flags)
    }

    #[track_caller]
    fn build(language: Language, name: &str, flags: &[&str]) -> Self {
        let build = Build::listed(language, name, flags).unwrap_or_else(|error| panic!("{error}"));
        let path = match env::var_os("TCPLEAK_COMPILED") {
            Some(store) => build.place(Path::new(&store)),
            None => compile_once(build),
        };
        assert!(path.is_file(), "there is no {}", path.display());
        let source = repository().join("tests/fixtures").join(build.source());
        Self { path, source }
    }

    /// The compiled file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the compiled file, as reports and arguments have it.
    pub fn path_text(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }

    /// Puts the debug information into a file of its own, as distributions do, and the program
    /// without it beside. Returns the paths of the program and of the debug information.
    pub fn set_apart(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let stripped = directory.join("stripped");
        let debug = directory.join("apart.debug");
        let objcopy = || Command::new(installed("objcopy", "binutils"));
        let mut take = objcopy();
        output_of(take.arg("--only-keep-debug").args([&self.path, &debug]));
        let mut link = OsString::from("--add-gnu-debuglink=");
        link.push(&debug);
        let mut strip = objcopy();
        output_of(
            strip
                .arg("--strip-all")
                .arg(link)
                .args([&self.path, &stripped]),
        );
        (stripped, debug)
    }

    /// Starts it.
    pub fn start(&self, arguments: &[&str]) -> Fixture {
        Fixture::start_program(Command::new(&self.path).args(arguments))
    }

    /// The number of the only line of its source that holds this text.
    #[track_caller]
    pub fn line_of(&self, text: &str) -> u64 {
        let source = fs::read_to_string(&self.source).expect("the source was compiled");
        let lines = (1..).zip(source.lines());
        let mut found = lines.filter(|(_, line)| line.contains(text));
        let first = found.next();
        assert_eq!(found.next(), None, "more than one line has {text:?}");
        let Some((number, _)) = first else {
            panic!("no line of {} has {text:?}", self.source.display());
        };
        number
    }

    /// The function at an address of the file, by its symbols.
    pub fn function_at(&self, address: u64) -> Option<String> {
        let mut nm = Command::new(installed("nm", "binutils"));
        let symbols = output_of(nm.args(["--print-size", "--defined-only"]).arg(&self.path));
        let mut functions = symbols.lines().filter_map(|line| {
            // Symbols without a size have one word less.
            let [start, size, _, name] = *line.split(' ').collect::<Vec<_>>() else {
                return None;
            };
            let start = u64::from_str_radix(start, 16).ok()?;
            let size = u64::from_str_radix(size, 16).ok()?;
            let holds = (start..start + size).contains(&address);
            holds.then(|| name.to_owned())
        });
        functions.next()
    }
}

/// Compiles a program, once in a run of the tests, whoever asks for it.
fn compile_once(build: &'static Build) -> PathBuf {
    static DONE: [OnceLock<()>; BUILDS.len()] = [const { OnceLock::new() }; BUILDS.len()];
    let number = BUILDS.iter().position(|other| other == build);
    DONE[number.expect("a build that is listed has a number")].get_or_init(|| {
        let compiled = build.compile(Machine::Host, run_directory(), scratch());
        compiled.unwrap_or_else(|error| panic!("{error:#}"));
    });
    build.place(run_directory())
}

/// Runs a command to its end and returns what it wrote to standard output; fails unless the command
/// succeeds.
#[track_caller]
pub fn output_of(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A directory that the build leaves to the tests.
fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Where this run compiles to. What runs that are over have left is removed.
fn run_directory() -> &'static Path {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        let runs = scratch().join("compiled");
        fs::create_dir_all(&runs).expect("the build directory can be written to");
        let this = runs.join(process::id().to_string());
        for run in fs::read_dir(&runs).expect("it is a directory").flatten() {
            let is_over = !Path::new("/proc").join(run.file_name()).exists();
            if is_over || run.path() == this {
                // Another run may be removing it too.
                let _ = fs::remove_dir_all(run.path());
            }
        }
        fs::create_dir(&this).expect("the build directory can be written to");
        this
    });
    &DIRECTORY
}
