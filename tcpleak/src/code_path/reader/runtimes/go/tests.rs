//! Goroutines in made-up memory: who waits for what, and who has gone on.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use super::*;
use crate::code_path::reader::{memory::ReadAt, runtimes::made_up::images};

/// Words by address; whatever else is on their pages is zero. Each round of reads sees what was said to
/// be there in that round, the last one for ever.
struct MadeUp {
    rounds: Vec<HashMap<u64, u64>>,
    read: RefCell<HashSet<u64>>,
    round: Cell<usize>,
}

const PAGE: u64 = 4096;
const LIST: u64 = 0x10_0000;
const VARIABLE: u64 = 0x11_0000;
const GOROUTINE: u64 = 0x20_0000;
const STACK: u64 = 0x30_0000;
const STACK_END: u64 = STACK + 0x4000;
const TEXT: u64 = 0x40_0000;
const CONNECTION: u64 = 0x50_0000;
const GET_CONNECTION: u64 = 0x1000;
const ROUND_TRIP: u64 = 0x2000;
const ADDRESS: Text = Text {
    start: TEXT,
    length: 8,
};

impl MadeUp {
    fn new(rounds: Vec<HashMap<u64, u64>>) -> Self {
        Self {
            rounds,
            read: RefCell::default(),
            round: Cell::new(0),
        }
    }
}

impl ReadAt for MadeUp {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        // Within one round no page is read twice: so the first that is begins another.
        let mut read = self.read.borrow_mut();
        if !read.insert(address) {
            self.round.set(self.round.get() + 1);
            read.clear();
            read.insert(address);
        }
        let round = self.round.get().min(self.rounds.len() - 1);
        buffer.fill(0);
        let mut any = false;
        for (place, word) in &self.rounds[round] {
            if (address..address + PAGE).contains(place) {
                let at = (place - address) as usize;
                buffer[at..at + 8].copy_from_slice(&word.to_le_bytes());
                any = true;
            }
        }
        any
    }
}

/// Bytes of the frames of both functions that have others wait, and of the function that waits.
const FRAME: u64 = 0x200;
const INNER_FRAME: u64 = 0x38;
/// Code of that function.
const WAITS: u64 = 0x9000;

/// A goroutine that waits in a function whose arguments lie at the end of its stack but 0x100 bytes.
fn waiting_in(machine: Machine, function: u64, arguments: &[(u64, u64)]) -> HashMap<u64, u64> {
    let base = STACK_END - 0x100;
    let outer = base - 8 - FRAME;
    // Where the address lies to return to from the inner frame.
    let (inner, returns_to) = match machine {
        Machine::X86_64 => (outer - 8 - INNER_FRAME, outer - 8),
        Machine::Aarch64 => (outer - INNER_FRAME, outer - INNER_FRAME),
    };
    let mut words = HashMap::from([
        (VARIABLE, LIST),
        (VARIABLE + 8, 1),
        (VARIABLE + 16, 8),
        (LIST, GOROUTINE),
        (GOROUTINE, STACK),
        (GOROUTINE + 8, STACK_END),
        (GOROUTINE + 56, inner),
        (GOROUTINE + 64, WAITS + 1),
        (GOROUTINE + 72, GOROUTINE),
        (GOROUTINE + 144, 4),
        (returns_to, function + 1),
        (TEXT, 0x3038_3a31_3a3a_3a31),
    ]);
    words.extend(
        arguments
            .iter()
            .map(|(offset, word)| (base + offset, *word)),
    );
    // All of the stack is there.
    for page in (STACK..STACK_END).step_by(PAGE as usize) {
        words.entry(page + 0x18).or_default();
    }
    words
}

fn waits_for_connection(machine: Machine, text: u64) -> HashMap<u64, u64> {
    let arguments = [(40, text), (48, ADDRESS.length)];
    waiting_in(machine, GET_CONNECTION, &arguments)
}

fn waits_for_answer(machine: Machine, text: u64, reused: bool) -> HashMap<u64, u64> {
    let mut words = waiting_in(machine, ROUND_TRIP, &[(0, CONNECTION)]);
    words.insert(CONNECTION + 56, text);
    words.insert(CONNECTION + 64, ADDRESS.length);
    words.insert(CONNECTION + 264, u64::from(reused) << 8);
    words
}

fn listed(source: &dyn ReadAt) -> Option<u64> {
    let variables = VARIABLE - 0x1800..VARIABLE + 0x800;
    list::find(&[0..0, variables], &Memory::new(source))
}

fn asked(machine: Machine, source: &dyn ReadAt, list: u64) -> Option<Asked> {
    let function = |start: u64| start..start + 0x100;
    let frame = |address| match address {
        WAITS => Some(INNER_FRAME),
        GET_CONNECTION | ROUND_TRIP => Some(FRAME),
        _ => None,
    };
    let goroutines = Goroutines {
        machine,
        layout: layout::known(22).unwrap(),
        functions: &Functions {
            dials: function(0x3000),
            races: function(0x4000),
            wants_connection: function(GET_CONNECTION),
            wants_answer: function(ROUND_TRIP),
        },
        frame: &frame,
        list,
    };
    goroutines.asking_for(ADDRESS, &Memory::new(source))
}

fn found(machine: Machine, rounds: Vec<HashMap<u64, u64>>) -> bool {
    // Other variables lie before it: a slice of something else, an empty one, and no slice at all.
    let others = [
        (VARIABLE - 0x1000, TEXT),
        (VARIABLE - 0xff8, 1),
        (VARIABLE - 0xff0, 1),
        (VARIABLE - 0x18, LIST),
        (VARIABLE - 8, LIST),
    ];
    let rounds = rounds.into_iter().map(|mut words| {
        words.extend(others);
        words
    });
    let memory = MadeUp::new(rounds.collect());
    listed(&memory).is_some_and(|list| asked(machine, &memory, list).is_some())
}

