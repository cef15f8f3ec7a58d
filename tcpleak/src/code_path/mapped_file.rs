//! Files of other processes, mapped into memory for reading.
//!
//! Executables are large and few of their bytes are needed, so they are mapped. But whoever owns
//! such a file can cut it short at any time, and touching a page that is no longer there ends the
//! reader with SIGBUS. On a thread that asks for it, such a page reads as zeros instead.

use std::{
    cell::Cell,
    fs::File,
    io,
    mem::zeroed,
    ops::Deref,
    ptr,
    sync::{Once, OnceLock},
};

use memmap2::Mmap;

/// A file's contents. They may change at any time and mean nothing that was not checked.
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps the whole file.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes are only read, as plain integers and bytes whose every use is checked;
        // nothing relies on reading the same value twice. Missing pages: see above.
        unsafe { Mmap::map(file) }.map(Self)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

thread_local! {
    static SURVIVES: Cell<bool> = const { Cell::new(false) };
}

/// What SIGBUS did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// From now on, on this thread, pages that a mapped file has lost read as zeros.
pub fn survive_lost_pages() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: the structures are plain data for which zeros are valid, live across the calls,
        // and the handler has the signature that SA_SIGINFO asks for and only makes system calls.
        unsafe {
            let mut before: libc::sigaction = zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &mut before);
            let before = BEFORE.get_or_init(|| before);
            let mut action = *before;
            action.sa_sigaction = on_lost_page as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
        }
    });
    SURVIVES.set(true);
}

/// Puts a page of zeros where the lost one was and lets the read go on. Any other SIGBUS goes to
/// whoever had it before: the access faults again on return.
extern "C" fn on_lost_page(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands over a valid `info`; sysconf, mmap and sigaction are system calls
    // at most and leave no trace but errno, which is put back. The page replaced is one that the
    // running thread was about to read and that has nothing behind it any more.
    unsafe {
        let errno = *libc::__errno_location();
        let replaced = SURVIVES.get() && (*info).si_code == libc::BUS_ADRERR && {
            let size = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let page = (*info).si_addr() as usize / size * size;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(page as *mut _, size, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED
        };
        if !replaced && let Some(before) = BEFORE.get() {
            libc::sigaction(libc::SIGBUS, before, ptr::null_mut());
        }
        *libc::__errno_location() = errno;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_while_it_is_read_reads_as_zeros() {
        survive_lost_pages();
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 65536).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 65536], 65536).unwrap();
        let mapped = MappedFile::map(&file).unwrap();
        assert_eq!(mapped[65536], 7);
        file.set_len(0).unwrap();
        assert!(mapped.iter().all(|byte| *byte == 0));
        assert_eq!(mapped.len(), 3 * 65536);
    }
}
