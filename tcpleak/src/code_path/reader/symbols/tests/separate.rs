//! Names that are in files of their own, or packed.

use super::*;

const FRAMES: [&str; 3] = ["innermost:4 inlined", "middle:8 inlined", "outer:11"];

/// The program, its debug file, and the program without both symbols and debug information.
fn stripped(options: &str) -> Fixture {
    let program = Fixture::c_program(options);
    program.run("objcopy --only-keep-debug program program.debug");
    program.run("strip -o stripped program");
    program.run("objcopy --add-gnu-debuglink=program.debug stripped");
    program
}

#[test]
fn a_debug_file_names_a_stripped_program() {
    let program = stripped("-O2 -g");
    let debug = Some(program.read("program.debug").into());
    let symbols = Symbols::new(program.read("stripped").into(), debug, None);
    let here = program.address("program", "here");
    assert_eq!(functions(&symbols.name(here)), FRAMES);
    let main = program.address("program", "main");
    assert_eq!(functions(&symbols.name(main)), ["main:15"]);
}

#[test]
fn a_debug_file_of_symbols_alone_names_the_functions() {
    let program = stripped("-O2");
    let debug = Some(program.read("program.debug").into());
    let symbols = Symbols::new(program.read("stripped").into(), debug, None);
    let here = program.address("program", "here");
    assert_eq!(functions(&symbols.name(here)), ["outer"]);
}

#[test]
fn a_debug_file_that_is_garbage_leaves_the_program_s_own_names() {
    let program = Fixture::c_program("-O2 -g");
    let here = program.address("program", "here");
    for garbage in [Vec::new(), vec![0xff; 4096], program.read("program.c")] {
        let symbols = Symbols::new(program.read("program").into(), Some(garbage.into()), None);
        assert_eq!(functions(&symbols.name(here)), FRAMES);
    }
}

#[test]
fn what_is_wanted_is_read_from_the_file() {
    let program = stripped("-O2 -g -Wl,--build-id=0xfeedbeef");
    let full = wanted(&program.read("program"));
    assert_eq!(
        full.build_id.as_deref(),
        Some(&[0xfe, 0xed, 0xbe, 0xef][..])
    );
    assert_eq!(full.debug_link, None);
    assert!(full.has_debug_information && full.has_symbols);

    let stripped = wanted(&program.read("stripped"));
    assert_eq!(stripped.build_id, full.build_id);
    let (name, checksum) = stripped.debug_link.unwrap();
    assert_eq!(name, b"program.debug");
    let mut expected = flate2::Crc::new();
    expected.update(&program.read("program.debug"));
    assert_eq!(checksum, expected.sum());
    assert!(!stripped.has_debug_information && !stripped.has_symbols);
    assert_eq!(wanted(b"no ELF file"), Wanted::default());
}

#[test]
fn a_debug_file_belongs_by_build_id_or_else_by_checksum() {
    let (one, two) = (
        stripped("-O2 -g -Wl,--build-id=0x01"),
        stripped("-O2 -g -Wl,--build-id=0x02"),
    );
    let (file, debug) = (one.read("stripped"), one.read("program.debug"));
    assert!(belongs(&file, &debug));
    assert!(!belongs(&file, &two.read("program.debug")));
    assert!(!belongs(&file, b"no ELF file"));

    let bare = stripped("-O2 -g -Wl,--build-id=none");
    let (file, mut debug) = (bare.read("stripped"), bare.read("program.debug"));
    assert!(belongs(&file, &debug));
    assert!(
        !belongs(&bare.read("program"), &debug),
        "it names no debug file"
    );
    debug.push(0);
    assert!(!belongs(&file, &debug), "the checksum differs");
}

/// Makes the symbols of `program` that are not exported a packed part of `stripped`.
pub fn pack_symbols(program: &Fixture) {
    let listed = program.run("nm --format=posix --defined-only program");
    let functions = listed.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        matches!(words.next()?, "T" | "t").then_some(name)
    });
    let kept: Vec<&str> = functions.collect();
    program.write("kept", kept.join("\n").as_bytes());
    program.run("objcopy --only-keep-debug program mini.debug");
    program.run("objcopy -S --remove-section .comment --keep-symbols=kept mini.debug mini");
    program.run("xz mini");
    program.run("strip -o stripped program");
    program.run("objcopy --add-section .gnu_debugdata=mini.xz stripped");
}

