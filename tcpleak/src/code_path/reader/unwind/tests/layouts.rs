//! Programs of every layout that compilers and linkers make.

use super::{super::End, *};

/// `main` calls `outer`, which calls `middle`, which calls `inner`, which waits.
pub const CHAIN: &str = r#"
#include <stdio.h>
#include <unistd.h>
#ifndef ROOM
#define ROOM 200
#endif
#define FUNCTION __attribute__((noinline, noclone))
volatile int deep = 3;
FUNCTION int inner(int n) { volatile char room[ROOM]; room[n] = 1; pause(); return room[n] + deep; }
FUNCTION int middle(int n) { int i = inner(n + deep) * deep; return i + deep; }
FUNCTION int outer(int n) { volatile char room[n * 100]; room[1] = 2; int i = middle(n); return i + room[1]; }
#ifdef LIBRARY
int start(void) { int i = outer(deep); return i + deep; }
#else
int main(void) { printf("%d\n", getpid()); fflush(stdout); int i = outer(deep); return i + deep; }
#endif
"#;

/// A program that finds `start` by its name at run time.
const LOADER: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    void *library = dlopen("./libchain.so", RTLD_NOW);
    int (*start)(void) = library ? dlsym(library, "start") : NULL;
    printf("%d\n", start ? getpid() : 0); fflush(stdout);
    int i = start();
    return i + 1;
}
"#;

const EXPECTED: [&str; 5] = ["inner", "middle", "outer", "main", "_start"];
const COMPILE: &str = "gcc -O2 -fomit-frame-pointer";

/// The chain, found whole and proven to be so.
fn assert_chain(compile: &str) {
    assert_changed_chain(compile, |_| ());
}

fn assert_changed_chain(compile: &str, change: impl Fn(&mut Vec<u8>)) {
    let fixture = fixture(&[("chain.c", CHAIN)]);
    build(&fixture, &format!("{compile} chain.c -o chain"));
    let (program, stopped) = Program::stopped(&fixture, "chain");
    let mut space = program.address_space_with(&stopped.mappings, change);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let mut names = program.names(&stopped, &unwound);
    // The C library is a part of a static program.
    names.retain(|name| EXPECTED.contains(&name.as_str()));
    assert_eq!(names, EXPECTED, "{unwound:x?}");
    assert_eq!(unwound.end, End::Root, "{unwound:x?}");
    assert!(!unwound.frames[0].is_return);
    assert!(unwound.frames[1..].iter().all(|frame| frame.is_return));
}

#[test]
fn a_program_without_frame_pointers_is_followed_to_its_start() {
    assert_chain(COMPILE);
}

#[test]
fn a_program_at_a_fixed_address_is_followed_to_its_start() {
    assert_chain(&format!("{COMPILE} -no-pie"));
}

#[test]
fn a_program_whose_own_addresses_are_large_is_followed_to_its_start() {
    assert_chain(&format!("{COMPILE} -pie -Wl,-Ttext-segment=0x700000000000"));
}