const MACHINES: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];

#[test]
fn who_waits_for_the_connection_or_for_its_first_answer_asked_for_it() {
    for machine in MACHINES {
        assert!(found(machine, vec![waits_for_connection(machine, TEXT)]));
        let answer = waits_for_answer(machine, TEXT, false);
        assert!(found(machine, vec![answer]));
    }
}

#[test]
fn how_far_a_request_is_makes_no_other_path_of_it() {
    for machine in MACHINES {
        let words = waits_for_connection(machine, TEXT);
        let asked = asked(machine, &MadeUp::new(vec![words]), VARIABLE).expect("it waits");
        // What it waits in, what has it wait, and who calls that.
        assert_eq!(asked.waiting, 3);
    }
}

#[test]
fn a_dialler_has_its_address_behind_the_name_of_the_network() {
    const DIALLER: u64 = 0x60_0000;
    const NAME: u64 = 0x70_0000;
    let dialler = |name: &[u8; 4], length| {
        let mut words = HashMap::from([
            (DIALLER + 8, 30_000_000_000),
            (DIALLER + 64, CONNECTION),
            (DIALLER + 72, 4),
            (DIALLER + 120, NAME),
            (DIALLER + 128, length),
            (DIALLER + 136, ADDRESS.start),
            (DIALLER + 144, ADDRESS.length),
            (TEXT, 0x3038_3a31_3a3a_3a31),
            (CONNECTION, 1),
        ]);
        let [a, b, c, d] = *name;
        words.insert(NAME, u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]));
        let memory = MadeUp::new(vec![words]);
        let memory = Memory::new(&memory);
        let text = Text::of_dialler(DIALLER, &memory);
        text.filter(|text| text.is_address(&memory))
    };
    assert_eq!(dialler(b"tcp ", 3), Some(ADDRESS));
    assert_eq!(dialler(b"tcp6", 4), Some(ADDRESS));
    assert_eq!(dialler(b"unix", 4), None);
    assert_eq!(dialler(b"tcp ", 0), None);
}

#[test]
fn who_waits_for_another_connection_or_answer_did_not_ask() {
    for machine in MACHINES {
        let another = waits_for_connection(machine, TEXT + 8);
        assert!(!found(machine, vec![another]), "an equal text");
        let another = waits_for_answer(machine, TEXT + 8, false);
        assert!(!found(machine, vec![another]), "likewise");
        let later = waits_for_answer(machine, TEXT, true);
        assert!(!found(machine, vec![later]), "a later request");
        let arguments = [(40, TEXT), (48, ADDRESS.length)];
        let elsewhere = waiting_in(machine, 0x7000, &arguments);
        assert!(!found(machine, vec![elsewhere]));
        let mut runs = waits_for_connection(machine, TEXT);
        runs.insert(GOROUTINE + 144, 2);
        assert!(!found(machine, vec![runs]));
    }
}

#[test]
fn without_a_list_of_goroutines_nobody_is_said_to_have_asked() {
    let machine = Machine::X86_64;
    let changes = [
        (VARIABLE, 0),
        (VARIABLE, LIST + 1),
        (VARIABLE + 8, 0),
        (VARIABLE + 8, 9),
        (VARIABLE + 16, 1 << 40),
        (GOROUTINE + 72, GOROUTINE + 8),
        (GOROUTINE + 8, STACK),
    ];
    for (place, word) in changes {
        let mut words = waits_for_connection(machine, TEXT);
        words.insert(place, word);
        assert!(!found(machine, vec![words]), "{place:#x}: {word:#x}");
    }
}

#[test]
fn who_goes_on_while_the_stack_is_read_is_not_said_to_have_asked() {
    let machine = Machine::X86_64;
    let before = || waits_for_connection(machine, TEXT);
    // The list is found in the first round, and the goroutine in the second one.
    let found = |last| found(machine, vec![before(), before(), last]);
    assert!(found(before()));
    assert!(!found(waits_for_connection(machine, TEXT + 8)));
    assert!(!found(waits_for_answer(machine, TEXT, true)));
    let mut moved = before();
    moved.insert(GOROUTINE + 56, STACK + 0x2f00);
    assert!(!found(moved), "its stack has grown");
}

/// Memory of which each word is one of a few addresses or any number.
struct Random(u64);

impl ReadAt for Random {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        let mut state = self.0 ^ address.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for word in buffer.as_chunks_mut().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let places = [
                WAITS + 1,
                LIST,
                GOROUTINE,
                STACK,
                TEXT,
                CONNECTION,
                4,
                ROUND_TRIP + 1,
            ];
            let place = places[state as usize % places.len()];
            let chosen = match state >> 60 {
                0..=11 => place.wrapping_add((state >> 40) % 0x400 * 8),
                _ => state,
            };
            *word = chosen.to_le_bytes();
        }
        !state.is_multiple_of(16)
    }
}

#[test]
fn made_up_memory_has_an_end() {
    for seed in images(60) {
        let memory = Random(seed);
        Text::of_dialler(STACK, &Memory::new(&memory));
        let list = listed(&memory).unwrap_or(LIST);
        if let Some(asked) = asked(Machine::X86_64, &memory, list) {
            assert!(asked.stack.len() <= 64 << 10, "seed {seed}");
        }
    }
}
