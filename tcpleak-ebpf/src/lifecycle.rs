//! What happens to a connection, kept in its lifecycle record.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_cgroup_id, bpf_ktime_get_ns},
};
use aya_log_ebpf::{debug, warn};
use tcpleak_ebpf::{Connection, Counter, birth, tcp_state};

use crate::{
    kernel::{Sock, current_process},
    maps::{CONNECTIONS, count},
    path::{Capture, capture},
};

/// A socket goes from one TCP state to another.
///
/// Only the transitions that a system call causes look at the running process: the others happen in
/// whatever process the packet's interrupt met.
#[inline(always)]
pub fn state_changed(context: &impl EbpfContext, sock: Sock, from: u8, to: u8) {
    match (from, to) {
        (tcp_state::CLOSE, tcp_state::SYN_SENT) => connecting(context, sock),
        (tcp_state::SYN_SENT, tcp_state::ESTABLISHED) => connected(sock),
        (tcp_state::SYN_RECV, tcp_state::ESTABLISHED) => {
            keep(context, sock, &new_record(sock, birth::PENDING));
        }
        (_, tcp_state::CLOSE_WAIT) => peer_gone(context, sock),
        (tcp_state::ESTABLISHED, tcp_state::FIN_WAIT1)
        | (tcp_state::CLOSE_WAIT, tcp_state::LAST_ACK) => closed(context, sock),
        // Nobody is left to leak an orphan, and a connection that never was has no peer.
        (tcp_state::SYN_SENT | tcp_state::SYN_RECV | tcp_state::LISTEN, tcp_state::CLOSE) => {}
        (_, tcp_state::CLOSE) if !sock.is_orphaned() => peer_gone(context, sock),
        _ => {}
    }
}

/// The kernel frees a socket.
#[inline(always)]
pub fn destroyed(sock: u64) {
    // Most sockets of a host have no record: not finding one is no error.
    let _ = CONNECTIONS.remove(sock);
}

/// A process takes a connection from a listener.
#[inline(always)]
pub fn accepted(context: &impl EbpfContext, sock: Sock) {
    match CONNECTIONS.get_ptr_mut(sock.key()) {
        Some(record) => {
            // SAFETY: entries are freed only after a grace period, and this one's writers are the
            // hooks of one socket, which the kernel runs one after another.
            let record = unsafe { &mut *record };
            if record.birth == birth::PENDING {
                own(context, record, birth::ACCEPTED, Capture::Accept);
            }
        }
        None => {
            let mut record = new_record(sock, birth::PENDING);
            own(context, &mut record, birth::ACCEPTED, Capture::Accept);
            keep(context, sock, &record);
        }
    }
}

/// A process reads from or writes to some socket, TCP or not. Claims a connection whose accept()
/// was not seen.
#[inline(always)]
pub fn used(context: &impl EbpfContext, sock: u64, capture: Capture, read_end_of_file: impl FnOnce() -> bool) {
    let Some(record) = CONNECTIONS.get_ptr_mut(sock) else {
        return;
    };
    // SAFETY: as in `accepted`.
    let record = unsafe { &mut *record };
    if record.birth == birth::PENDING {
        own(context, record, birth::FIRST_USED, capture);
    }
    if record.eof_read_at == 0 && read_end_of_file() {
        record.eof_read_at = now();
    }
}

fn connecting(context: &impl EbpfContext, sock: Sock) {
    let mut record = new_record(sock, birth::PENDING);
    own(context, &mut record, birth::CONNECTED, Capture::State);
    keep(context, sock, &record);
}

/// The local port is known only now.
fn connected(sock: Sock) {
    if let Some(record) = CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: as in `accepted`.
        unsafe { (*record).ends = sock.endpoints() };
    }
}

fn peer_gone(context: &impl EbpfContext, sock: Sock) {
    match CONNECTIONS.get_ptr_mut(sock.key()) {
        Some(record) => {
            // SAFETY: as in `accepted`.
            let record = unsafe { &mut *record };
            if record.peer_gone_at == 0 {
                record.peer_gone_at = now();
            }
        }
        // Older than the tracer: its opener is lost, the age of its leak is not.
        None => {
            let mut record = new_record(sock, birth::BEFORE_TRACER);
            record.opened_at = 0;
            record.peer_gone_at = now();
            keep(context, sock, &record);
        }
    }
}

fn closed(_context: &impl EbpfContext, sock: Sock) {
    let Some(record) = CONNECTIONS.get_ptr_mut(sock.key()) else {
        return;
    };
    // SAFETY: as in `accepted`.
    let record = unsafe { &mut *record };
    record.closed_at = now();
    if let Some(task) = current_process() {
        record.closer = task;
    }
}

#[inline(always)]
fn new_record(sock: Sock, birth: u8) -> Connection {
    Connection { opened_at: now(), ends: sock.endpoints(), birth, ..Connection::default() }
}

/// Writes the running process into a record. A kernel thread's connection stays without an owner.
#[inline(always)]
fn own(context: &impl EbpfContext, record: &mut Connection, birth: u8, slot: Capture) {
    record.birth = birth;
    let Some(task) = current_process() else {
        return;
    };
    record.origin = capture(context, slot, &task);
    record.opener = task;
    // SAFETY: the helper takes nothing and returns a number.
    record.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    debug!(context, "process {} opened a connection, code path {:x}", task.tgid, record.origin);
}

#[inline(always)]
fn keep(context: &impl EbpfContext, sock: Sock, record: &Connection) {
    if CONNECTIONS.insert(sock.key(), record, 0).is_err() {
        count(Counter::ConnectionsDropped);
        warn!(context, "a connection was not recorded: the map is full");
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}
