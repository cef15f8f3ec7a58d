//! Programs that are compiled for the tests, with the flags that a story is about: those in
//! `tests/fixtures`. The ones in `src/bin` are built by cargo, with frame pointers.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{Fixture, installed, repository};

/// What every C and C++ program is built with: as releases are, and never with frame pointers.
const RELEASE: [&str; 5] = ["-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"];

/// A program or library, compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    path: PathBuf,
    source: PathBuf,
}

impl Compiled {
    /// A C program: `tests/fixtures/c/NAME.c`.
    pub fn c(name: &str, flags: &[&str]) -> Self {
        let mut gcc = Command::new(installed("gcc", "gcc"));
        gcc.args(RELEASE).args(flags);
        Self::build(gcc, &format!("c/{name}.c"))
    }

    /// A C program whose C library is musl.
    pub fn c_with_musl(name: &str, flags: &[&str]) -> Self {
        let mut gcc = Command::new(installed("musl-gcc", "musl-tools"));
        gcc.args(RELEASE).args(flags);
        Self::build(gcc, &format!("c/{name}.c"))
    }

    /// A C++ program: `tests/fixtures/cpp/NAME.cpp`.
    pub fn cpp(name: &str, flags: &[&str]) -> Self {
        let mut gcc = Command::new(installed("g++", "g++"));
        gcc.arg("-std=c++17").args(RELEASE).args(flags);
        Self::build(gcc, &format!("cpp/{name}.cpp"))
    }

    /// A Rust program: `tests/fixtures/rust/NAME.rs`.
    pub fn rust(name: &str, flags: &[&str]) -> Self {
        let mut rustc = Command::new(rustc());
        rustc.args(["--edition=2024", "-Copt-level=3"]);
        rustc.arg("-Cforce-frame-pointers=no").args(flags);
        Self::build(rustc, &format!("rust/{name}.rs"))
    }

    /// A Go program: `tests/fixtures/go/NAME.go`, in pure Go.
    pub fn go(name: &str, flags: &[&str]) -> Self {
        let mut go = Command::new(installed("go", "golang-go"));
        go.arg("build").args(flags);
        go.env("CGO_ENABLED", "0").env("GO111MODULE", "off");
        go.env("GOFLAGS", "").env("GOPATH", scratch().join("go"));
        go.env("GOCACHE", scratch().join("go-cache"));
        Self::build(go, &format!("go/{name}.go"))
    }

    /// Compiles a source file, once in a run of the tests, whoever asks for it.
    fn build(mut compiler: Command, source: &str) -> Self {
        type Builds = HashMap<String, Arc<OnceLock<Compiled>>>;
        static BUILDS: LazyLock<Mutex<Builds>> = LazyLock::new(Mutex::default);
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let key = format!("{compiler:?} {source}");
        let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
        let build = Arc::clone(builds.entry(key).or_default());
        // Other programs are compiled meanwhile.
        drop(builds);
        let compile = || {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let directory = run_directory().join(number.to_string());
            fs::create_dir(&directory).expect("the build directory can be written to");
            let source = repository().join("tests/fixtures").join(source);
            let path = directory.join(source.file_stem().expect("a source file has a name"));
            output_of(compiler.arg("-o").arg(&path).arg(&source));
            Self { path, source }
        };
        build.get_or_init(compile).clone()
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

/// The compiler that belongs to the cargo that runs the tests; others may be too old.
fn rustc() -> PathBuf {
    let beside_cargo = |cargo| PathBuf::from(cargo).with_file_name("rustc");
    let found = env::var_os("RUSTC").map(PathBuf::from);
    found
        .or_else(|| env::var_os("CARGO").map(beside_cargo))
        .unwrap_or_else(|| "rustc".into())
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
