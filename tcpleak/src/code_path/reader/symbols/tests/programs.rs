//! What is found in a program or library alone.

use std::fs;

use object::{Object, ObjectSection, ObjectSymbol};

use super::{fixture::C_PROGRAM, *};

/// What is at `here` in the C program.
const C_FRAMES: [&str; 3] = ["innermost:4 inlined", "middle:8 inlined", "outer:11"];

#[test]
fn inlined_functions_are_told_apart_with_their_lines() {
    for version in [2, 3, 4, 5] {
        let program = Fixture::c_program(&format!("-O2 -gdwarf-{version}"));
        let frames = program.name("program", program.address("program", "here"));
        assert_eq!(functions(&frames), C_FRAMES, "DWARF {version}");
        let file = frames[2].file.as_deref().unwrap();
        assert!(
            file.starts_with('/') && file.ends_with("/program.c"),
            "{file}"
        );
    }
}

#[test]
fn packed_debug_information_is_unpacked() {
    let program = Fixture::c_program("-O2 -g -gz=zlib");
    program.run("objcopy --compress-debug-sections=zstd program program.zstd");
    program.run("objcopy --compress-debug-sections=zlib-gnu program program.gnu");
    let here = program.address("program", "here");
    for (name, format) in [
        ("program", object::CompressionFormat::Zlib),
        ("program.zstd", object::CompressionFormat::Zstandard),
        ("program.gnu", object::CompressionFormat::Zlib),
    ] {
        let bytes = program.read(name);
        let elf = object::File::parse(&*bytes).unwrap();
        let section = unpack::find(&elf, ".debug_info").unwrap();
        let range = section.compressed_file_range().unwrap();
        assert_eq!(range.format, format, "{name} is packed");
        assert_eq!(functions(&program.name(name, here)), C_FRAMES, "{name}");
    }
}

#[test]
fn a_packed_section_gives_no_more_than_it_promises() {
    let program = Fixture::c_program("-O2 -g -gz=zlib");
    let mut bytes = program.read("program");
    let elf = object::File::parse(&*bytes).unwrap();
    let section = unpack::find(&elf, ".debug_info").unwrap();
    let (offset, _) = section.file_range().unwrap();
    let here = program.address("program", "here");
    // The size is the second word of the header.
    let size = offset as usize + 8;
    for (promised, left) in [(16, true), (1 << 20, false), (1 << 40, false)] {
        bytes[size..size + 8].copy_from_slice(&u64::to_le_bytes(promised));
        let file = FileBytes::from(bytes.clone());
        let unpacked = unpack::section(&file, ".debug_info", &Allowance::default());
        assert_eq!(unpacked.map(|bytes| bytes.len()), left.then_some(16));
        let frames = Symbols::new(bytes.clone().into(), None, None).name(here);
        assert_eq!(functions(&frames), ["outer"], "symbols still work");
    }
}

#[test]
fn without_debug_information_the_symbol_is_the_name() {
    let program = Fixture::c_program("-O2");
    let here = program.address("program", "here");
    assert_eq!(functions(&program.name("program", here)), ["outer"]);
    let start = program.address("program", "_start");
    assert_eq!(functions(&program.name("program", start)), ["_start"]);
    assert_eq!(program.name("program", 0), []);
    assert_eq!(program.name("program", u64::MAX), []);
}

#[test]
fn nothing_is_known_of_a_stripped_program() {
    let program = Fixture::c_program("-O2 -g");
    program.run("strip -o stripped program");
    let here = program.address("program", "here");
    assert_eq!(program.name("stripped", here), []);
}

#[test]
fn a_static_program_is_named_with_its_c_library() {
    let program = Fixture::c_program("-O2 -static");
    let here = program.address("program", "here");
    assert_eq!(functions(&program.name("program", here)), ["outer"]);
    let write = program.address("program", "write");
    assert_eq!(functions(&program.name("program", write)), ["write"]);
}

#[test]
fn symbols_without_a_size_reach_to_the_next_one() {
    let program = Fixture::new();
    let assembler = b".text\n.globl first, second\nfirst: nop; nop; nop\n\
        also: .type sized, @function\nsized: nop; nop\n.size sized, 2\nnop; nop\n\
        second: nop\n.L_local: nop\n.data\n.globl value\nvalue: .quad 0\n";
    program.write("program.s", assembler);
    program.run("gcc -nostdlib -static -Wl,-e,first -o program program.s");
    let first = program.address("program", "first");
    let name = |offset| functions(&program.name("program", first + offset));
    assert_eq!(name(0), ["first"]);
    assert_eq!(name(2), ["first"]);
    assert_eq!(name(3), ["sized"]);
    assert_eq!(name(4), ["sized"]);
    assert_eq!(
        name(5),
        [""; 0],
        "behind a function that says where it ends"
    );
    assert_eq!(name(7), ["second"]);
    assert_eq!(name(8), ["second"]);
    assert_eq!(name(64), [""; 0], "behind the section");
    let value = program.address("program", "value");
    assert_eq!(program.name("program", value), [], "data is no function");
}

