//! Files that are damaged in every way that there is time for.

use std::time::{Duration, Instant};

use super::*;

/// How long each kind of file is damaged over and over.
const TIME: Duration = Duration::from_secs(3);

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Names addresses of a file whose parts are overwritten or cut off.
fn damage(whole: &[u8], addresses: &[u64], places: std::ops::Range<usize>) {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let mut bytes = whole.to_vec();
        for _ in 0..1 + numbers.below(16) {
            // Most of what counts is at both ends: the headers of the file and of its sections.
            let place = match numbers.below(4) {
                0 => numbers.below(64),
                1 => bytes.len() - 1 - numbers.below(bytes.len().min(4096)),
                _ => places.start + numbers.below(places.len()),
            };
            bytes[place] = [0, 1, 0x7f, 0x80, 0xff, numbers.below(256) as u8][numbers.below(6)];
        }
        if numbers.below(8) == 0 {
            bytes.truncate(numbers.below(bytes.len()));
        }
        let _ = wanted(&bytes);
        let _ = belongs(&bytes, &bytes[..bytes.len() / 2]);
        let symbols = Symbols::new(bytes.clone().into(), Some(bytes.into()), None);
        for address in addresses {
            let frames = symbols.name(*address);
            assert!(frames.len() <= INLINE_DEPTH);
        }
    }
}

#[test]
fn a_damaged_program_with_debug_information_does_no_harm() {
    for options in ["-O2 -gdwarf-4", "-O2 -gdwarf-5 -gz=zlib"] {
        let program = Fixture::c_program(options);
        let bytes = program.read("program");
        let names = ["here", "main", "_start"];
        let addresses = names.map(|name| program.address("program", name));
        damage(&bytes, &addresses, 0..bytes.len());
    }
}

#[test]
fn a_damaged_go_table_does_no_harm() {
    let program = Fixture::new();
    let go = b"package main\nfunc main() { println(\"done\") }\n";
    program.write("program.go", go);
    program.run("go build program.go");
    let names = ["main.main", "runtime.mallocgc", "runtime.main"];
    let addresses = names.map(|name| program.address("program", name) + 60);
    program.run_words(&["go", "build", "-ldflags=-s -w", "program.go"]);
    let bytes = program.read("program");
    assert_ne!(program.name("program", addresses[1]), []);
    let elf = object::File::parse(&*bytes).unwrap();
    let table = object::Object::section_by_name(&elf, ".gopclntab").unwrap();
    let (start, _) = object::ObjectSection::file_range(&table).unwrap();
    let start = start as usize;
    // The header, and the whole table in turn.
    damage(&bytes, &addresses, start..start + 128);
    damage(&bytes, &addresses, start..bytes.len());
}

#[test]
fn damaged_packed_symbols_do_no_harm() {
    let program = Fixture::c_program("-O2");
    let here = [program.address("program", "here")];
    separate::pack_symbols(&program);
    let bytes = program.read("stripped");
    damage(&bytes, &here, bytes.len() / 2..bytes.len());

    let program = Fixture::c_program("-O2 -g");
    program.run("objcopy --compress-debug-sections=zstd program");
    let bytes = program.read("program");
    let here = [program.address("program", "here")];
    damage(&bytes, &here, bytes.len() / 2..bytes.len());
}
