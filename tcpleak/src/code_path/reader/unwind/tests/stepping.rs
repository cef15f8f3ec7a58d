//! A thread followed instruction by instruction.

use object::{Object, ObjectSymbol};

use super::{
    super::{End, RawFrame},
    programs::{find, map, trace, wait_for},
    *,
};

/// `outer` calls into the C library through stubs that are bound when they are first used, and
/// into the vDSO: into a part of it that does not begin again when the clock ticks meanwhile.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#define FUNCTION __attribute__((noinline, noclone))
volatile long deep = 3;
FUNCTION void finish(void) { deep++; }
FUNCTION long middle(long n) {
    struct timespec now;
    volatile char room[n * 100];
    clock_getres(CLOCK_MONOTONIC, &now);
    room[2] = now.tv_nsec;
    return getppid() + room[2];
}
FUNCTION void outer(char *room) {
    read(0, room, 3);
    deep += middle(2);
    deep += middle(2);
    finish();
    deep++;
}
int main(void) {
    char room[100];
    printf("%d\n", getpid()); fflush(stdout);
    outer(room);
    return deep;
}
"#;

const STEPS: usize = 20_000;

/// The addresses of a function of a program at a fixed address.
fn function(program: &Program, name: &str) -> std::ops::Range<u64> {
    let bytes = map(&program.path);
    let file = object::File::parse(&*bytes).unwrap();
    let symbol = file.symbol_by_name(name).unwrap();
    symbol.address()..symbol.address() + symbol.size()
}

#[test]
fn every_instruction_of_a_call_through_stubs_and_the_vdso_is_followed_to_the_start() {
    let fixture = fixture(&[("steps.c", PROGRAM)]);
    let compile = "gcc -O2 -fomit-frame-pointer -no-pie -fcf-protection=none -Wl,-z,lazy";
    build(&fixture, &format!("{compile} steps.c -o steps"));
    let (mut program, stopped) = Program::stopped(&fixture, "steps");
    let thread = program.id();
    let bytes = map(&program.path);
    let (plt, size) = super::layouts::section(&bytes, ".plt");
    let code = find(&stopped.mappings, function(&program, "outer").start).unwrap();
    let stubs = plt as u64 - code.offset + code.start;
    let stubs = stubs..stubs + size as u64;
    let (outer, finish) = (function(&program, "outer"), function(&program, "finish"));
    let mut space = program.address_space(&stopped.mappings);
    let mut unwind = |stopped: &Stopped| space.unwind(stopped.registers, &stopped.stack, &mut ());
    let start = unwind(&stopped).frames;
    let in_outer = |frame: &RawFrame| outer.contains(&frame.instruction());
    let behind = start.iter().position(in_outer).unwrap() + 1;
    let callers_of_outer = &start[behind..];

    program.feed();
    let (mut in_stubs, mut in_vdso, mut steps) = (0, 0, 0);
    loop {
        trace(libc::PTRACE_SINGLESTEP, thread, 0);
        wait_for(thread);
        let now = program.look(thread);
        let pc = now.registers.pc;
        if finish.contains(&pc) {
            break;
        }
        steps += 1;
        assert!(steps < STEPS);
        let path = &find(&now.mappings, pc).unwrap().path;
        // What binds a stub keeps its frame in a register that is not followed.
        if path.contains("/ld-linux") {
            continue;
        }
        in_stubs += usize::from(stubs.contains(&pc));
        in_vdso += usize::from(path == "[vdso]");
        let unwound = unwind(&now);
        let frames = unwound.frames.strip_suffix(callers_of_outer);
        let last = frames.and_then(<[_]>::last);
        assert!(last.is_some_and(in_outer), "{path} {pc:x}: {unwound:x?}");
        assert_eq!(unwound.end, End::Root, "{path} {pc:x}");
    }
    assert!(in_stubs >= 6, "{in_stubs} of {steps}");
    assert!(in_vdso >= 10, "{in_vdso} of {steps}");
}
