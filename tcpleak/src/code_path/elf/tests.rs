use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use object::elf;

use super::*;

/// A section to be: name, type, flags, contents, linked section, size of an entry.
type Section<'a> = (&'a str, u32, u64, Vec<u8>, u32, u64);

fn plain(name: &str, contents: Vec<u8>) -> Section<'_> {
    (name, elf::SHT_PROGBITS, 0, contents, 0, 0)
}

/// A packed section that says it unpacks to `promised` bytes.
fn packed<'a>(name: &'a str, contents: &[u8], promised: u64) -> Section<'a> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(contents).unwrap();
    let mut bytes = [elf::ELFCOMPRESS_ZLIB.to_le_bytes(), [0; 4]].concat();
    bytes.extend([promised.to_le_bytes(), 1_u64.to_le_bytes()].concat());
    bytes.extend(encoder.finish().unwrap());
    (
        name,
        elf::SHT_PROGBITS,
        u64::from(elf::SHF_COMPRESSED),
        bytes,
        0,
        0,
    )
}

/// A library with these sections whose bytes 0x100 to 0x300 are loaded at 0x1100.
fn library(sections: &[Section<'_>]) -> Vec<u8> {
    const HEADERS: usize = 64 + 56;
    let mut names = vec![0];
    let mut contents = vec![0; 0x300 - HEADERS];
    let mut headers = vec![0; 64];
    let names_section = plain(".shstrtab", Vec::new());
    let last = sections.len() + 1;
    let mut all: Vec<_> = sections.to_vec();
    all.push(names_section);
    for (name, ..) in &all {
        names.extend(name.as_bytes());
        names.push(0);
    }
    all[last - 1].3 = names.clone();
    let mut name_at = 1_u32;
    for (name, kind, flags, bytes, link, entry) in &all {
        headers.extend([name_at.to_le_bytes(), kind.to_le_bytes()].concat());
        let (place, length) = ((HEADERS + contents.len()) as u64, bytes.len() as u64);
        headers.extend([*flags, 0, place, length].map(u64::to_le_bytes).concat());
        headers.extend([*link, 1].map(u32::to_le_bytes).concat());
        headers.extend([1, *entry].map(u64::to_le_bytes).concat());
        contents.extend(bytes);
        name_at += name.len() as u32 + 1;
    }
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([elf::ET_DYN, elf::EM_X86_64].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend(
        [0, 64, (HEADERS + contents.len()) as u64]
            .map(u64::to_le_bytes)
            .concat(),
    );
    file.extend(0_u32.to_le_bytes());
    file.extend(
        [64, 56, 1, 64, last as u16 + 1, last as u16]
            .map(u16::to_le_bytes)
            .concat(),
    );
    file.extend(
        [elf::PT_LOAD, elf::PF_R | elf::PF_X]
            .map(u32::to_le_bytes)
            .concat(),
    );
    file.extend(
        [0x100, 0x1100, 0x1100, 0x200, 0x200, 0x1000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    file.extend(contents);
    file.extend(headers);
    file
}

/// `.dynsym` and `.dynstr` with one function of 0x20 bytes at 0x1140.
fn exporting(function: &str) -> [Section<'_>; 2] {
    let mut symbols = vec![0; 24];
    symbols.extend(1_u32.to_le_bytes());
    symbols.extend([elf::STB_GLOBAL << 4 | elf::STT_FUNC, 0, 1, 0]);
    symbols.extend([0x1140_u64, 0x20].map(u64::to_le_bytes).concat());
    let strings = format!("\0{function}\0").into_bytes();
    [
        (".dynsym", elf::SHT_DYNSYM, 0, symbols, 2, 24),
        (".dynstr", elf::SHT_STRTAB, 0, strings, 0, 0),
    ]
}

#[test]
fn places_in_the_file_become_addresses() {
    let layout = Layout::of(&library(&[plain(".text", vec![0; 16])]));
    assert_eq!(layout.readable, Readable::DebugInformation);
    assert_eq!(layout.address(0x100), Some(0x1100));
    assert_eq!(layout.address(0x2ff), Some(0x12ff));
    assert_eq!(layout.address(0x0ff), None);
    assert_eq!(layout.address(0x300), None);
}

#[test]
fn packed_debug_information_is_read() {
    let bytes = library(&[packed(".debug_info", &[7; 1000], 1000)]);
    let layout = Layout::of(&bytes);
    assert_eq!(
        (layout.readable, layout.unpacked),
        (Readable::DebugInformation, 1000)
    );
}

#[test]
fn a_section_that_promises_more_than_memory_is_not_unpacked() {
    for promised in [UNPACKED_BYTES + 1, u64::MAX] {
        let layout = Layout::of(&library(&[packed(".debug_info", &[7; 10], promised)]));
        assert_eq!((layout.readable, layout.unpacked), (Readable::Nothing, 0));
    }
    let half = UNPACKED_BYTES / 2 + 1;
    let halves = [
        packed(".debug_info", &[], half),
        packed(".debug_line", &[], half),
    ];
    assert_eq!(Layout::of(&library(&halves)).readable, Readable::Nothing);
}

#[test]
fn a_section_that_holds_more_than_it_promises_is_not_unpacked() {
    let layout = Layout::of(&library(&[packed(".debug_info", &[0; 100_000], 10)]));
    assert_eq!(layout.readable, Readable::Nothing);
    assert_eq!(
        layout.address(0x100),
        Some(0x1100),
        "exported functions are still found"
    );
}

#[test]
fn a_file_does_not_choose_what_else_is_opened() {
    for link in [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"] {
        let layout = Layout::of(&library(&[plain(link, b"pipe\0".to_vec())]));
        assert_eq!(layout.readable, Readable::Symbols, "{link}");
    }
}

#[test]
fn exported_functions_are_found_where_they_lie() {
    let [symbols, strings] = exporting("fetch");
    let bytes = library(&[symbols, strings]);
    assert_eq!(exported_function(&bytes, 0x1140).as_deref(), Some("fetch"));
    assert_eq!(exported_function(&bytes, 0x115f).as_deref(), Some("fetch"));
    assert_eq!(exported_function(&bytes, 0x1160), None);
    assert_eq!(exported_function(&bytes, 0x113f), None);
    assert_eq!(exported_function(b"no library", 0), None);
}

#[test]
fn damaged_files_never_panic() {
    let [symbols, strings] = exporting("fetch");
    let sections = [symbols, strings, packed(".debug_info", &[7; 100], 100)];
    let whole = library(&sections);
    for position in (0..0x80).chain(0x300..whole.len()) {
        for value in [0x00, 0x7F, 0xFF, whole[position] ^ 0x08] {
            let mut damaged = whole.clone();
            damaged[position] = value;
            let _ = Layout::of(&damaged).address(0x140);
            let _ = exported_function(&damaged, 0x1140);
        }
    }
    for length in 0..whole.len() {
        let _ = Layout::of(&whole[..length]);
    }
}

#[test]
fn what_is_no_plain_file_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(CodeFile::refer(&pipe).is_err());
    assert!(CodeFile::refer(Path::new("/dev/null")).is_err());
    assert!(CodeFile::refer(directory.path()).is_err());
}

#[test]
fn another_file_with_the_same_name_is_not_taken_for_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = CodeFile::refer(file.path()).unwrap();
    let Identity { device, inode, .. } = found.identity();
    let mapping = |inode| Mapping {
        start: 0,
        end: 1,
        offset: 0,
        device: (major(device), minor(device)),
        inode,
        path: file.path().to_owned(),
    };
    let pid = std::process::id();
    assert_eq!(
        CodeFile::find(pid, &mapping(inode)).unwrap().identity(),
        found.identity()
    );
    assert!(CodeFile::find(pid, &mapping(inode + 1)).is_err());
}
