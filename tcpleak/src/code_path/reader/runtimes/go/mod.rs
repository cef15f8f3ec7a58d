//! Go: who asked for a connection that another goroutine opens.
//!
//! Go's frames are those of any compiled code. But the HTTP client of its library dials in a goroutine
//! of its own, so that the function which wants the page is on no stack of the connection. It waits
//! meanwhile, first for the connection and then for the answer, and its goroutine is found by what the
//! two have in common: the text of the address to connect to, which is made anew for each request and
//! passed on by its place. Both keep it where the calling convention has room for an argument.

mod layout;
mod waiting;

use std::ops::Range;

use super::{Asked, At, Detected, Found, Process, Runtime};
use crate::code_path::reader::{memory::Memory, unwind::RawFrame};
use layout::Layout;
use waiting::Goroutines;

/// The function that opens a connection, in a goroutine of its own.
const DIALS: &str = "net/http.(*Transport).dialConn";
/// The function that waits for a connection.
const WANTS_CONNECTION: &str = "net/http.(*Transport).getConn";
/// The function that waits for an answer.
const WANTS_ANSWER: &str = "net/http.(*persistConn).roundTrip";
/// All goroutines, and how many they are.
const GOROUTINES: [&str; 2] = ["runtime.allgptr", "runtime.allglen"];

/// Bytes of the text of an address.
const ADDRESS_BYTES: Range<u64> = 3..300;

/// A text by its place. Two that are alike are still two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    start: u64,
    length: u64,
}

/// Go in one process.
struct Go {
    layout: &'static Layout,
    places: Places,
    /// Whether the frame before was that of `dialConn`.
    dials: bool,
    /// What the stack that is followed connects to.
    dialled: Option<Text>,
}

/// Where things lie in the process.
#[derive(Debug)]
struct Places {
    goroutines: u64,
    number: u64,
    dials: Range<u64>,
    wants_connection: Range<u64>,
    wants_answer: Range<u64>,
}

/// Looks for a Go program whose HTTP client it is that is known.
pub fn detect(process: &Process<'_>) -> Detected {
    let found = process.objects().find_map(|object| {
        let layout = layout::of(object.bytes())?;
        let [goroutines, number] = GOROUTINES;
        let names = [goroutines, number, DIALS, WANTS_CONNECTION, WANTS_ANSWER];
        let [goroutines, number, dials, wants_connection, wants_answer] = object.symbols(names);
        let places = Places {
            goroutines: goroutines?.start,
            number: number?.start,
            dials: dials?,
            wants_connection: wants_connection?,
            wants_answer: wants_answer?,
        };
        Some(Go {
            layout,
            places,
            dials: false,
            dialled: None,
        })
    });
    match found {
        Some(go) => Detected::Yes(Box::new(go)),
        None => Detected::No,
    }
}

impl Runtime for Go {
    /// Finds what is dialled: the frame outside of `dialConn` begins where that keeps its arguments.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        if !at.frame.is_return {
            (self.dials, self.dialled) = (false, None);
        }
        if self.dials {
            let mut word = |offset| at.stack.copied_word(at.registers.sp.checked_add(offset)?);
            let dialled = self.layout.dialled;
            let text = word(dialled).zip(word(dialled + 8));
            self.dialled = text.map(|(start, length)| Text { start, length });
        }
        self.dials = is_in(&self.places.dials, at.frame);
        None
    }

    fn is_asked_elsewhere(&self) -> bool {
        self.dialled.is_some()
    }

    fn asked_by(&mut self, memory: &Memory<'_>) -> Option<Asked> {
        let dialled = self.dialled.filter(|text| is_address(*text, memory))?;
        let goroutines = Goroutines {
            layout: self.layout,
            places: &self.places,
        };
        goroutines.asking_for(dialled, memory)
    }
}

fn is_in(function: &Range<u64>, frame: RawFrame) -> bool {
    function.contains(&frame.instruction())
}

/// Whether a text is an address and a port.
fn is_address(text: Text, memory: &Memory<'_>) -> bool {
    let length = usize::try_from(text.length).unwrap_or(usize::MAX);
    ADDRESS_BYTES.contains(&text.length)
        && memory
            .bytes(text.start, length, length)
            .is_some_and(|bytes| {
                let port = bytes.rsplit(|byte| *byte == b':').next();
                let digits = |port: &[u8]| !port.is_empty() && port.iter().all(u8::is_ascii_digit);
                bytes.contains(&b':') && port.is_some_and(digits)
            })
}

#[cfg(test)]
mod tests;
