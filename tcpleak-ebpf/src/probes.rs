//! The hooks of kernels that refuse the better ones: probes at the entry of kernel functions, and at
//! their return where nothing else tells the outcome. Those that end in `_walked` are for kernels
//! before 5.15, see [`crate::walked`].

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    calls::{self, receive_flags_at},
    path::{Copied, Stacks, Walked},
    received,
    registers::argument,
    sent, taken,
};

/// accept(): the kernel gives the connection to the file of the process. It does so once it has
/// waited for one, so calls that wait while tcpleak starts are seen too.
#[kprobe(function = "security_sock_graft")]
fn security_sock_graft(context: ProbeContext) -> u32 {
    taken::<Copied>(&context, argument(&context, 0)) as u32
}

#[kprobe(function = "security_sock_graft")]
fn security_sock_graft_walked(context: ProbeContext) -> u32 {
    taken::<Walked>(&context, argument(&context, 0)) as u32
}

/// accept(), by the return of the function that waits for a connection.
#[kretprobe(function = "inet_csk_accept")]
fn inet_csk_accept_return(context: RetProbeContext) -> u32 {
    taken::<Copied>(&context, context.ret()) as u32
}

#[kretprobe(function = "inet_csk_accept")]
fn inet_csk_accept_return_walked(context: RetProbeContext) -> u32 {
    taken::<Walked>(&context, context.ret()) as u32
}

/// A read of a TCP socket begins: what is asked for.
#[kprobe(function = "tcp_recvmsg")]
fn tcp_recvmsg_entry(context: ProbeContext) -> u32 {
    let flags = match receive_flags_at() {
        4 => argument(&context, 4),
        _ => argument(&context, 3),
    };
    calls::begin(argument(&context, 0), flags);
    0
}

/// A read of a TCP socket has taken what there was, or waits for more: what came of it.
#[kprobe(function = "tcp_cleanup_rbuf")]
fn tcp_cleanup_rbuf(context: ProbeContext) -> u32 {
    read_so_far::<Copied>(&context)
}

#[kprobe(function = "tcp_cleanup_rbuf")]
fn tcp_cleanup_rbuf_walked(context: ProbeContext) -> u32 {
    read_so_far::<Walked>(&context)
}

/// A write to a TCP socket begins.
#[kprobe(function = "tcp_sendmsg")]
fn tcp_sendmsg_entry(context: ProbeContext) -> u32 {
    calls::begin(argument(&context, 0), 0);
    0
}

/// A write to a TCP socket ends.
#[kretprobe(function = "tcp_sendmsg")]
fn tcp_sendmsg_return(context: RetProbeContext) -> u32 {
    written::<Copied>(&context)
}

#[kretprobe(function = "tcp_sendmsg")]
fn tcp_sendmsg_return_walked(context: RetProbeContext) -> u32 {
    written::<Walked>(&context)
}

/// The kernel tidies up a receive queue: at the end of each read, and before a read waits, but also
/// for others, in whatever process an interrupt met. So it counts only within a read of the thread.
///
/// Zero bytes are the end of the file or nothing at all. Which, [`received`] finds out: while a read
/// goes on, no FIN gets through to its socket, so one that waits has not been read to the end.
#[inline(always)]
fn read_so_far<S: Stacks>(context: &ProbeContext) -> u32 {
    let copied: i32 = argument(context, 1);
    let sock = argument(context, 0);
    match calls::under_way(sock) {
        Some(flags) => {
            // The rest of the same read counts no more.
            if copied != 0 {
                calls::end();
            }
            received::<S>(context, sock, copied.into(), flags) as u32
        }
        None => 0,
    }
}

#[inline(always)]
fn written<S: Stacks>(context: &RetProbeContext) -> u32 {
    match calls::end() {
        Some(call) => {
            let returned: i32 = context.ret();
            sent::<S>(context, call.sock, returned.into()) as u32
        }
        None => 0,
    }
}
