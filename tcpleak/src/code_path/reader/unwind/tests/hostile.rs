//! Stacks and files that were made to do harm.

use tcpleak_ebpf::BELOW_STACK;

use super::{
    super::{AddressSpace, End, Image, Registers, Unwound},
    layouts::{CHAIN, section},
    programs::Mapping,
    *,
};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A word of a stack: an address of code or of the stack, or anything.
    fn word(&mut self, code: &std::ops::Range<u64>, stack: u64) -> u64 {
        match self.below(8) {
            0..=3 => code.start + self.next() % (code.end - code.start),
            4..=5 => stack.wrapping_add(self.next() % 8192),
            6 => self.next() >> (self.next() % 64),
            _ => u64::MAX - self.next() % 64,
        }
    }
}

/// The bytes of the chain's file, and where its code is mapped.
fn file_and_code(options: &str) -> (Vec<u8>, Mapping) {
    let fixture = fixture(&[("chain.c", CHAIN)]);
    build(&fixture, &format!("gcc -O2 {options} chain.c -o chain"));
    let (program, stopped) = Program::stopped(&fixture, "chain");
    let bytes = std::fs::read(&program.path).unwrap();
    let own = |mapping: &Mapping| mapping.path.ends_with("/chain");
    let code = stopped.mappings.into_iter().find(own).unwrap();
    (bytes, code)
}

fn assert_bounded(unwound: &Unwound) {
    assert!((1..=512).contains(&unwound.frames.len()));
}

/// Unwinds made-up stacks through a file.
fn unwind_made_up(bytes: Vec<u8>, code: &Mapping, numbers: &mut Numbers, stacks: usize) {
    let Some(image) = Image::parse(bytes.into()) else {
        return;
    };
    let addresses = code.start..code.end;
    let mut space = AddressSpace::new();
    space.map(addresses.clone(), code.offset, &image);
    for _ in 0..stacks {
        let sp = match numbers.below(16) {
            0 => numbers.next(),
            1 => u64::MAX - numbers.next() % 4096,
            2 => numbers.next() % 64,
            _ => 0x7fff_0000_0000 + numbers.next() % 65536 * 8,
        };
        let words = numbers.below(300);
        let stack: Vec<u8> = (0..words)
            .flat_map(|_| numbers.word(&addresses, sp).to_le_bytes())
            .collect();
        let registers = Registers {
            pc: addresses.start + numbers.next() % (addresses.end - addresses.start),
            sp,
            fp: numbers.word(&addresses, sp),
            lr: numbers.word(&addresses, sp),
        };
        assert_bounded(&space.unwind(registers, &stack, &mut ()));
    }
}

#[test]
fn made_up_stacks_do_no_harm() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for options in [
        "",
        "-static",
        "-fno-omit-frame-pointer -fno-asynchronous-unwind-tables",
    ] {
        let (bytes, code) = file_and_code(options);
        unwind_made_up(bytes, &code, &mut numbers, 3000);
    }
}

#[test]
fn damaged_files_do_no_harm() {
    let mut numbers = Numbers(0xfeed_f00d_dead_beef);
    let sections = [".eh_frame", ".eh_frame_hdr", ".debug_frame", ".shstrtab"];
    let options = "-g -gz=none -fno-asynchronous-unwind-tables";
    for (options, sections) in [("", &sections[..2]), (options, &sections[..])] {
        let (bytes, code) = file_and_code(options);
        let mut parts: Vec<_> = sections.iter().map(|name| section(&bytes, name)).collect();
        parts.push((0, 64 + 13 * 56));
        parts.push((bytes.len() - 38 * 64, 38 * 64));
        for _ in 0..2000 {
            let mut bytes = bytes.clone();
            for _ in 0..=numbers.below(12) {
                let (start, size) = parts[numbers.below(parts.len())];
                bytes[start + numbers.below(size)] = match numbers.below(4) {
                    0 => 0xff,
                    1 => numbers.below(16) as u8,
                    _ => numbers.next() as u8,
                };
            }
            unwind_made_up(bytes, &code, &mut numbers, 8);
        }
    }
}

#[test]
fn files_that_end_early_do_no_harm() {
    let mut numbers = Numbers(77);
    let (bytes, code) = file_and_code("-g");
    for _ in 0..500 {
        let size = numbers.below(bytes.len());
        unwind_made_up(bytes[..size].to_vec(), &code, &mut numbers, 4);
    }
}

#[test]
fn random_unwind_information_does_no_harm() {
    let mut numbers = Numbers(0xabcd_ef01_2345_6789);
    for options in ["", "-Wl,--no-eh-frame-hdr"] {
        let (bytes, code) = file_and_code(options);
        let (start, size) = section(&bytes, ".eh_frame");
        for _ in 0..1000 {
            let mut bytes = bytes.clone();
            // What comes behind the first entry's head: mostly instructions.
            let from = start + 8 + numbers.below(size - 8);
            let to = (from + numbers.below(64)).min(start + size);
            bytes[from..to].fill_with(|| numbers.next() as u8);
            unwind_made_up(bytes, &code, &mut numbers, 8);
        }
    }
}

#[test]
fn a_chain_of_frame_pointers_that_is_a_ring_is_left() {
    let mut space = AddressSpace::new();
    space.map_anonymous(0x1000..0x2000);
    let ring = [0x7010_u64, 0x1100, 0x7000, 0x1200]
        .map(u64::to_le_bytes)
        .concat();
    let registers = Registers {
        pc: 0x1000,
        sp: 0x7000 + BELOW_STACK,
        fp: 0x7000,
        lr: 0,
    };
    let unwound = space.unwind(registers, &ring, &mut ());
    assert_eq!(unwound.frames.len(), 3);
    assert_eq!(unwound.end, End::Lost);
}

#[test]
fn what_is_no_code_is_no_frame() {
    let mut space = AddressSpace::new();
    space.map_anonymous(0x1000..0x2000);
    let stack = [0_u64, 0x9999].map(u64::to_le_bytes).concat();
    let registers = Registers {
        pc: 0x1000,
        sp: 0x7000 + BELOW_STACK,
        fp: 0x7000,
        lr: 0,
    };
    let unwound = space.unwind(registers, &stack, &mut ());
    assert_eq!(unwound.frames.len(), 1);
    assert_eq!((unwound.end, unwound.outside), (End::Lost, Some(0x9999)));
    let unwound = space.unwind(Registers { pc: 0, ..registers }, &stack, &mut ());
    assert_eq!((unwound.end, unwound.outside), (End::Lost, Some(0)));
}

#[test]
fn packed_unwind_information_that_promises_too_much_is_not_unpacked() {
    let (mut bytes, _) = file_and_code("-g -gz=zlib -fno-asynchronous-unwind-tables");
    let (start, _) = section(&bytes, ".debug_frame");
    let whole = Image::parse(bytes.clone().into()).unwrap();
    bytes[start + 8..start + 16].copy_from_slice(&(65_u64 << 20).to_le_bytes());
    let image = Image::parse(bytes.into()).unwrap();
    assert_eq!(image.number_of_tables() + 1, whole.number_of_tables());
}
