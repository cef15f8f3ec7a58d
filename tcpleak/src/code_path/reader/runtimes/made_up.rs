//! Memory that no process ever had, for tests: a reader must come to an end on any.

use std::{env, ops::Range};

use crate::code_path::reader::memory::{Memory, ReadAt};

/// Where pointers lead.
const START: u64 = 0x7f00_0000_0000;
/// How far they lead: near enough that many lead to the same place.
const BYTES: u64 = 1 << 20;

/// Memory in which each word is a pointer to some other, a small number, text, or noise.
pub struct MadeUp {
    seed: u64,
}

/// Numbers that look like chance and are the same every time.
pub fn scatter(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

impl MadeUp {
    fn word(&self, address: u64) -> u64 {
        let chance = scatter(self.seed ^ address);
        match chance % 10 {
            0..4 => START + (chance >> 8) % BYTES / 8 * 8,
            4..7 => (chance >> 8) % 64,
            7 => 0,
            8 => u64::from_le_bytes(*b"textabcd"),
            _ => chance,
        }
    }
}

impl ReadAt for MadeUp {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        for (number, word) in buffer.chunks_mut(8).enumerate() {
            let bytes = self
                .word(address.wrapping_add(8 * number as u64))
                .to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
        true
    }
}

/// Numbers of the images that are tried: so many, unless `cargo xtask test --fuzz N` wants more or fewer. It runs
/// the tests that have `made_up` in their names.
pub fn images(usual: u64) -> Range<u64> {
    let images = env::var("TCPLEAK_FUZZ_IMAGES").ok();
    0..images.map_or(usual, |number| number.parse().expect("a number of images"))
}

/// Has something read many images. It is given a seed of its own, and an address to begin at.
pub fn each_image(read: impl Fn(&Memory<'_>, u64, u64)) {
    for seed in images(200) {
        let image = MadeUp { seed };
        let start = START + scatter(seed) % BYTES / 8 * 8;
        read(&Memory::new(&image), seed, start);
    }
}
