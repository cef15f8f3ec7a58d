//! Go: who asked for a connection that another goroutine opens.
//!
//! Go's frames are those of any compiled code. But the HTTP client of its library dials in a goroutine
//! of its own, so that the function which wants the page is on no stack of the connection. It waits
//! meanwhile, first for the connection and then for the answer, and its goroutine is found by what the
//! two have in common: the text of the address to connect to, which is made anew for each request and
//! passed on by its place. Both keep it where the calling convention has room for an argument. Where a name
//! has addresses of both families, they are tried in goroutines of their own once more; of these the dialler
//! knows the text.
//!
//! No symbol is needed: Go's own line table, without which a program does not run, names the functions.

mod address;
mod layout;
mod list;
mod waiting;

use std::ops::Range;

use super::{Asked, At, Detected, Found, Process, Runtime};
use crate::code_path::reader::{memory::Memory, symbols::go::Frame, unwind::Mapped};
use address::Text;
use layout::{Layout, Machine};
use waiting::Goroutines;

/// The function that opens a connection, in a goroutine of its own.
const DIALS: &str = "net/http.(*Transport).dialConn";
/// The function that tries the addresses of one family, in a goroutine of its own.
const RACES: &str = "net.(*sysDialer).dialParallel.func1";
/// The function that waits for a connection.
const WANTS_CONNECTION: &str = "net/http.(*Transport).getConn";
/// The function that waits for an answer.
const WANTS_ANSWER: &str = "net/http.(*persistConn).roundTrip";
/// How often the list of goroutines is searched for in vain.
const SEARCHES: u32 = 3;

/// What a stack connects to.
#[derive(Clone, Copy, Debug)]
enum Dialled {
    /// This address.
    Address(Text),
    /// That of the dialler which is here.
    By(u64),
}

/// Go in one process.
struct Go {
    machine: Machine,
    layout: &'static Layout,
    /// The program.
    code: Mapped,
    functions: Functions,
    /// Where the list of goroutines is, once it is found, and what is searched for it.
    list: Option<u64>,
    variables: Vec<Range<u64>>,
    searches_left: u32,
    /// Whether the frame before was that of `dialConn`.
    dials: bool,
    /// What the stack that is followed connects to.
    dialled: Option<Dialled>,
}

/// The functions that matter, as they lie in the process.
#[derive(Debug)]
struct Functions {
    dials: Range<u64>,
    races: Range<u64>,
    wants_connection: Range<u64>,
    wants_answer: Range<u64>,
}

/// Looks for a Go program whose HTTP client it is that is known.
pub fn detect(process: &Process<'_>) -> Detected {
    let found = process.objects().find_map(|object| {
        let machine = Machine::THIS?;
        let layout = layout::of(object.bytes())?;
        let names = [DIALS, RACES, WANTS_CONNECTION, WANTS_ANSWER];
        let [dials, races, wants_connection, wants_answer] = object.go_functions(names);
        Some(Go {
            machine,
            layout,
            code: object.mapped(),
            functions: Functions {
                dials: dials?,
                races: races.unwrap_or_default(),
                wants_connection: wants_connection?,
                wants_answer: wants_answer?,
            },
            list: None,
            variables: object.zeroed().collect(),
            searches_left: SEARCHES,
            dials: false,
            dialled: None,
        })
    });
    match found {
        Some(go) => Detected::Yes(Box::new(go)),
        None => Detected::No,
    }
}

impl Go {
    /// The list may be about to grow when it is searched for, so that it is not seen.
    fn list(&mut self, memory: &Memory<'_>) -> Option<u64> {
        if self.list.is_none() && self.searches_left > 0 {
            self.searches_left -= 1;
            self.list = list::find(&self.variables, &memory.afresh());
        }
        self.list
    }
}

impl Runtime for Go {
    /// Finds what is dialled: each frame begins where the one inside of it keeps its arguments, of which
    /// `dialConn` has the address, and what tries addresses the dialler.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        if !at.frame.is_return {
            (self.dials, self.dialled) = (false, None);
        }
        let arguments = self.machine.arguments_above(at.registers.sp);
        let mut word = |offset| at.stack.copied_word(arguments.checked_add(offset)?);
        if self.dials {
            let dialled = self.layout.dialled(self.machine);
            let text = word(dialled).zip(word(dialled + 8));
            self.dialled = text.map(|(start, length)| Dialled::Address(Text { start, length }));
        }
        let instruction = at.frame.instruction();
        if at.frame.is_return && self.functions.races.contains(&instruction) {
            self.dialled = word(0).map(Dialled::By);
        }
        self.dials = self.functions.dials.contains(&instruction);
        None
    }

    fn is_asked_elsewhere(&self) -> bool {
        self.dialled.is_some()
    }

    fn asked_by(&mut self, memory: &Memory<'_>) -> Option<Asked> {
        let dialled = match self.dialled? {
            Dialled::Address(text) => text,
            Dialled::By(dialler) => Text::of_dialler(dialler, memory)?,
        };
        if !dialled.is_address(memory) {
            return None;
        }
        let list = self.list(memory)?;
        let frame = |address| {
            let own = self.code.own_address(address);
            match self.code.image.go_frame(own)? {
                Frame::Bytes(bytes) => Some(bytes),
                Frame::Outermost => None,
            }
        };
        let goroutines = Goroutines {
            machine: self.machine,
            layout: self.layout,
            functions: &self.functions,
            frame: &frame,
            list,
        };
        goroutines.asking_for(dialled, memory)
    }
}

#[cfg(test)]
mod tests;
