//! The kernel programs of tcpleak: one short function per hook.
//!
//! Lifecycle and accept hooks keep a record for each connection, the iterators of a survey read
//! every socket and join it with that record. For each job there are several hooks; user space
//! loads the best one that the running kernel takes.

#![no_std]
#![no_main]

mod kernel;
mod lifecycle;
mod maps;
mod path;
mod survey;

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, fexit, kretprobe, tracepoint},
    programs::{BtfTracePointContext, FExitContext, RetProbeContext, TracePointContext},
};
use kernel::{Address, Sock, sock_of_descriptor};
use path::Capture;

/// Any TCP state change; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    lifecycle::state_changed(
        &context,
        Address(context.arg(0)),
        context.arg(1),
        context.arg(2),
    );
    0
}

/// Any TCP state change; classic tracepoint. Fields: skaddr at 8, oldstate at 16, newstate at 20.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn inet_sock_set_state_classic(context: TracePointContext) -> i32 {
    let sock = Address(field(&context, 8));
    lifecycle::state_changed(&context, sock, field(&context, 16), field(&context, 20));
    0
}

/// The end of a socket; best form: BTF raw tracepoint.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(context: BtfTracePointContext) -> i32 {
    lifecycle::destroyed(context.arg(0));
    0
}

/// The end of a socket; classic tracepoint. Field: skaddr at 8.
#[tracepoint(category = "tcp", name = "tcp_destroy_sock")]
fn tcp_destroy_sock_classic(context: TracePointContext) -> i32 {
    lifecycle::destroyed(field(&context, 8));
    0
}

/// accept(); best form: the exit of the kernel function.
#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept(context: FExitContext) -> i32 {
    if let Ok(returned) = context.ret()
        && let Some(sock) = Sock::checked(Address(returned))
    {
        lifecycle::accepted(&context, sock);
    }
    0
}

/// accept(); kretprobe.
#[kretprobe(function = "inet_csk_accept")]
fn inet_csk_accept_return(context: RetProbeContext) -> u32 {
    if let Some(sock) = Sock::checked(Address(context.ret())) {
        lifecycle::accepted(&context, sock);
    }
    0
}

/// accept(), by its system call: the descriptor leads to the socket.
#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
fn sys_exit_accept(context: TracePointContext) -> i32 {
    accept_returned(&context)
}

/// accept4(), by its system call.
#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
fn sys_exit_accept4(context: TracePointContext) -> i32 {
    accept_returned(&context)
}

/// A read of any socket.
#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(context: BtfTracePointContext) -> i32 {
    const MSG_PEEK: i32 = 2;
    let (returned, flags): (i32, i32) = (context.arg(1), context.arg(2));
    let sock: u64 = context.arg(0);
    lifecycle::used(&context, sock, Capture::Receive, || {
        // A read of no bytes, and one after shutdown(SHUT_RD), return zero as well.
        returned == 0
            && flags & MSG_PEEK == 0
            && Sock::checked(Address(sock)).is_some_and(Sock::is_read_to_the_end)
    });
    0
}

/// A write to any socket.
#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(context: BtfTracePointContext) -> i32 {
    lifecycle::used(&context, context.arg(0), Capture::Send, || false);
    0
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

/// The return value of an accept system call: at 16 in the record of the tracepoint.
fn accept_returned(context: &TracePointContext) -> i32 {
    let descriptor: i64 = field(context, 16);
    if let Ok(descriptor) = u32::try_from(descriptor)
        && let Some(sock) = sock_of_descriptor(descriptor)
    {
        lifecycle::accepted(context, sock);
    }
    0
}

/// A field of a classic tracepoint's record.
fn field<T: Copy + Default>(context: &TracePointContext, offset: u32) -> T {
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