#[test]
fn the_plainest_of_several_names_is_chosen() {
    let program = Fixture::new();
    let c = b"int __GI___join(int a) { return a * 7; }\n\
        extern int __join(int) __attribute__((alias(\"__GI___join\")));\n\
        extern int join(int) __attribute__((weak, alias(\"__GI___join\")));\n\
        static int j(int) __attribute__((alias(\"__GI___join\"), used));\n\
        int main(int count, char **words) { return join(count); }\n";
    program.write("program.c", c);
    program.run("gcc -O0 -fno-inline -o program program.c");
    let join = program.address("program", "join");
    assert_eq!(functions(&program.name("program", join + 1)), ["join"]);
}

#[test]
fn cpp_names_are_those_of_the_source() {
    let program = Fixture::new();
    let cpp = br#"
namespace net {
struct Pool {
    template <typename T> __attribute__((noinline)) T take(T number);
};
template <typename T> T Pool::take(T number) {
    __asm__ volatile("here: nop");
    return number + 1;
}
}
int main(int count, char **) { return net::Pool().take<int>(count); }
"#;
    program.write("program.cpp", cpp);
    for (options, line) in [("-O2", ""), ("-O2 -g", ":7")] {
        program.run(&format!("g++ {options} -o program program.cpp"));
        let here = program.address("program", "here");
        let frames = functions(&program.name("program", here));
        assert_eq!(frames, [format!("net::Pool::take<int>{line}")]);
    }
}

#[test]
fn rust_functions_are_named_with_their_modules() {
    let program = Fixture::new();
    let rust = br#"#![allow(named_asm_labels)]
mod http {
    #[inline(always)]
    fn dial() {
        unsafe { std::arch::asm!("here: nop") }
    }
    #[inline(never)]
    pub fn connect() {
        dial();
    }
}
fn main() {
    http::connect();
}
"#;
    program.write("crawler.rs", rust);
    let inlined = ["crawler::http::dial:5 inlined", "crawler::http::connect:9"];
    for options in ["-Cdebuginfo=0", "-Cdebuginfo=1", "-Cdebuginfo=2"] {
        program.run(&format!("rustc --edition 2021 -O {options} crawler.rs"));
        let here = program.address("crawler", "here");
        let frames = functions(&program.name("crawler", here));
        match options {
            "-Cdebuginfo=0" => {
                assert_eq!(frames, inlined[1].split(":9").take(1).collect::<Vec<_>>())
            }
            "-Cdebuginfo=1" => assert_eq!(frames[1..], inlined[1..], "{options}"),
            _ => assert_eq!(frames, inlined, "{options}"),
        }
    }
}

#[test]
fn a_part_of_a_function_keeps_its_name() {
    let program = Fixture::new();
    let c = br#"
static volatile int used;
__attribute__((cold, noreturn, noinline)) void give_up(int);
__attribute__((noinline)) int parse(int number) {
    if (__builtin_expect(number > 7, 0)) {
        used = number;
        give_up(number);
    }
    return number * 3;
}
void give_up(int number) { for (;;) __asm__ volatile("" :: "r"(number)); }
int main(int count, char **words) { return parse(count); }
"#;
    program.write("program.c", c);
    program.run("gcc -O2 -g -o program program.c");
    let part = program.address("program", "parse.cold");
    assert_eq!(functions(&program.name("program", part)), ["parse:6"]);
}

#[test]
fn the_c_library_is_named_by_what_it_exports() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .split_whitespace()
        .find(|word| word.ends_with("/libc.so.6"));
    let bytes = fs::read(path.unwrap()).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let symbols = Symbols::new(bytes.clone().into(), None, None);
    for name in [
        "connect",
        "accept",
        "accept4",
        "recv",
        "read",
        "close",
        "poll",
        "getaddrinfo",
        // Chosen when the program starts.
        "strlen",
    ] {
        let mut exported = elf.dynamic_symbols();
        let symbol = exported.find(|symbol| symbol.name() == Ok(name)).unwrap();
        let last = symbol.address() + symbol.size() - 1;
        assert_eq!(functions(&symbols.name(last)), [name]);
    }
}

#[test]
fn a_program_with_its_debug_information_elsewhere_is_named_by_symbols_and_lines() {
    let program = Fixture::new();
    program.write("program.c", C_PROGRAM.as_bytes());
    program.run("gcc -O2 -gdwarf-5 -gsplit-dwarf -o program program.c");
    let here = program.address("program", "here");
    assert_eq!(functions(&program.name("program", here)), ["outer:4"]);
}

#[test]
fn the_version_of_a_symbol_is_no_part_of_its_name() {
    let library = Fixture::new();
    let c = br#"
__asm__(".symver join_of_today, join@@JOIN_2");
int join_of_today(int number) { return number * 7; }
"#;
    library.write("join.c", c);
    library.write("join.map", b"JOIN_2 { global: join; local: *; };");
    library.run("gcc -shared -fPIC -Wl,--version-script=join.map -o join.so join.c");
    // Without the table for the dynamic linker, which has versions elsewhere.
    library.run("objcopy --only-keep-debug join.so join.debug");
    let join = library.address("join.debug", "join@@JOIN_2");
    assert_eq!(functions(&library.name("join.debug", join)), ["join"]);
}
