//! The tools, and the files.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a tool said.
#[derive(Debug)]
pub struct Said {
    /// Whether it was content.
    pub content: bool,
    /// Standard output and standard error.
    pub words: String,
}

/// Runs a tool to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let words = [output.stdout, output.stderr].concat();
    Said {
        content: output.status.success(),
        words: String::from_utf8_lossy(&words).into_owned(),
    }
}

/// A tool of the distribution.
#[track_caller]
pub fn installed(program: &str, package: &str) -> Command {
    let program = tcpleak_tests::installed(program, package);
    Command::new(program.unwrap_or_else(|error| panic!("{error}")))
}

/// A program of the Python environment that `.ci/deploy-tools` makes.
#[track_caller]
pub fn deploy_tool(program: &str) -> Command {
    let directory = env::var_os("TCPLEAK_TEST_DEPLOY_TOOLS").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| repository().join("target/deploy-tools"));
    let program = directory.join("bin").join(program);
    assert!(
        program.is_file(),
        "there is no {}: run `.ci/deploy-tools target/deploy-tools`",
        program.display()
    );
    Command::new(program)
}

/// The options of `tcpleak serve`.
#[track_caller]
pub fn options_of_serve() -> BTreeSet<String> {
    let this = env::current_exe().expect("the test knows its own path");
    let profile = this
        .ancestors()
        .nth(2)
        .expect("the test lies two directories deep");
    let program = env::var_os("TCPLEAK_BIN").map_or_else(|| profile.join("tcpleak"), PathBuf::from);
    assert!(
        program.is_file(),
        "there is no {}: build it, or name it in TCPLEAK_BIN",
        program.display()
    );
    let help = run(Command::new(program).args(["serve", "--help"]));
    assert!(help.content, "{help:?}");
    options(&help.words)
}

/// The words of a text that look like long options.
pub fn options(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_lowercase() || character == '-';
    text.split(|character| !is_part(character))
        .filter(|word| word.len() > 3 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    repository().join(path)
}

/// What is in a file of the repository.
#[track_caller]
pub fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Makes a temporary file whose name ends so.
pub fn temporary(text: &str, suffix: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(suffix).tempfile();
    let file = file.expect("there is a directory for temporary files");
    fs::write(file.path(), text).expect("the file is ours");
    file
}

/// The directory of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the repository")
}
