mod image;

use super::{tables::Tables, *};
use crate::code_path::reader::{
    runtimes::made_up::images,
    unwind::{RawFrame, Stack},
};
use image::{
    BASE, CODE, COMPILED, CRAWL, CRAWL_CODE, INTERPRETER, Image, SIZE, STACK, layout as made_up,
};

fn look(
    java: &mut HotSpot,
    memory: &Memory<'_>,
    registers: Registers,
    words: &[u64],
) -> Option<Found> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut stack = Stack::new(STACK, &bytes);
    java.look(&mut At {
        number: 0,
        described: false,
        frame: RawFrame {
            address: registers.pc,
            is_return: true,
        },
        registers,
        stack: &mut stack,
        memory,
    })
}

fn registers(pc: u64) -> Registers {
    Registers {
        pc,
        sp: STACK,
        fp: STACK + 0x50,
        lr: 0,
    }
}

fn frame(function: &str, line: u32, inlined: bool) -> ManagedFrame {
    ManagedFrame {
        language: "java".to_owned(),
        function: Some(format!("com.acme.Crawler.{function}")),
        file: Some("Crawler.java".to_owned()),
        line: Some(line),
        inlined,
        own: true,
    }
}

/// The stack of an interpreted method, from ten words below the frame pointer on.
fn interpreted(method: u64, byte_code: u64) -> Vec<u64> {
    let mut words = vec![0; 16];
    words[10] = 0x1234;
    words[11] = INTERPRETER + 0x20;
    words[9] = STACK + 0x70;
    words[7] = method;
    words[if cfg!(target_arch = "x86_64") { 2 } else { 1 }] = byte_code;
    words
}

#[test]
fn a_compiled_method_is_found_with_what_is_inlined_into_it() {
    let image = Image::new();
    let memory = Memory::new(&image);
    let mut java = HotSpot::new(made_up());
    let stack = [0, 0, 0x1234, INTERPRETER + 0x10];
    for _ in 0..2 {
        let found = look(&mut java, &memory, registers(COMPILED + 0x20), &stack);
        let expected = Found {
            frames: vec![frame("fetch", 50, true), frame("crawl", 41, false)],
            caller: Some(Registers {
                pc: INTERPRETER + 0x10,
                sp: STACK + 32,
                fp: 0x1234,
                lr: 0,
            }),
        };
        assert_eq!(found, Some(expected));
    }
    let found = look(&mut java, &memory, registers(COMPILED + 0x10), &stack);
    assert_eq!(found.unwrap().frames, [frame("crawl", 41, false)]);
}

#[test]
fn a_place_that_no_call_returns_to_has_no_line() {
    let image = Image::new();
    let memory = Memory::new(&image);
    let mut java = HotSpot::new(made_up());
    let found = look(&mut java, &memory, registers(COMPILED + 0x18), &[0; 4]).unwrap();
    let expected = ManagedFrame {
        line: None,
        ..frame("crawl", 0, false)
    };
    assert_eq!(found.frames, [expected]);
    assert_eq!(found.caller, None, "nothing there is an address of code");
}

#[test]
fn an_interpreted_method_is_found() {
    let image = Image::new();
    let memory = Memory::new(&image);
    let mut java = HotSpot::new(made_up());
    for (at, line) in [(0, 40), (3, 40), (4, 41)] {
        let stack = interpreted(CRAWL, CRAWL_CODE + at);
        let found = look(&mut java, &memory, registers(INTERPRETER + 0x10), &stack);
        let expected = Found {
            frames: vec![frame("crawl", line, false)],
            caller: Some(Registers {
                pc: INTERPRETER + 0x20,
                sp: STACK + 0x70,
                fp: 0x1234,
                lr: 0,
            }),
        };
        assert_eq!(found, Some(expected));
    }
}

#[test]
fn what_is_no_method_is_unknown() {
    let image = Image::new();
    let memory = Memory::new(&image);
    let mut java = HotSpot::new(made_up());
    for method in [0, 1, CRAWL + 8, CODE, BASE + SIZE as u64, u64::MAX - 7] {
        let stack = interpreted(method, CRAWL_CODE);
        let found = look(&mut java, &memory, registers(INTERPRETER + 0x10), &stack).unwrap();
        assert_eq!(found.frames, [unknown()], "{method:x}");
    }
}

