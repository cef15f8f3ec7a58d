//! The kernel programs of tcpleak: one short function per hook.
//!
//! Lifecycle and accept hooks keep a record for each connection, the iterators of a survey read
//! every socket and join it with that record. For each job there are several hooks; user space
//! loads the best one that the running kernel takes. Those in [`probes`] are for kernels that refuse
//! the better ones, those in [`walked`] for kernels that do not tell a program the user registers.

#![no_std]
#![no_main]

mod calls;
mod cause;
mod chain;
mod closes;
mod cost;
mod followed;
mod kernel;
mod lifecycle;
mod limits;
mod maps;
mod path;
mod probes;
mod registers;
mod started;
mod survey;
mod walk;
mod walked;

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_func_arg,
    macros::{btf_tracepoint, fexit, tracepoint},
    programs::{BtfTracePointContext, FExitContext, TracePointContext},
};
use calls::receive_flags_at;
use cost::account;
use kernel::{Address, Sock, sock_of_descriptor};
use lifecycle::Outcome;
use path::{Capture, Copied, Stacks};
use tcpleak_ebpf::cost_slot::{LIFECYCLE, USE};

/// Any TCP state change; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    let (sock, from, to) = (Address(context.arg(0)), context.arg(1), context.arg(2));
    account(LIFECYCLE, || {
        lifecycle::state_changed::<Copied>(&context, sock, from, to);
    });
    0
}

/// Any TCP state change; classic tracepoint. Fields: skaddr at 8, oldstate at 16, newstate at 20.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn inet_sock_set_state_classic(context: TracePointContext) -> i32 {
    let (sock, from, to) = (
        Address(field(&context, 8)),
        field(&context, 16),
        field(&context, 20),
    );
    account(LIFECYCLE, || {
        lifecycle::state_changed::<Copied>(&context, sock, from, to);
    });
    0
}

/// The end of a socket; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(context: BtfTracePointContext) -> i32 {
    let sock = context.arg(0);
    account(LIFECYCLE, || lifecycle::destroyed(sock));
    0
}

/// The end of a socket; classic tracepoint. Field: skaddr at 8.
#[tracepoint(category = "tcp", name = "tcp_destroy_sock")]
fn tcp_destroy_sock_classic(context: TracePointContext) -> i32 {
    let sock = field(&context, 8);
    account(LIFECYCLE, || lifecycle::destroyed(sock));
    0
}

/// accept(); best form: the exit of the kernel function.
#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept(context: FExitContext) -> i32 {
    match context.ret() {
        Ok(returned) => taken::<Copied>(&context, returned),
        Err(_) => 0,
    }
}

/// accept(), by its system call: the descriptor leads to the socket.
#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
fn sys_exit_accept(context: TracePointContext) -> i32 {
    accept_returned::<Copied>(&context)
}

/// accept4(), by its system call.
#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
fn sys_exit_accept4(context: TracePointContext) -> i32 {
    accept_returned::<Copied>(&context)
}

/// A read of any socket; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(context: BtfTracePointContext) -> i32 {
    let (sock, returned, flags): (u64, i32, i32) = (context.arg(0), context.arg(1), context.arg(2));
    received::<Copied>(&context, sock, returned.into(), flags)
}

/// A write to any socket; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(context: BtfTracePointContext) -> i32 {
    let (sock, returned): (u64, i32) = (context.arg(0), context.arg(1));
    sent::<Copied>(&context, sock, returned.into())
}

/// A read of any socket; classic tracepoint.
#[tracepoint(category = "sock", name = "sock_recv_length")]
fn sock_recv_length_classic(context: TracePointContext) -> i32 {
    length_received::<Copied>(&context)
}

/// A write to any socket; classic tracepoint.
#[tracepoint(category = "sock", name = "sock_send_length")]
fn sock_send_length_classic(context: TracePointContext) -> i32 {
    length_sent::<Copied>(&context)
}

