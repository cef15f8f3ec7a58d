//! The same hooks for kernels that do not tell a program the user registers (before 5.15), see
//! [`Walked`]. Each is named as the hook that it stands in for, with `_walked` behind.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit, tracepoint},
    programs::{BtfTracePointContext, FExitContext, TracePointContext},
};
use tcpleak_ebpf::cost_slot::LIFECYCLE;

use crate::{
    accept_returned, cost::account, field, kernel::Address, length_received, length_sent,
    lifecycle, path::Walked, received, sent, taken,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_walked(context: BtfTracePointContext) -> i32 {
    let (sock, from, to) = (Address(context.arg(0)), context.arg(1), context.arg(2));
    account(LIFECYCLE, || {
        lifecycle::state_changed::<Walked>(&context, sock, from, to);
    });
    0
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn inet_sock_set_state_classic_walked(context: TracePointContext) -> i32 {
    let (sock, from, to) = (
        Address(field(&context, 8)),
        field(&context, 16),
        field(&context, 20),
    );
    account(LIFECYCLE, || {
        lifecycle::state_changed::<Walked>(&context, sock, from, to);
    });
    0
}

// What a function returned follows its arguments. Until 5.17 no helper tells where that is, so the
// places are those of the functions as they were from 5.5 to 5.14, when these programs are needed.

#[fexit(function = "inet_csk_accept")]
fn inet_csk_accept_walked(context: FExitContext) -> i32 {
    taken::<Walked>(&context, context.arg(4))
}

#[fexit(function = "tcp_recvmsg")]
fn tcp_recvmsg_walked(context: FExitContext) -> i32 {
    let (sock, flags, returned): (u64, i32, i32) = (context.arg(0), context.arg(4), context.arg(6));
    received::<Walked>(&context, sock, returned.into(), flags)
}

#[fexit(function = "tcp_sendmsg")]
fn tcp_sendmsg_walked(context: FExitContext) -> i32 {
    let (sock, returned): (u64, i32) = (context.arg(0), context.arg(3));
    sent::<Walked>(&context, sock, returned.into())
}

#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
fn sys_exit_accept_walked(context: TracePointContext) -> i32 {
    accept_returned::<Walked>(&context)
}

#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
fn sys_exit_accept4_walked(context: TracePointContext) -> i32 {
    accept_returned::<Walked>(&context)
}

#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length_walked(context: BtfTracePointContext) -> i32 {
    let (sock, returned, flags): (u64, i32, i32) = (context.arg(0), context.arg(1), context.arg(2));
    received::<Walked>(&context, sock, returned.into(), flags)
}

#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length_walked(context: BtfTracePointContext) -> i32 {
    let (sock, returned): (u64, i32) = (context.arg(0), context.arg(1));
    sent::<Walked>(&context, sock, returned.into())
}

#[tracepoint(category = "sock", name = "sock_recv_length")]
fn sock_recv_length_classic_walked(context: TracePointContext) -> i32 {
    length_received::<Walked>(&context)
}

#[tracepoint(category = "sock", name = "sock_send_length")]
fn sock_send_length_classic_walked(context: TracePointContext) -> i32 {
    length_sent::<Walked>(&context)
}
