//! Programs that are compiled for the tests.

use std::{fs, path::PathBuf, process::Command};

use object::{Object, ObjectSymbol};
use tempfile::TempDir;

use super::*;

/// A C program with two functions inlined into a third. `here` is an instruction of the innermost.
pub const C_PROGRAM: &str = r#"
static volatile int used;
static inline __attribute__((always_inline)) void innermost(void) {
    __asm__ volatile(".globl here\nhere: nop");
}
static inline __attribute__((always_inline)) void middle(void) {
    used++;
    innermost();
}
__attribute__((noinline)) static int outer(int number) {
    middle();
    return number + used;
}
int main(int count, char **words) {
    return outer(count) + (words == 0);
}
"#;

/// A folder with programs.
pub struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// Nothing is in it yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// The C program in `program.c`, compiled to `program` with these options.
    pub fn c_program(options: &str) -> Self {
        let fixture = Self::new();
        fixture.write("program.c", C_PROGRAM.as_bytes());
        fixture.run(&format!("gcc {options} -o program program.c"));
        fixture
    }

    /// Writes a file.
    pub fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Runs a command in the folder and returns what it says.
    pub fn run(&self, command: &str) -> String {
        self.run_words(&command.split(' ').collect::<Vec<_>>())
    }

    /// Runs a command whose words may have spaces.
    pub fn run_words(&self, words: &[&str]) -> String {
        let (program, arguments) = words.split_first().unwrap();
        let result = Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&result.stderr);
        assert!(result.status.success(), "{words:?}: {said}");
        String::from_utf8(result.stdout).unwrap()
    }

    /// The contents of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The address of a symbol.
    pub fn address(&self, name: &str, symbol: &str) -> u64 {
        let bytes = self.read(name);
        let elf = object::File::parse(&*bytes).unwrap();
        let found = elf.symbols().find(|found| found.name() == Ok(symbol));
        found.unwrap_or_else(|| panic!("no {symbol}")).address()
    }

    /// The names that a file alone gives to an address.
    pub fn name(&self, name: &str, address: u64) -> Vec<Named> {
        Symbols::new(self.read(name).into(), None, None).name(address)
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Names and lines, with a mark on what is inlined.
pub fn functions(frames: &[Named]) -> Vec<String> {
    let text = |frame: &Named| {
        let function = frame.function.as_deref().unwrap_or("?");
        let line = frame.line.map_or(String::new(), |line| format!(":{line}"));
        let mark = if frame.inlined { " inlined" } else { "" };
        format!("{function}{line}{mark}")
    };
    frames.iter().map(text).collect()
}
