//! From the registers and a copied part of a thread's stack to the addresses of its frames.
//!
//! Nothing here looks at a process: its code comes in as [`Image`]s, mapped into an
//! [`AddressSpace`]. All of it may be made up by whoever is looked at. A walk has an end in every
//! case, and says what kind of end it was.

mod address_space;
mod arch;
mod code;
mod expression;
mod guess;
mod image;
mod plain;
mod registers;
mod row;
mod rule;
mod sections;
mod stack;
mod table;

use serde::{Deserialize, Serialize};

pub use address_space::AddressSpace;
pub use code::Mapped;
pub use image::Image;
pub use registers::Registers;
pub use stack::Stack;

/// Knows code better than unwind information does.
pub trait Guide {
    /// The registers of the caller of a frame, the one with this number from the innermost on; none to
    /// find it by unwind information, if the frame's code is described by any.
    fn caller(
        &mut self,
        number: usize,
        frame: RawFrame,
        described: bool,
        registers: &Registers,
        stack: &mut Stack<'_>,
    ) -> Option<Registers>;
}

/// Knows nothing.
#[cfg(test)]
impl Guide for () {
    fn caller(
        &mut self,
        _number: usize,
        _frame: RawFrame,
        _described: bool,
        _registers: &Registers,
        _stack: &mut Stack<'_>,
    ) -> Option<Registers> {
        None
    }
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawFrame {
    /// Where the frame's code goes on.
    pub address: u64,
    /// Whether it goes on behind a call, which is then the instruction that ends at the address.
    /// Otherwise the thread was at this very address, or a signal interrupted the code there.
    pub is_return: bool,
}

impl RawFrame {
    /// An address within the instruction that the frame is at.
    pub fn instruction(&self) -> u64 {
        self.address.saturating_sub(u64::from(self.is_return))
    }
}

/// What a walk along a stack found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwound {
    /// The frames, innermost first. There is at least one.
    pub frames: Vec<RawFrame>,
    /// Why there are no more.
    pub end: End,
    /// The address outside of all known code that the walk came to, if that is what ended it. When
    /// a process may have got more code since its mappings were read, it is worth another look.
    pub outside: Option<u64>,
    /// Bytes of the stack, from the stack pointer on, that were looked at.
    pub depth: u32,
    /// Whether some caller was found without unwind information. Frames may be missing there, if
    /// the code does not keep frame pointers.
    pub guessed: bool,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// The outermost frame is the first of its thread: its unwind information says so, or it is
    /// where the program begins.
    Root,
    /// There is no further frame, but nothing proves that the outermost is the first.
    Unproven,
    /// More of the stack is needed than was copied.
    StackTooDeep,
    /// Nothing led on from the outermost frame, or only to what is no code.
    Lost,
    /// There are more frames than are looked at.
    TooMany,
}

#[cfg(test)]
mod tests;
