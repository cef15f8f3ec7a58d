//! Go programs: Go itself says what its frames are.

use object::{Object, ObjectSegment};

use super::*;

/// Prints where it is loaded, and for each return address on its stack what Go takes it for.
const GO_PROGRAM: &str = r#"package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
)

func innermost() {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(2, pcs)]
	for _, pc := range pcs {
		fmt.Printf("pc %x\n", pc)
		frames := runtime.CallersFrames([]uintptr{pc})
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			fmt.Println("frame", frame.Function, frame.File, frame.Line)
		}
	}
}

func inlinedTwice(n int) int { return inlinedOnce(n) + 1 }

func inlinedOnce(n int) int {
	capture()
	return n * 2
}

//go:noinline
func capture() {
	innermost()
}

type byLength []string

func (b byLength) Len() int           { return len(b) }
func (b byLength) Less(i, j int) bool { inlinedTwice(i); return len(b[i]) < len(b[j]) }
func (b byLength) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }

func main() {
	maps, _ := os.ReadFile("/proc/self/maps")
	for _, line := range strings.Split(string(maps), "\n") {
		if strings.HasSuffix(line, "/program") {
			fmt.Println("start", strings.Split(line, "-")[0])
		}
	}
	done := make(chan bool)
	go func() {
		sort.Sort(byLength{"one", "three"})
		done <- true
	}()
	<-done
}
"#;

/// Compiles the program, runs it, and compares what Go says with what the file tells.
fn check(options: &[&str]) -> Vec<String> {
    let program = Fixture::new();
    program.write("program.go", GO_PROGRAM.as_bytes());
    program.run_words(&[&["go", "build"], options, &["program.go"]].concat());
    let bytes = program.read("program");
    let elf = object::File::parse(&*bytes).unwrap();
    let lowest = elf
        .segments()
        .map(|segment| segment.address())
        .min()
        .unwrap();
    let symbols = Symbols::new(bytes.clone().into(), None, None);
    let said = program.run(program.path("program").to_str().unwrap());
    let start = said.lines().find_map(|line| line.strip_prefix("start "));
    let start = u64::from_str_radix(start.unwrap(), 16).unwrap();
    // Go lists inlined functions like any other, with addresses that lie in the caller as well.
    let (addresses, expected) = told(&said);
    let mut functions = Vec::new();
    while let Some(address) = addresses.get(functions.len()) {
        let found = symbols.name(address - 1 - start + lowest);
        let inlined: Vec<bool> = found.iter().map(|frame| frame.inlined).collect();
        let outermost = inlined.iter().position(|inlined| !inlined);
        assert_eq!(outermost.map(|last| last + 1), Some(found.len()));
        for frame in &found {
            assert_eq!(text(frame), expected[functions.len()], "{options:?}");
            functions.extend(frame.function.clone());
        }
    }
    assert_eq!(functions.len(), expected.len());
    functions
}

/// The frames that Go lists, each with the return address that it belongs to.
fn told(said: &str) -> (Vec<u64>, Vec<&str>) {
    let mut frames = Vec::new();
    for part in said.split("pc ").skip(1) {
        let mut lines = part.lines();
        let address = u64::from_str_radix(lines.next().unwrap(), 16).unwrap();
        frames.extend(lines.map(|line| (address, &line["frame ".len()..])));
    }
    frames.into_iter().unzip()
}

fn text(frame: &Named) -> String {
    // The linker's symbol tells the calling convention besides.
    let function = frame.function.as_deref().unwrap();
    let function = function.strip_suffix(".abi0").unwrap_or(function);
    let file = frame.file.as_deref().unwrap();
    format!("{function} {file} {}", frame.line.unwrap())
}

/// What must be among the frames, so that the comparison compares what it should.
fn assert_told(functions: &[String]) {
    let functions = functions.join(" ");
    let expected = "main.capture main.inlinedOnce main.inlinedTwice main.byLength.Less ";
    assert!(functions.starts_with(expected), "{functions}");
    assert!(
        functions.contains("sort.Sort main.main.func1 runtime.goexit"),
        "{functions}"
    );
}

#[test]
fn a_go_program_is_named_by_its_debug_information() {
    assert_told(&check(&[]));
}

#[test]
fn a_stripped_go_program_is_named_by_its_line_table() {
    assert_told(&check(&["-ldflags=-s -w"]));
}

#[test]
fn a_go_program_with_symbols_alone_has_lines_all_the_same() {
    assert_told(&check(&["-ldflags=-w"]));
}

#[test]
fn a_stripped_go_program_that_is_loaded_anywhere_is_named_by_its_line_table() {
    assert_told(&check(&["-buildmode=pie", "-ldflags=-s -w"]));
}

#[test]
fn a_stripped_go_program_that_another_linker_made_is_named_by_its_line_table() {
    let options = ["-buildmode=pie", "-ldflags=-linkmode=external -s -w"];
    assert_told(&check(&options));
}

#[test]
fn a_go_program_without_any_section_is_named_by_its_line_table() {
    let program = Fixture::new();
    program.write("program.go", GO_PROGRAM.as_bytes());
    program.run("go build program.go");
    let here = program.address("program", "main.capture");
    let mut bytes = program.read("program");
    // Place and number of the section headers.
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    let frames = Symbols::new(bytes.into(), None, None).name(here);
    assert_eq!(functions(&frames), ["main.capture:33"]);
}