#[test]
fn symbols_packed_into_a_stripped_program_name_its_functions() {
    let program = Fixture::c_program("-O2 -g");
    pack_symbols(&program);
    let here = program.address("program", "here");
    assert_eq!(functions(&program.name("stripped", here)), ["outer"]);
    let main = program.address("program", "main");
    assert_eq!(functions(&program.name("stripped", main)), ["main"]);
}

#[test]
fn packed_symbols_that_unfold_without_end_are_left_alone() {
    let program = Fixture::c_program("-O2");
    program.run("strip -o stripped program");
    let zeros = std::fs::File::create(program.path("zeros")).unwrap();
    zeros.set_len(65 << 20).unwrap();
    program.run("xz -0 zeros");
    program.run("objcopy --add-section .gnu_debugdata=zeros.xz stripped");
    let file = FileBytes::from(program.read("stripped"));
    assert!(unpack::section(&file, ".gnu_debugdata", &Allowance::default()).is_some());
    assert!(unpack::mini_debug_info(&file, &Allowance::default()).is_none());
    let here = program.address("program", "here");
    assert_eq!(program.name("stripped", here), []);
}

/// A unit with one function whose description is in another file, 12 bytes from its beginning on.
const REFERRING: &str = r#"
.text
.Lstart: nop; nop; nop; nop
.Lend:
.section .debug_abbrev
.uleb128 1, 0x11; .byte 1; .uleb128 0x11, 0x01, 0x12, 0x06, 0, 0
.uleb128 2, 0x2e; .byte 0; .uleb128 0x31, 0x1f20, 0x11, 0x01, 0x12, 0x06, 0, 0
.byte 0
.section .debug_info
.long .Lunit_end - .Lunit
.Lunit: .short 4; .long 0; .byte 8
.uleb128 1; .quad .Lstart; .long .Lend - .Lstart
.uleb128 2; .long 12; .quad .Lstart; .long .Lend - .Lstart
.byte 0
.Lunit_end:
.section .gnu_debugaltlink
.asciz "shared.debug"
.byte 0x01
"#;

/// The other file.
const SHARED: &str = r#"
.section .debug_abbrev
.uleb128 1, 0x11; .byte 1; .uleb128 0, 0
.uleb128 2, 0x2e; .byte 0; .uleb128 0x03, 0x08, 0, 0
.byte 0
.section .debug_info
.long .Lunit_end - .Lunit
.Lunit: .short 4; .long 0; .byte 8
.uleb128 1
.uleb128 2; .asciz "shared_function"
.byte 0
.Lunit_end:
"#;

#[test]
fn what_debug_files_share_is_used_when_it_is_the_right_one() {
    let program = Fixture::new();
    program.write("program.s", REFERRING.as_bytes());
    program.write("shared.s", SHARED.as_bytes());
    let link = "gcc -nostdlib -static -Wl,-Ttext=0x401000,-e,0";
    program.run(&format!("{link} -Wl,--build-id=0x03 -o program program.s"));
    program.run(&format!("{link} -Wl,--build-id=0x01 -o shared shared.s"));
    program.run(&format!("{link} -Wl,--build-id=0x02 -o other shared.s"));
    let file = program.read("program");
    assert_eq!(wanted(&file).alternate_build_id, Some(vec![1]));
    assert!(is_alternate(&file, &program.read("shared")));
    assert!(!is_alternate(&file, &program.read("other")));
    assert!(!is_alternate(
        &program.read("shared"),
        &program.read("shared")
    ));
    let named = |alternate: Option<&str>| {
        let alternate = alternate.map(|name| program.read(name).into());
        let symbols = Symbols::new(file.clone().into(), None, alternate);
        functions(&symbols.name(0x401002))
    };
    assert_eq!(named(Some("shared")), ["shared_function"]);
    assert_eq!(named(Some("other")), [""; 0]);
    assert_eq!(named(None), [""; 0]);
}
