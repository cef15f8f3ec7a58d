//! Reads and writes that a pair of probes follows: what is asked for is known at the entry of the
//! kernel function, what came of it later.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::LruHashMap};

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// The socket.
    pub sock: u64,
    /// The flags of a read.
    pub flags: i32,
    /// Zero.
    pub reserved: i32,
}

/// Calls under way, by thread; of more than have room, those that wait longest go. What is left
/// behind by a call whose end is not seen goes the same way.
#[map]
static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(16_384, 0);

/// Which argument of tcp_recvmsg() holds the flags: another one stood before them until 5.18. Set by
/// the loader.
#[unsafe(no_mangle)]
static RECEIVE_FLAGS_AT: u32 = 3;

/// Which argument of tcp_recvmsg() holds the flags.
#[inline(always)]
pub fn receive_flags_at() -> u32 {
    // SAFETY: a plain read of an initialised static.
    unsafe { core::ptr::read_volatile(&raw const RECEIVE_FLAGS_AT) }
}

/// The entry of a call.
#[inline(always)]
pub fn begin(sock: u64, flags: i32) {
    let call = Call {
        sock,
        flags,
        reserved: 0,
    };
    // A call that finds no room is not followed.
    let _ = CALLS.insert(bpf_get_current_pid_tgid(), call, 0);
}

/// The flags of the running thread's call, when it has one on this socket.
#[inline(always)]
pub fn under_way(sock: u64) -> Option<i32> {
    // SAFETY: the entry is this thread's own, and copied from at once.
    let call = unsafe { CALLS.get(bpf_get_current_pid_tgid()) }?;
    (call.sock == sock).then_some(call.flags)
}

/// The end of a call.
#[inline(always)]
pub fn end() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the entry is this thread's own, and copied at once.
    let call = unsafe { CALLS.get(thread) }.copied();
    let _ = CALLS.remove(thread);
    call
}
