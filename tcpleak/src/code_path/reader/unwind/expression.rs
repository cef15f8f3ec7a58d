//! DWARF expressions in unwind information.

use gimli::{Encoding, Evaluation, EvaluationResult, EvaluationStorage, Location, Piece, Value};

use super::{registers::Registers, row::Bytes, stack::Stack};

/// Most operations of one evaluation. The longest expressions in use have about ten.
const OPERATIONS: u32 = 256;

/// Room for one evaluation; an expression that needs more fails.
struct Bounded;

impl<'a> EvaluationStorage<Bytes<'a>> for Bounded {
    type Stack = [Value; 32];
    type ExpressionStack = [(Bytes<'a>, Bytes<'a>); 1];
    type Result = [Piece<Bytes<'a>>; 1];
}

/// The value of an expression; none when it needs what is not known. `initial` is on the
/// expression's own stack when it begins. Memory is read from the copied stack only.
pub fn evaluate(
    code: Bytes<'_>,
    encoding: Encoding,
    initial: Option<u64>,
    registers: &Registers,
    stack: &mut Stack<'_>,
) -> Option<u64> {
    let mut evaluation = Evaluation::<_, Bounded>::new_in(code, encoding);
    evaluation.set_max_iterations(OPERATIONS);
    if let Some(value) = initial {
        evaluation.set_initial_value(value);
    }
    let mut state = evaluation.evaluate().ok()?;
    // Every round is at least one operation, and those are limited.
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = Value::Generic(registers.get(register)?);
                evaluation.resume_with_register(value).ok()?
            }
            EvaluationResult::RequiresMemory {
                address,
                size,
                space: None,
                ..
            } => {
                let value = Value::Generic(stack.read(address, size)?);
                evaluation.resume_with_memory(value).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.as_result() {
        [
            Piece {
                location: Location::Address { address },
                ..
            },
        ] => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use gimli::{EndianSlice, Format, LittleEndian};

    use super::*;

    const ENCODING: Encoding = Encoding {
        address_size: 8,
        format: Format::Dwarf32,
        version: 4,
    };

    fn value(code: &[u8], initial: Option<u64>) -> (Option<u64>, bool) {
        let words = [0x11_u64, 0x22, 0x33].map(u64::to_le_bytes).concat();
        let mut stack = Stack::new(0x7000, &words);
        let registers = Registers {
            sp: 0x7000,
            ..Registers::default()
        };
        let code = EndianSlice::new(code, LittleEndian);
        let value = evaluate(code, ENCODING, initial, &registers, &mut stack);
        (value, stack.too_short())
    }

    /// `DW_OP_bregN offset` for the stack pointer.
    fn stack_pointer_plus(offset: u8) -> [u8; 2] {
        [0x70 + super::super::arch::STACK_POINTER.0 as u8, offset]
    }

    #[test]
    fn an_expression_reads_registers_and_the_copied_stack() {
        let deref = 0x06;
        let code = [&stack_pointer_plus(8)[..], &[deref]].concat();
        assert_eq!(value(&code, None), (Some(0x22), false));
        let above = [&stack_pointer_plus(24)[..], &[deref]].concat();
        assert_eq!(value(&above, None), (None, true));
    }

    #[test]
    fn an_initial_value_can_be_added_to() {
        let plus_constant_3 = [0x23, 3];
        assert_eq!(value(&plus_constant_3, Some(4)).0, Some(7));
        assert_eq!(value(&plus_constant_3, None).0, None);
    }

    #[test]
    fn an_expression_that_never_ends_is_given_up() {
        let skip_to_itself = [0x2f, 0xfd, 0xff];
        assert_eq!(value(&skip_to_itself, None).0, None);
        let push_for_ever = [0x31, 0x2f, 0xfc, 0xff];
        assert_eq!(value(&push_for_ever, None).0, None);
    }

    #[test]
    fn what_needs_an_unknown_register_has_no_value() {
        let register_5 = [0x75, 0];
        assert_eq!(value(&register_5, None).0, None);
    }
}
