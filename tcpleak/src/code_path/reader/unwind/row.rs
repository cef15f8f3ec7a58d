//! One row of unwind information: how the registers of the caller are found at one address.

use gimli::{Encoding, EndianSlice, LittleEndian};

use super::{arch, expression, registers::Registers, stack::Stack};

/// How the canonical frame address is found.
pub type CfaRule = gimli::CfaRule<usize>;
/// How the caller's value of a register is found.
pub type RegisterRule = gimli::RegisterRule<usize>;
/// Bytes of unwind information.
pub type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The rules that hold at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The canonical frame address: the caller's stack pointer, unless a rule says otherwise.
    pub cfa: CfaRule,
    /// Where the caller goes on.
    pub return_address: Option<RegisterRule>,
    /// The caller's stack pointer.
    pub stack_pointer: Option<RegisterRule>,
    /// The caller's frame pointer.
    pub frame_pointer: Option<RegisterRule>,
    /// The caller's link register, where that is not the return address.
    pub link: Option<RegisterRule>,
    /// Whether the unwind information tells if the return address is signed here.
    pub may_be_signed: bool,
    /// Whether the code is a signal trampoline: its "caller" was interrupted and did not call.
    pub is_signal: bool,
    /// How expressions are to be read.
    pub encoding: Encoding,
}

impl Row {
    /// Whether the row says that nothing called this code.
    pub fn is_outermost(&self) -> bool {
        self.return_address == Some(RegisterRule::Undefined)
    }

    /// The stack pointer, by a frame pointer that points to where the caller's is saved.
    pub fn stack_pointer_by(&self, frame_pointer: u64) -> Option<u64> {
        let CfaRule::RegisterAndOffset { register, offset } = self.cfa else {
            return None;
        };
        let Some(RegisterRule::Offset(saved)) = self.frame_pointer else {
            return None;
        };
        let by_stack_pointer = register == arch::STACK_POINTER;
        let cfa = frame_pointer.checked_add_signed(saved.checked_neg()?)?;
        cfa.checked_add_signed(offset.checked_neg()?)
            .filter(|_| by_stack_pointer)
    }

    /// The registers of the caller. `innermost` is set where the registers are those of running
    /// code, not restored ones. `section` holds the expressions that the row refers to.
    pub fn caller(
        &self,
        section: Bytes<'_>,
        registers: &Registers,
        stack: &mut Stack<'_>,
        innermost: bool,
    ) -> Option<Registers> {
        let mut frame = Frame {
            row: self,
            section,
            registers,
            stack,
            cfa: 0,
        };
        frame.cfa = frame.canonical_frame_address()?;
        let pc = match &self.return_address {
            None | Some(RegisterRule::SameValue) => Some(registers)
                .filter(|_| innermost)
                .and_then(arch::implied_return_address)?,
            Some(rule) => frame.value(rule, arch::return_address_register(registers))?,
        };
        let sp = match &self.stack_pointer {
            None => frame.cfa,
            Some(rule) => frame.value(rule, registers.sp)?,
        };
        let fp = match &self.frame_pointer {
            None | Some(RegisterRule::Undefined) => registers.fp,
            Some(rule) => match frame.value(rule, registers.fp) {
                Some(fp) => fp,
                // Where a function ends, the rule may still lead to where it had saved the
                // register, below the stack pointer by then, although it has restored it.
                None if innermost => registers.fp,
                None => return None,
            },
        };
        let mut caller = arch::returned(pc, sp, fp);
        if self.is_signal
            && let Some(rule) = &self.link
        {
            caller.lr = frame.value(rule, registers.lr)?;
        }
        Some(caller)
    }
}

/// A frame whose caller is looked for.
struct Frame<'a, 's> {
    row: &'a Row,
    section: Bytes<'a>,
    registers: &'a Registers,
    stack: &'a mut Stack<'s>,
    cfa: u64,
}

impl Frame<'_, '_> {
    fn canonical_frame_address(&mut self) -> Option<u64> {
        match &self.row.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.registers.get(*register)?.checked_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    fn value(&mut self, rule: &RegisterRule, same: u64) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => Some(same),
            RegisterRule::Offset(offset) => self.stack.word(self.cfa.checked_add_signed(*offset)?),
            RegisterRule::ValOffset(offset) => self.cfa.checked_add_signed(*offset),
            RegisterRule::Register(register) => self.registers.get(*register),
            RegisterRule::Expression(expression) => {
                let address = self.evaluate(expression, Some(self.cfa))?;
                self.stack.word(address)
            }
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(self.cfa)),
            _ => None,
        }
    }

    fn evaluate(
        &mut self,
        expression: &gimli::UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Option<u64> {
        let end = expression.offset.checked_add(expression.length)?;
        let code = self.section.slice().get(expression.offset..end)?;
        let code = EndianSlice::new(code, LittleEndian);
        expression::evaluate(code, self.row.encoding, initial, self.registers, self.stack)
    }
}
