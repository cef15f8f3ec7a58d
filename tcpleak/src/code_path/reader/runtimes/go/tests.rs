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
const COUNT: u64 = 0x11_0000;
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

/// A goroutine that waits in a function whose arguments lie at the end of its stack but 0x100 bytes.
fn waiting_in(function: u64, arguments: &[(u64, u64)]) -> HashMap<u64, u64> {
    let (inner, outer) = (STACK + 0x3000, STACK_END - 0x110);
    let mut words = HashMap::from([
        (LIST, GOROUTINE),
        (COUNT, 1),
        (GOROUTINE, STACK),
        (GOROUTINE + 8, STACK_END),
        (GOROUTINE + 56, inner - 0x20),
        (GOROUTINE + 64, 0x9000),
        (GOROUTINE + 72, GOROUTINE),
        (GOROUTINE + 104, inner),
        (GOROUTINE + 144, 4),
        (inner, outer),
        (inner + 8, function + 1),
        (inner - 0x20, 0),
        (TEXT, 0x3038_3a31_3a3a_3a31),
    ]);
    let base = STACK_END - 0x100;
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

fn waits_for_connection(text: u64) -> HashMap<u64, u64> {
    waiting_in(GET_CONNECTION, &[(40, text), (48, ADDRESS.length)])
}

fn waits_for_answer(text: u64, reused: bool) -> HashMap<u64, u64> {
    let mut words = waiting_in(ROUND_TRIP, &[(0, CONNECTION)]);
    words.insert(CONNECTION + 56, text);
    words.insert(CONNECTION + 64, ADDRESS.length);
    words.insert(CONNECTION + 264, u64::from(reused) << 8);
    words
}

fn asked(source: &dyn ReadAt) -> Option<Asked> {
    let places = Places {
        goroutines: LIST + 0x800,
        number: COUNT,
        dials: 0x3000..0x3100,
        wants_connection: GET_CONNECTION..GET_CONNECTION + 0x100,
        wants_answer: ROUND_TRIP..ROUND_TRIP + 0x100,
    };
    let goroutines = Goroutines {
        layout: layout::known(22).unwrap(),
        places: &places,
    };
    goroutines.asking_for(ADDRESS, &Memory::new(source))
}

fn found(rounds: Vec<HashMap<u64, u64>>) -> bool {
    let rounds = rounds.into_iter().map(|mut words| {
        words.insert(LIST + 0x800, LIST);
        words
    });
    asked(&MadeUp::new(rounds.collect())).is_some()
}

#[test]
fn who_waits_for_the_connection_or_for_its_first_answer_asked_for_it() {
    assert!(found(vec![waits_for_connection(TEXT)]));
    assert!(found(vec![waits_for_answer(TEXT, false)]));
}

#[test]
fn who_waits_for_another_connection_or_answer_did_not_ask() {
    assert!(
        !found(vec![waits_for_connection(TEXT + 8)]),
        "an equal text"
    );
    assert!(!found(vec![waits_for_answer(TEXT + 8, false)]), "likewise");
    assert!(
        !found(vec![waits_for_answer(TEXT, true)]),
        "a later request"
    );
    let elsewhere = waiting_in(0x7000, &[(40, TEXT), (48, ADDRESS.length)]);
    assert!(!found(vec![elsewhere]));
    let mut runs = waits_for_connection(TEXT);
    runs.insert(GOROUTINE + 144, 2);
    assert!(!found(vec![runs]));
}

#[test]
fn who_goes_on_while_the_stack_is_read_is_not_said_to_have_asked() {
    let before = || waits_for_connection(TEXT);
    assert!(found(vec![before(), before()]));
    assert!(!found(vec![before(), waits_for_connection(TEXT + 8)]));
    assert!(!found(vec![before(), waits_for_answer(TEXT, true)]));
    let mut moved = before();
    moved.insert(GOROUTINE + 56, STACK + 0x2f00);
    assert!(!found(vec![before(), moved]), "its stack has grown");
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
            let places = [LIST, GOROUTINE, STACK, TEXT, CONNECTION, 4, ROUND_TRIP + 1];
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
        if let Some(asked) = asked(&Random(seed)) {
            assert!(asked.stack.len() <= 64 << 10, "seed {seed}");
        }
    }
}
