//! Stacks that a signal handler is on.

use super::{super::End, *};

const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#define FUNCTION __attribute__((noinline, noclone))
volatile int deep = 3;
FUNCTION int wait_here(void) { pause(); return deep; }
void handler(int signal) { printf("%d\n", getpid()); fflush(stdout); deep = wait_here(); _exit(signal); }
#ifdef __x86_64__
#define UNDEFINED "ud2"
__asm__(".text; .type restorer, @function; restorer: mov $15, %eax; syscall; .size restorer, .-restorer");
#else
#define UNDEFINED "udf #0"
#endif
void restorer(void);
FUNCTION int interrupted(int n) { volatile char room[n * 10]; room[2] = 1; __asm__ volatile(UNDEFINED); return room[2] + deep; }
FUNCTION int outer(int n) { int i = interrupted(n + deep) * deep; return i + deep; }
int main(void) {
#ifdef BARE
    struct { void (*handler)(int); long flags; void (*restorer)(void); long mask; }
        action = {handler, 0x04000000, restorer, 0};
    syscall(SYS_rt_sigaction, SIGILL, &action, NULL, 8);
#else
    struct sigaction action = {.sa_handler = handler};
#ifdef ALTERNATE
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    action.sa_flags = SA_ONSTACK;
#endif
    sigaction(SIGILL, &action, NULL);
#endif
    int i = outer(deep);
    return i + deep;
}
"#;

/// The stack of the handler: names of the functions, and those that were interrupted.
fn handler(options: &str) -> (Vec<String>, Vec<String>, End) {
    let fixture = fixture(&[("signal.c", PROGRAM)]);
    let compile = format!("gcc -O2 -fomit-frame-pointer {options}");
    build(&fixture, &format!("{compile} signal.c -o signal"));
    let (program, stopped) = Program::stopped(&fixture, "signal");
    let mut space = program.address_space(&stopped.mappings);
    let mut unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let names = program.names(&stopped, &unwound);
    let end = unwound.end;
    unwound.frames.remove(0);
    unwound.frames.retain(|frame| !frame.is_return);
    (names, program.names(&stopped, &unwound), end)
}

const OUTER: [&str; 4] = ["interrupted", "outer", "main", "_start"];

#[test]
fn a_signal_handler_is_followed_into_the_code_it_interrupted() {
    let (names, interrupted, end) = handler("");
    assert_eq!(names[..2], ["wait_here", "handler"]);
    assert_eq!(names[2..], OUTER);
    assert_eq!(interrupted, ["interrupted"]);
    assert_eq!(end, End::Root);
}

#[test]
fn a_signal_handler_with_frame_pointers_is_followed_into_the_code_it_interrupted() {
    let (names, _, end) = handler("-fno-omit-frame-pointer");
    assert_eq!(names[2..], OUTER);
    assert_eq!(end, End::Root);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_signal_trampoline_without_unwind_information_is_told_by_its_code() {
    let (names, interrupted, end) = handler("-DBARE");
    assert_eq!(names[..3], ["wait_here", "handler", "restorer"]);
    assert_eq!(names[3..], OUTER);
    assert_eq!(interrupted, ["restorer", "interrupted"]);
    assert_eq!(end, End::Root);
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own_is_followed_to_what_it_interrupted() {
    let (names, interrupted, end) = handler("-DALTERNATE");
    assert_eq!(names, ["wait_here", "handler", "interrupted"]);
    assert_eq!(interrupted, ["interrupted"]);
    assert_eq!(end, End::Lost);
}
