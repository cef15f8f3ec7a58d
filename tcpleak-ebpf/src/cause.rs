//! Whether what happens to a socket is the work of the system call that the running thread is in.
//!
//! io_uring finishes what had to wait whenever a thread that asked for something is about to return
//! to its program: from any system call, or from an interrupt. The stack is then that of code which
//! has nothing to do with it.

use crate::{
    kernel::{Address, current_uses_io_uring, sock_of_descriptor},
    path::Capture,
    registers::system_call,
};
use tcpleak_ebpf::tcp_state;

/// The same on every architecture.
const IO_URING_ENTER: i32 = 426;

/// Why something happens to a socket.
pub enum Cause {
    /// The thread asks for it, by this system call.
    ThisCall,
    /// io_uring does it, as the thread asks for work or waits for it.
    RingCall,
    /// io_uring does it while the thread is at something else.
    RingInBetween,
}

/// Why something happens to the socket at this address, by the user registers of the running thread.
///
/// Nearly every call on a socket has its descriptor as first argument; accept() that of the listener.
/// In a thread that uses io_uring, one that has not is taken for io_uring's doing: that costs a code
/// path, and never shows a wrong one.
#[inline(always)]
pub fn of(saved: Address, slot: Capture, sock: u64) -> Cause {
    if !current_uses_io_uring() {
        return Cause::ThisCall;
    }
    let (call, descriptor) = system_call(saved);
    if call == IO_URING_ENTER {
        return Cause::RingCall;
    }
    let asked = match sock_of_descriptor(descriptor) {
        _ if call < 0 => false,
        Some(named) if matches!(slot, Capture::Accept) => named.state() == tcp_state::LISTEN,
        Some(named) => named.is(sock),
        None => false,
    };
    if asked {
        Cause::ThisCall
    } else {
        Cause::RingInBetween
    }
}
