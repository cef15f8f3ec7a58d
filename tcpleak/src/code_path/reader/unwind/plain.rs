//! framehop, for the rows that it has rules for.
//!
//! framehop keeps such rules compactly by address. Other rows are not for it: where it cannot
//! follow one it takes the frame pointer instead and does not say so, it does not read memory in
//! expressions, and an expression that never ends keeps it for ever.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, Module, MustNotAllocateDuringUnwind,
    Unwinder, UnwinderNative,
};

use super::{
    super::file_bytes::FileBytes, arch, registers::Registers, stack::Stack, table::Addresses,
};

/// Rules found before. One cache serves any number of files: each has rules of its own in it.
pub type Cache = CacheNative<MustNotAllocateDuringUnwind>;

/// The plain rows of a file, by the addresses that the file itself uses.
pub struct Plain(UnwinderNative<FileBytes, MustNotAllocateDuringUnwind>);

impl Plain {
    /// The rows of `.eh_frame`, found through `.eh_frame_hdr`.
    pub fn new(eh_frame: &FileBytes, eh_frame_hdr: &FileBytes, addresses: &Addresses) -> Self {
        let at = |start: u64| Some(start..start);
        let sections = ExplicitModuleSectionInfo {
            text_svma: at(addresses.text),
            got_svma: at(addresses.got),
            eh_frame_svma: at(addresses.eh_frame),
            eh_frame_hdr_svma: at(addresses.eh_frame_hdr),
            eh_frame: Some(eh_frame.clone()),
            eh_frame_hdr: Some(eh_frame_hdr.clone()),
            ..Default::default()
        };
        let mut unwinder = UnwinderNative::new();
        unwinder.add_module(Module::new(String::new(), 0..u64::MAX, 0, sections));
        Self(unwinder)
    }

    /// The registers of the caller. The row at `address` must be plain.
    pub fn caller(
        &self,
        address: FrameAddress,
        registers: &Registers,
        stack: &mut Stack<'_>,
        cache: &mut Cache,
    ) -> Option<Registers> {
        let mut framehop = arch::to_framehop(registers);
        let mut word = |address| stack.word(address).ok_or(());
        let pc = (self.0)
            .unwind_frame(address, &mut framehop, cache, &mut word)
            .ok()?;
        // Only a return address of zero ends it in a plain row.
        Some(arch::from_framehop(pc.unwrap_or(0), &framehop))
    }
}
