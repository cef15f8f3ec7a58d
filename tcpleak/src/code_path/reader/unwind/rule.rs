//! How the caller of a frame is found.

use framehop::FrameAddress;

use super::{
    super::symbols::go::Frame,
    RawFrame, arch,
    code::{Code, Mapped},
    guess::Way,
    plain::Cache,
    registers::Registers,
    row::Row,
    stack::Stack,
    table::Context,
};

/// Most bytes of a signal trampoline.
const TRAMPOLINE_BYTES: usize = 16;
/// framehop takes the addresses of a file to have 32 bits.
const PLAIN_ADDRESSES: u64 = u32::MAX as u64;

/// How the caller of a frame is found.
pub enum Rule {
    /// Nothing called it.
    Outermost,
    /// By a plain row of one of the file's tables.
    Plain(Mapped, usize),
    /// By a row of one of the file's tables.
    Row(Mapped, usize, Row),
    /// It is a signal trampoline: the registers are where the kernel saves them.
    Trampoline,
    /// By the size of its frame, of which a Go program knows that of every function.
    Sized(u64),
    /// By what can be guessed, for want of unwind information.
    Guess(Way),
}

impl Rule {
    /// The rule for a frame. `context` is only there to be used again.
    pub fn find(frame: RawFrame, code: &Code, context: &mut Context) -> Self {
        let Some(mapped) = code.mapped(frame.instruction()) else {
            return Self::Guess(Way::FramePointer);
        };
        let image = &mapped.image;
        let place = mapped.own_address(frame.address);
        let instruction = mapped.own_address(frame.instruction());
        let is_trampoline = || arch::is_trampoline(image.code(place, TRAMPOLINE_BYTES));
        if arch::TRUST_TRAMPOLINE_CODE && is_trampoline() {
            return Self::Trampoline;
        }
        match image.row(instruction, context) {
            // A row that ends right before a trampoline has nothing to do with it.
            Some((_, row)) if !row.is_signal && is_trampoline() => Self::Trampoline,
            Some((_, row)) if row.is_outermost() => Self::Outermost,
            Some((table, row)) => {
                let known = image.table(table).and_then(|table| table.plain());
                let is_plain = instruction < PLAIN_ADDRESSES && arch::is_plain(&row);
                match known.filter(|_| is_plain) {
                    Some(_) => Self::Plain(mapped.clone(), table),
                    None => Self::Row(mapped.clone(), table, row),
                }
            }
            None if is_trampoline() => Self::Trampoline,
            None if image.is_start(instruction) => Self::Outermost,
            None => match image.go_frame(instruction) {
                Some(Frame::Outermost) => Self::Outermost,
                Some(Frame::Bytes(bytes)) => Self::Sized(bytes),
                None => Self::Guess(Way::of(frame, code)),
            },
        }
    }

    /// Whether the "caller" did not call but was interrupted by a signal.
    pub fn leads_to_interrupted(&self) -> bool {
        match self {
            Self::Row(_, _, row) => row.is_signal,
            Self::Trampoline => true,
            Self::Outermost | Self::Plain(..) | Self::Sized(_) | Self::Guess(_) => false,
        }
    }

    /// The registers of the caller. Its address is zero when there is none.
    pub fn caller(
        &self,
        frame: RawFrame,
        registers: &Registers,
        stack: &mut Stack<'_>,
        code: &Code,
        cache: &mut Cache,
    ) -> Option<Registers> {
        match self {
            Self::Outermost => Some(Registers::default()),
            Self::Plain(mapped, table) => {
                let plain = mapped.image.table(*table)?.plain()?;
                let address = mapped.own_address(frame.address);
                let address = match frame.is_return {
                    true => FrameAddress::from_return_address(address)?,
                    false => FrameAddress::from_instruction_pointer(address),
                };
                plain.caller(address, registers, stack, cache)
            }
            Self::Row(mapped, table, row) => {
                let section = mapped.image.table(*table)?.bytes();
                row.caller(section, registers, stack, !frame.is_return)
            }
            Self::Trampoline => arch::interrupted(registers, stack),
            Self::Sized(bytes) => {
                arch::caller_by_frame_size(*bytes, registers, stack, !frame.is_return)
            }
            Self::Guess(way) => way.caller(frame, registers, stack, code),
        }
    }
}