#[test]
fn code_that_was_made_anew_is_read_anew() {
    let mut image = Image::new();
    let mut java = HotSpot::new(made_up());
    let at = registers(COMPILED + 0x20);
    let stack = [0, 0, 0, INTERPRETER + 0x10];
    let before = look(&mut java, &Memory::new(&image), at, &stack).unwrap();
    assert_eq!(before.frames.len(), 2);
    // Another compilation, of the other method.
    image.put(CODE + 0x10 + 40, &[78]);
    image.words(CODE + 0x10 + 32, &[CRAWL + 0x20]);
    image.put(CODE + 0x10 + 0x304, &[0, 2, 1]);
    let after = look(&mut java, &Memory::new(&image), at, &stack).unwrap();
    assert_eq!(after.frames, [frame("fetch", 50, false)]);
    // It is gone.
    image.put(CODE + 8, &[0]);
    image.put(CODE + 0x10 + 40, &[79]);
    assert_eq!(look(&mut java, &Memory::new(&image), at, &stack), None);
}

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word as hostile memory has it: an address of its own, a small number, or anything.
    fn word(&mut self) -> u64 {
        match self.next() % 4 {
            0 => BASE + self.next() % SIZE as u64,
            1 => BASE + (self.next() % SIZE as u64) / 8 * 8,
            2 => self.next() % 0x200,
            _ => self.next(),
        }
    }
}

#[test]
fn made_up_memory_is_looked_at_to_an_end() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let intact = Image::new();
    let mut known = 0;
    for _ in images(2000) {
        let mut image = intact.clone();
        for _ in 0..chance.next() % 64 {
            // Where something is, mostly.
            let reach = if chance.next().is_multiple_of(2) {
                0x7000
            } else {
                0x1_1000
            };
            let word = chance.word();
            image.words(BASE + (chance.next() % reach) / 4 * 4, &[word]);
        }
        let mut java = HotSpot::new(made_up());
        let memory = Memory::new(&image);
        for pc in [COMPILED + 0x20, INTERPRETER + 0x10, chance.word()] {
            let byte_code = chance.word();
            let mut stack = interpreted(CRAWL, byte_code);
            let changed = chance.next() as usize % stack.len();
            stack[changed] = chance.word();
            if let Some(found) = look(&mut java, &memory, registers(pc), &stack) {
                assert!(found.frames.len() <= 64);
                known += found.frames.len();
            }
        }
    }
    assert!(known > 1000, "most of it was not looked at: {known}");
}

#[test]
fn made_up_tables_are_read_to_an_end() {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    for _ in images(200) {
        let mut image = Image(vec![0; SIZE]);
        for at in (0..SIZE as u64).step_by(8) {
            let word = chance.word();
            image.words(BASE + at, &[word]);
        }
        // Where the first entry is, and small numbers for what lies where in an entry.
        image.words(BASE, &[BASE + 0x100, 0, 8, 16, 24, chance.next() % 64]);
        let memory = Memory::new(&image);
        let seed = chance.next();
        let symbol = |name: &str| match name.ends_with('s') {
            true => Some(BASE),
            false => Some(BASE + 8 + 8 * (seed % (name.len() as u64) % 5)),
        };
        if let Some(tables) = Tables::read(&symbol, &memory) {
            // What they lack is said, or a layout comes of them: either will do.
            let _ = layout::find(&tables, &memory);
        }
    }
}

#[test]
fn tables_in_a_ring_are_given_up() {
    // Each entry is the same one: the distance to the next is zero.
    let mut image = Image(vec![0; SIZE]);
    image.words(BASE, &[BASE + 0x100, 0]);
    image.words(BASE + 0x100, &[BASE + 0x200; 8]);
    image.put(BASE + 0x200, b"Method");
    let memory = Memory::new(&image);
    let symbol = |name: &str| match name.ends_with('s') {
        true => Some(BASE),
        false => Some(BASE + 8),
    };
    assert!(Tables::read(&symbol, &memory).is_none());
}
