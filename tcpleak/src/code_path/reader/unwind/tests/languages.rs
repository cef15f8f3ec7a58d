//! Programs of languages that go about it in their own way.

use super::{super::End, *};

/// A goroutine on a thread of its own waits in a system call.
const GO: &str = r#"
package main

import (
	"fmt"
	"runtime"
	"syscall"
)

//go:noinline
func inner(room []byte) int {
	count, _ := syscall.Read(0, room)
	return count + len(room)
}

//go:noinline
func outer() int {
	var room [300]byte
	return inner(room[:]) + int(room[7])
}

func work(done chan int) {
	runtime.LockOSThread()
	fmt.Println(syscall.Gettid())
	done <- outer()
}

func main() {
	done := make(chan int)
	go work(done)
	fmt.Println(<-done)
}
"#;

/// The stack of the goroutine in a program built with these options, and its names.
fn goroutine(options: &str) -> (Vec<String>, super::super::Unwound) {
    let fixture = fixture(&[("main.go", GO), ("go.mod", "module waiting\n")]);
    build(&fixture, "go build -o whole main.go");
    build(
        &fixture,
        &format!("go build {options} -o looked-at main.go"),
    );
    let (mut program, stopped) = Program::stopped(&fixture, "looked-at");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let mut stopped = stopped;
    // Both have the same code at the same addresses; only one has names.
    program.path = fixture.path("whole");
    for mapping in &mut stopped.mappings {
        mapping.path = mapping.path.replace("looked-at", "whole");
    }
    (program.names(&stopped, &unwound), unwound)
}

const OUTER: [&str; 5] = [
    "main.inner",
    "main.outer",
    "main.work",
    "main.main.func1",
    "runtime.goexit.abi0",
];

fn outer(names: &[String]) -> &[String] {
    &names[names.len().saturating_sub(OUTER.len())..]
}

#[test]
fn a_goroutine_is_followed_by_packed_debugging_information() {
    let (names, unwound) = goroutine("");
    assert_eq!(outer(&names), OUTER, "{names:?}");
    // Newer versions of Go say that nothing calls the outermost function.
    let ends = [End::Root, End::Unproven];
    assert!(ends.contains(&unwound.end), "{unwound:x?}");
    assert!(!unwound.guessed);
}

#[test]
fn a_goroutine_of_a_stripped_program_is_followed_by_its_line_table() {
    let (whole, _) = goroutine("");
    let (names, unwound) = goroutine("-ldflags=-s");
    assert_eq!(outer(&names), OUTER, "{names:?}");
    assert_eq!(names, whole);
    assert_eq!(unwound.end, End::Root, "{names:?}");
    assert!(!unwound.guessed);
}