/// A read of a TCP socket; the exit of the kernel function.
#[fexit(function = "tcp_recvmsg")]
fn tcp_recvmsg(context: FExitContext) -> i32 {
    match context.ret::<i32>() {
        Ok(returned) => received::<Copied>(
            &context,
            context.arg(0),
            returned.into(),
            flags_of(&context),
        ),
        Err(_) => 0,
    }
}

/// A write to a TCP socket; the exit of the kernel function.
#[fexit(function = "tcp_sendmsg")]
fn tcp_sendmsg(context: FExitContext) -> i32 {
    match context.ret::<i32>() {
        Ok(returned) => sent::<Copied>(&context, context.arg(0), returned.into()),
        Err(_) => 0,
    }
}

/// Survey: each descriptor of each process.
///
/// # Safety
/// Called by the kernel with the context of a task_file iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub unsafe extern "C" fn survey_holders(context: *mut survey::TaskFile) -> i32 {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*context).visit() };
    0
}

/// Survey: each TCP socket of a network namespace.
///
/// # Safety
/// Called by the kernel with the context of a tcp iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub unsafe extern "C" fn survey_sockets(context: *mut survey::Tcp) -> i32 {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*context).visit() };
    0
}

/// A process takes the connection `sock`, if that is one.
#[inline(always)]
fn taken<S: Stacks>(context: &impl EbpfContext, sock: u64) -> i32 {
    if let Some(sock) = Sock::checked(Address(sock)) {
        account(LIFECYCLE, || lifecycle::accepted::<S>(context, sock));
    }
    0
}

#[inline(always)]
fn received<S: Stacks>(context: &impl EbpfContext, sock: u64, returned: i64, flags: i32) -> i32 {
    const MSG_PEEK: i32 = 2;
    let outcome = Outcome {
        program: Capture::Receive,
        returned,
        peeked: flags & MSG_PEEK != 0,
    };
    account(USE, || lifecycle::used::<S>(context, sock, &outcome));
    0
}

#[inline(always)]
fn sent<S: Stacks>(context: &impl EbpfContext, sock: u64, returned: i64) -> i32 {
    let outcome = Outcome {
        program: Capture::Send,
        returned,
        peeked: false,
    };
    account(USE, || lifecycle::used::<S>(context, sock, &outcome));
    0
}

/// What a read came to, from a classic tracepoint. Fields: sk at 8, ret at 20, flags at 24.
#[inline(always)]
fn length_received<S: Stacks>(context: &TracePointContext) -> i32 {
    let (sock, returned, flags): (u64, i32, i32) =
        (field(context, 8), field(context, 20), field(context, 24));
    received::<S>(context, sock, returned.into(), flags)
}

/// What a write came to, from a classic tracepoint. Fields: sk at 8, ret at 20.
#[inline(always)]
fn length_sent<S: Stacks>(context: &TracePointContext) -> i32 {
    let (sock, returned): (u64, i32) = (field(context, 8), field(context, 20));
    sent::<S>(context, sock, returned.into())
}

/// The flags of tcp_recvmsg(), by the helper that takes the number of the argument as a value.
#[inline(always)]
fn flags_of(context: &FExitContext) -> i32 {
    let mut flags = 0;
    // SAFETY: the helper writes one number to its place.
    unsafe { bpf_get_func_arg(context.as_ptr(), receive_flags_at(), &mut flags) };
    flags as i32
}

/// The return value of an accept system call: at 16 in the record of the tracepoint.
fn accept_returned<S: Stacks>(context: &TracePointContext) -> i32 {
    let descriptor: i64 = field(context, 16);
    if let Ok(descriptor) = u32::try_from(descriptor)
        && let Some(sock) = sock_of_descriptor(descriptor)
    {
        account(LIFECYCLE, || lifecycle::accepted::<S>(context, sock));
    }
    0
}

/// A field of a classic tracepoint's record.
pub(crate) fn field<T: Copy + Default>(context: &TracePointContext, offset: u32) -> T {
    Address(context.as_ptr() as u64).read(offset)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
