//! The registers that unwinding needs.

use gimli::Register;
use serde::{Deserialize, Serialize};

use super::arch;

/// The registers of a thread that unwinding starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// Where the thread was.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer; any value where the code uses the register for something else.
    pub fp: u64,
    /// The link register of arm64; zero elsewhere.
    pub lr: u64,
}

impl Registers {
    /// The value of a register by its number in DWARF; none for one that is not kept.
    pub(super) fn get(&self, register: Register) -> Option<u64> {
        match register {
            arch::STACK_POINTER => Some(self.sp),
            arch::FRAME_POINTER => Some(self.fp),
            arch::RETURN_ADDRESS => Some(arch::return_address_register(self)),
            _ => None,
        }
    }
}