#[test]
fn a_static_program_is_followed_to_its_start() {
    assert_chain(&format!("{COMPILE} -static"));
    assert_chain(&format!("{COMPILE} -static-pie"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_c_library_without_any_unwind_information_is_followed_into_the_program() {
    for options in ["-O2 -fomit-frame-pointer", "-O0"] {
        let fixture = fixture(&[("chain.c", CHAIN)]);
        build(
            &fixture,
            &format!("musl-gcc {options} -static chain.c -o chain"),
        );
        let (program, stopped) = Program::stopped(&fixture, "chain");
        let mut space = program.address_space(&stopped.mappings);
        let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
        let names = program.names(&stopped, &unwound);
        let found = names.iter().position(|name| name == "inner").unwrap();
        assert_eq!(names[found..][..4], EXPECTED[..4], "{names:?} {unwound:x?}");
        assert!(unwound.guessed);
        assert_ne!(unwound.end, End::Root, "{unwound:x?}");
    }
}

#[test]
fn a_program_without_an_index_is_followed_to_its_start() {
    assert_chain(&format!("{COMPILE} -Wl,--no-eh-frame-hdr"));
    assert_chain(&format!("{COMPILE} -static -Wl,--no-eh-frame-hdr"));
}

#[test]
fn a_program_with_an_index_of_nonsense_is_followed_to_its_start() {
    assert_changed_chain(COMPILE, |bytes| {
        let (start, _) = section(bytes, ".eh_frame_hdr");
        bytes[start..start + 4].fill(0xff);
    });
}

#[test]
fn a_program_without_section_headers_is_followed_to_its_start() {
    assert_changed_chain(COMPILE, |bytes| {
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
    });
}

#[test]
fn a_program_with_debugging_information_alone_is_followed_to_its_start() {
    let compile = format!("{COMPILE} -g -fno-asynchronous-unwind-tables");
    assert_chain(&format!("{compile} -gz=none"));
    assert_chain(&format!("{compile} -gz=zlib"));
    assert_chain(&format!("{compile} -gz=zlib-gnu"));
}

#[test]
fn a_program_with_frame_pointers_alone_is_followed_to_its_start() {
    assert_chain("gcc -O1 -fno-omit-frame-pointer -fno-asynchronous-unwind-tables");
}

#[test]
fn a_walk_without_unwind_information_says_so() {
    let compile = "gcc -O1 -fno-omit-frame-pointer";
    for (options, expected) in [("", false), ("-fno-asynchronous-unwind-tables", true)] {
        let fixture = fixture(&[("chain.c", CHAIN)]);
        build(&fixture, &format!("{compile} {options} chain.c -o chain"));
        let (program, stopped) = Program::stopped(&fixture, "chain");
        let mut space = program.address_space(&stopped.mappings);
        let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
        assert_eq!(unwound.guessed, expected, "{options}");
    }
}

#[test]
fn the_entry_point_of_a_program_is_its_start_without_unwind_information_too() {
    let bare = r#"
        #include <stdio.h>
        #include <unistd.h>
        #ifdef __x86_64__
        __asm__(".globl _start; _start: and $-16, %rsp; call begin; hlt; .type _start, @function");
        #else
        __asm__(".globl _start; _start: bl begin; udf #0; .type _start, @function");
        #endif
        volatile int deep = 3;
        void begin(void) { printf("%d\n", getpid()); fflush(stdout); pause(); deep++; }"#;
    let fixture = fixture(&[("bare.c", bare)]);
    build(&fixture, &format!("{COMPILE} -nostartfiles bare.c -o bare"));
    let (program, stopped) = Program::stopped(&fixture, "bare");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    assert_eq!(program.names(&stopped, &unwound), ["begin", "_start"]);
    assert_eq!(unwound.end, End::Root);
}

#[test]
fn a_library_is_followed_into_the_program_that_loaded_it() {
    let fixture = fixture(&[("chain.c", CHAIN), ("loader.c", LOADER)]);
    build(
        &fixture,
        &format!("{COMPILE} -DLIBRARY -shared -fPIC chain.c -o libchain.so"),
    );
    build(&fixture, &format!("{COMPILE} loader.c -o loader -ldl"));
    let (program, stopped) = Program::stopped(&fixture, "loader");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let names = programs::names(&stopped, &unwound, |mapping| {
        mapping.path.ends_with("/loader") || mapping.path.ends_with("/libchain.so")
    });
    assert_eq!(
        names,
        ["inner", "middle", "outer", "start", "main", "_start"]
    );
    assert_eq!(unwound.end, End::Root);
}

#[test]
fn a_library_that_is_not_known_yet_is_asked_for() {
    let fixture = fixture(&[("chain.c", CHAIN), ("loader.c", LOADER)]);
    build(
        &fixture,
        &format!("{COMPILE} -DLIBRARY -shared -fPIC chain.c -o libchain.so"),
    );
    build(&fixture, &format!("{COMPILE} loader.c -o loader -ldl"));
    let (program, stopped) = Program::stopped(&fixture, "loader");
    let (library, others): (Vec<_>, Vec<_>) = (stopped.mappings.iter().cloned())
        .partition(|mapping| mapping.path.ends_with("/libchain.so"));
    let unwound =
        (program.address_space(&others)).unwind(stopped.registers, &stopped.stack, &mut ());
    let outside = unwound.outside.expect("an address of the library");
    assert!(programs::find(&library, outside).is_some(), "{outside:x}");
    assert_eq!(unwound.end, End::Lost);
}

#[test]
fn a_thread_is_followed_to_its_start() {
    let thread = r#"
        #define _GNU_SOURCE
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        volatile int deep = 3;
        __attribute__((noinline)) int work(void) { pause(); return deep; }
        void *run(void *nothing) {
            printf("%d\n", gettid()); fflush(stdout);
            deep = work();
            return nothing;
        }
        int main(void) {
            pthread_t thread;
            pthread_create(&thread, NULL, run, NULL);
            return pthread_join(thread, NULL);
        }"#;
    let fixture = fixture(&[("thread.c", thread)]);
    build(&fixture, &format!("{COMPILE} -pthread thread.c -o thread"));
    let (program, stopped) = Program::stopped(&fixture, "thread");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    assert_eq!(program.names(&stopped, &unwound), ["work", "run"]);
    assert_eq!(unwound.end, End::Root, "{unwound:x?}");
}

#[test]
fn code_made_at_run_time_is_followed_by_frame_pointers() {
    // It sets up a frame, calls its argument, and returns.
    #[cfg(target_arch = "x86_64")]
    let code = "0x55,0x48,0x89,0xe5,0xff,0xd7,0x5d,0xc3";
    #[cfg(target_arch = "aarch64")]
    let code = "0xfd,0x7b,0xbf,0xa9,0xfd,0x03,0,0x91,0,0,0x3f,0xd6,0xfd,0x7b,0xc1,0xa8,0xc0,0x03,0x5f,0xd6";
    let maker = r#"
        #include <stdio.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <unistd.h>
        volatile int deep = 3;
        const unsigned char code[] = {CODE};
        __attribute__((noinline)) void called(void) { pause(); deep++; }
        __attribute__((noinline)) void caller(void (*made)(void (*)(void))) { made(called); deep++; }
        int main(void) {
            char *made = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(made, code, sizeof code);
            __builtin___clear_cache(made, made + sizeof code);
            printf("%d\n", getpid()); fflush(stdout);
            caller((void (*)(void (*)(void)))made);
            return deep;
        }"#;
    let fixture = fixture(&[("maker.c", &maker.replace("CODE", code))]);
    build(&fixture, &format!("{COMPILE} maker.c -o maker"));
    let (program, stopped) = Program::stopped(&fixture, "maker");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let names = program.names(&stopped, &unwound);
    assert_eq!(
        names,
        ["called", "caller", "main", "_start"],
        "{unwound:x?}"
    );
    assert_eq!(unwound.end, End::Root);
    assert!(unwound.guessed);
}

/// Between two functions of the program lies one without unwind information. On the stack is a
/// return address of its neighbour.
#[cfg(target_arch = "x86_64")]
#[test]
fn code_that_keeps_frame_pointers_is_not_searched_for_calls() {
    let bridge = r#"
        #include <stdio.h>
        #include <unistd.h>
        volatile int deep = 3;
        void bridge(void (*function)(void));
        __asm__(".text; .type bridge, @function;"
            "user: call neighbour; behind: ret;"
            "neighbour: ret;"
            "bridge: push %rbp; mov %rsp, %rbp; lea behind(%rip), %rax; push %rax; push %rax;"
            "call *%rdi; leave; ret; .size bridge, .-bridge");
        __attribute__((noinline)) void called(void) { pause(); deep++; }
        __attribute__((noinline)) void caller(void (*way)(void (*)(void))) { way(called); deep++; }
        int main(void) { printf("%d\n", getpid()); fflush(stdout); caller(bridge); return deep; }"#;
    let fixture = fixture(&[("bridge.c", bridge)]);
    build(&fixture, &format!("{COMPILE} bridge.c -o bridge"));
    let (program, stopped) = Program::stopped(&fixture, "bridge");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    let names = program.names(&stopped, &unwound);
    assert_eq!(names, ["called", "bridge", "caller", "main", "_start"]);
}

#[test]
fn only_what_is_not_in_the_file_takes_memory() {
    let memory = |options: &str| {
        let fixture = fixture(&[("chain.c", CHAIN)]);
        build(&fixture, &format!("{COMPILE} {options} chain.c -o chain"));
        let bytes = programs::map(&fixture.path("chain")).into();
        super::super::Image::parse(bytes).unwrap().memory()
    };
    assert_eq!(memory(""), 0);
    let index = memory("-Wl,--no-eh-frame-hdr");
    assert!((16 * 4..16 * 64).contains(&index), "{index}");
}

#[test]
fn a_stack_that_was_not_copied_whole_is_told_as_such() {
    let fixture = fixture(&[("chain.c", CHAIN)]);
    build(
        &fixture,
        &format!("{COMPILE} -DROOM=40000 chain.c -o chain"),
    );
    let (program, stopped) = Program::stopped(&fixture, "chain");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    assert_eq!(program.names(&stopped, &unwound), ["inner"]);
    assert_eq!(unwound.end, End::StackTooDeep);
}

#[test]
fn a_stack_of_too_many_frames_is_followed_for_some() {
    let deep = r#"
        #include <stdio.h>
        #include <unistd.h>
        volatile int more = 1;
        __attribute__((noinline, noclone)) int again(int n) {
            if (n == 0) pause(); else more += again(n - 1);
            return more;
        }
        int main(void) { printf("%d\n", getpid()); fflush(stdout); return again(600) + more; }"#;
    let fixture = fixture(&[("deep.c", deep)]);
    build(&fixture, "gcc -O1 -fomit-frame-pointer deep.c -o deep");
    let (program, stopped) = Program::stopped(&fixture, "deep");
    let mut space = program.address_space(&stopped.mappings);
    let unwound = space.unwind(stopped.registers, &stopped.stack, &mut ());
    assert_eq!(unwound.end, End::TooMany);
    assert_eq!(unwound.frames.len(), 512);
    let names = program.names(&stopped, &unwound);
    assert!(names.iter().all(|name| name == "again"), "{names:?}");
}

/// Where a section lies in a file: its place and size.
pub fn section(bytes: &[u8], name: &str) -> (usize, usize) {
    use object::{Object, ObjectSection};
    let file = object::File::parse(bytes).unwrap();
    let (place, size) = file.section_by_name(name).unwrap().file_range().unwrap();
    (place as usize, size as usize)
}
