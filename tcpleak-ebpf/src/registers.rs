//! The user registers of the running thread, and the arguments of a probed function.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task_btf, bpf_task_pt_regs},
    programs::ProbeContext,
};
use tcpleak_ebpf::PathHeader;

use crate::kernel::Address;

/// Offsets into `struct pt_regs`, which is fixed for each architecture.
#[cfg(bpf_target_arch = "x86_64")]
mod place {
    pub const ARGUMENTS: [u32; 5] = [112, 104, 96, 88, 72];
    pub const PC: u32 = 128;
    pub const SP: u32 = 152;
    pub const FP: u32 = 32;
    /// The code segment tells whether the program is a 32-bit one.
    pub const MODE: u32 = 136;
    pub const MODE_MASK: u64 = 0xffff;
    pub const MODE_32_BIT: u64 = 0x23;
    pub const USER_MASK: u64 = u64::MAX;
    pub const USER_64_BIT: u64 = 0x33;
    pub const CALL: u32 = 120;
    pub const GOROUTINE: u32 = 8;
    pub const FIRST_ARGUMENT: u32 = ARGUMENTS[0];
}
#[cfg(bpf_target_arch = "aarch64")]
mod place {
    pub const ARGUMENTS: [u32; 5] = [0, 8, 16, 24, 32];
    pub const PC: u32 = 256;
    pub const SP: u32 = 248;
    pub const FP: u32 = 29 * 8;
    pub const LR: u32 = 30 * 8;
    /// The processor state tells whether the program is a 32-bit one.
    pub const MODE: u32 = 264;
    pub const MODE_MASK: u64 = 0x10;
    pub const MODE_32_BIT: u64 = 0x10;
    pub const USER_MASK: u64 = 0x1f;
    pub const USER_64_BIT: u64 = 0;
    pub const CALL: u32 = 280;
    pub const GOROUTINE: u32 = 28 * 8;
    /// The register itself holds what the call returns.
    pub const FIRST_ARGUMENT: u32 = 272;
}

/// Where the kernel saved the user registers of the running thread.
#[inline(always)]
pub fn saved() -> Address {
    // SAFETY: the helpers take the running task and give the place of its saved registers.
    Address(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
}

/// The system call that the running thread is in: its number, and its first argument as a descriptor.
/// The number is negative outside of one.
#[inline(always)]
pub fn system_call(saved: Address) -> (i32, u32) {
    (saved.read(place::CALL), saved.read(place::FIRST_ARGUMENT))
}

/// What the register holds in which Go keeps its goroutine.
#[inline(always)]
pub fn goroutine(saved: Address) -> u64 {
    saved.read(place::GOROUTINE)
}

/// Reads the user registers of the running thread. False for 32-bit programs.
#[inline(always)]
pub fn read(saved: Address, header: &mut PathHeader) -> bool {
    saved.read::<u64>(place::MODE) & place::MODE_MASK != place::MODE_32_BIT && fill(header, saved)
}

/// The same where no helper vouches for the place. False also when what is found there are no
/// registers of a 64-bit program.
#[inline(always)]
pub fn read_unproven(saved: Address, header: &mut PathHeader) -> bool {
    saved.read::<u64>(place::MODE) & place::USER_MASK == place::USER_64_BIT
        && fill(header, saved)
        && header.pc < USER_END
        && header.sp != 0
        && header.sp < USER_END
}

/// Above all addresses of programs, on either architecture.
const USER_END: u64 = 1 << 52;

#[inline(always)]
fn fill(header: &mut PathHeader, saved: Address) -> bool {
    header.pc = saved.read(place::PC);
    header.sp = saved.read(place::SP);
    header.fp = saved.read(place::FP);
    #[cfg(bpf_target_arch = "aarch64")]
    {
        header.lr = saved.read(place::LR);
    }
    #[cfg(not(bpf_target_arch = "aarch64"))]
    {
        header.lr = 0;
    }
    header.pc != 0
}

/// An argument of the kernel function that a probe is at.
#[inline(always)]
pub fn argument<T: Copy + Default>(context: &ProbeContext, number: usize) -> T {
    Address(context.as_ptr() as u64).read(place::ARGUMENTS[number])
}
