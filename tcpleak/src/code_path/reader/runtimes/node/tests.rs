//! Frames in memory that was made up.

use super::*;
use crate::code_path::reader::{
    memory::{Memory, ReadAt},
    runtimes::made_up::images,
    unwind::{RawFrame, Registers, Stack},
};

/// Where the made-up objects lie.
const HEAP: u64 = 0x10_0000;
const HEAP_BYTES: u64 = 0x8000;

/// As V8 11.3 tells it.
fn layout() -> Layout {
    Layout {
        map_instance_type: 12,
        function_shared: 24,
        shared_name_or_scope: 16,
        shared_script: 32,
        script_name: 16,
        script_source: 8,
        string_length: 12,
        one_byte_characters: 16,
        two_byte_characters: 16,
        cons_first: 16,
        cons_second: 24,
        sliced_parent: 16,
        sliced_offset: 24,
        thin_actual: 16,
        array_length: 8,
        bytecode_data: 54,
        bytecode_wrapper: 0,
        frame_function: -16,
        frame_context: -8,
        frame_bytecode: -32,
        frame_bytecode_offset: -40,
        scope_locals: 2,
        scope_variables: 3,
        type_map: 255,
        type_shared: 262,
        type_script: 167,
        type_scope: 261,
        type_bytecode: 191,
        type_bytes: 190,
        type_trusted_bytes: 0,
        type_first_nonstring: 128,
        string_representation_mask: 7,
        string_encoding_mask: 8,
        cons_tag: 1,
        sliced_tag: 3,
        thin_tag: 5,
        smi_shift: 31,
    }
}

#[test]
fn newer_ones_keep_positions_elsewhere() {
    let old = layout();
    assert_eq!((old.positions(), old.type_positions()), (32, 190));
    assert_eq!(old.scope_start(), None);
    // As V8 13.6 tells it.
    let new = Layout {
        bytecode_wrapper: 16,
        type_trusted_bytes: 196,
        scope_variables: 5,
        ..layout()
    };
    assert_eq!((new.positions(), new.type_positions()), (24, 196));
    assert_eq!(new.scope_start(), Some(3));
}

/// Memory of objects that refer to one another at random, with maps of the kinds that matter.
struct Random(u64);

impl Random {
    fn word(&self, address: u64) -> u64 {
        let mut state = self.0 ^ address.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        let kinds = [
            255, 255, 255, 255, 255, 255, 262, 262, 262, 167, 167, 261, 261, 191, 190, 8, 40, 41,
            43, 45, 32,
        ];
        let kind = kinds[state as usize % kinds.len()];
        let object = HEAP + (state >> 20) % (HEAP_BYTES / 64) * 64 + 1;
        match (address % 64, state >> 60) {
            // The map of an object, and what a map says; a text has its length there.
            (8, 4..) => (kind << 32) | (state >> 50),
            (0, _) | (_, 0..=8) => object,
            (_, 9..=13) => (state >> 50) << 32,
            _ => state,
        }
    }
}

impl ReadAt for Random {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        for (index, word) in buffer.as_chunks_mut().0.iter_mut().enumerate() {
            *word = self.word(address + index as u64 * 8).to_le_bytes();
        }
        (HEAP..HEAP + HEAP_BYTES).contains(&address)
    }
}

fn look(memory: &Memory<'_>, stack: &[u8], described: bool) -> Option<Found> {
    let mut node = Node { layout: layout() };
    let frame = RawFrame {
        address: 0x5000,
        is_return: true,
    };
    let registers = Registers {
        pc: 0x5000,
        sp: 0x7000,
        fp: 0x7040,
        lr: 0,
    };
    node.look(&mut At {
        number: 0,
        frame,
        described,
        registers,
        stack: &mut Stack::new(0x7000, stack),
        memory,
    })
}

/// A stack with the two words that tell a frame of JavaScript.
fn stack(context: u64, function: u64) -> Vec<u8> {
    let mut bytes = vec![0; 0x80];
    bytes[0x38..0x40].copy_from_slice(&context.to_le_bytes());
    bytes[0x30..0x38].copy_from_slice(&function.to_le_bytes());
    bytes
}

#[test]
fn made_up_objects_have_an_end() {
    let mut functions = 0;
    for seed in images(400) {
        let source = Random(seed * 7919);
        for object in 0..24 {
            let memory = Memory::new(&source);
            let found = look(&memory, &stack(HEAP + 1, HEAP + object * 64 + 1), false);
            let frames = found.map_or(0, |found| found.frames.len());
            assert!(frames <= 1, "seed {seed}");
            functions += frames;
        }
    }
    assert!(functions > 0, "no made-up object passes for a function");
}

#[test]
fn code_with_unwind_information_is_not_javascript() {
    let source = Random(1);
    let memory = Memory::new(&source);
    for object in 0..24 {
        let stack = stack(HEAP + 1, HEAP + object * 64 + 1);
        assert_eq!(look(&memory, &stack, true), None);
    }
}

#[test]
fn stubs_of_the_runtime_are_hidden() {
    let nothing = Memory::new(&());
    assert_eq!(
        look(&nothing, &stack(17 << 1, 0), false),
        Some(Found::default())
    );
    assert_eq!(look(&nothing, &stack(1000 << 1, 0), false), None);
}
