//! The two iterators: every holder of every TCP socket, and every TCP socket of a namespace.

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::bpf_seq_write};
use tcpleak_ebpf::{Connection, Sighting, Task, tcp_state};

use crate::{
    kernel::{self, Address, Sock},
    maps::{CONNECTIONS, SIGHTING_SCRATCH, SURVEY_MARK, SUSPECTS, count, count_state},
};

/// `struct bpf_iter_meta`
#[repr(C)]
pub struct Meta {
    seq: *mut c_void,
    session: u64,
    sequence: u64,
}

/// `struct bpf_iter__task_file`
#[repr(C)]
pub struct TaskFile {
    meta: *mut Meta,
    task: *mut c_void,
    fd: u32,
    padding: u32,
    file: *mut c_void,
}

/// `struct bpf_iter__tcp`
#[repr(C)]
pub struct Tcp {
    meta: *mut Meta,
    sock: *mut c_void,
    uid: u32,
    padding: u32,
}

impl TaskFile {
    /// One descriptor of one process. The last call of an iteration has no file.
    #[inline(always)]
    pub fn visit(&self) {
        if self.task.is_null() || self.file.is_null() {
            return;
        }
        let Some((sock, inode)) = Sock::of_file(Address(self.file as u64)) else {
            return;
        };
        let task = Address(self.task as u64);
        mark(sock);
        // SAFETY: only the presence of the entry is looked at.
        let suspect = unsafe { SUSPECTS.get(kernel::process_of(task)) }.is_some();
        // One that has no connection tells nothing of a pool, and looks like a dead one.
        if (suspect && sock.state() != tcp_state::CLOSE) || sock.is_remarkable() {
            let holder = Holder {
                task,
                inode,
                fd: self.fd,
            };
            write(self.meta, sock, Some(holder));
        }
    }
}

impl Tcp {
    /// One TCP socket of the namespace; its state is counted, and it is written when its peer is
    /// gone, because one without a holder is in an accept queue, or in flight between processes; and
    /// when it is closed, but not finished.
    #[inline(always)]
    pub fn visit(&self) {
        if self.sock.is_null() {
            return;
        }
        let address = Address(self.sock as u64);
        let state: u8 = address.read(kernel::offset!(sk_state));
        count_state(state);
        // The small sockets of unfinished handshakes and of TIME_WAIT end where a `struct sock`
        // goes on: nothing but the state may be read from them.
        if state == tcp_state::TIME_WAIT || state == tcp_state::NEW_SYN_RECV {
            return;
        }
        let Some(sock) = Sock::checked(address) else {
            return;
        };
        mark(sock);
        if sock.is_remarkable_unheld(state) {
            write(self.meta, sock, None);
        }
    }
}

/// Tells a later sweep that the socket of this record exists.
#[inline(always)]
fn mark(sock: Sock) {
    let Some(&survey) = SURVEY_MARK.get(0) else {
        return;
    };
    if survey == 0 {
        return;
    }
    if let Some(record) = CONNECTIONS.get_ptr_mut(sock.key()) {
        // SAFETY: entries are freed only after a grace period; nothing else writes this member.
        unsafe { (*record).survey = survey };
    }
}

/// A process that holds a socket, by which descriptor, and the inode number of the socket's file.
struct Holder {
    task: Address,
    inode: u64,
    fd: u32,
}

#[inline(always)]
fn write(meta: *mut Meta, sock: Sock, holder: Option<Holder>) {
    let Some(sighting) = SIGHTING_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: one iterator runs at a time, so the slot of this CPU is this program's alone.
    let sighting: &mut Sighting = unsafe { &mut *sighting };
    sock.describe(&mut sighting.socket);
    match holder {
        Some(holder) => {
            sighting.socket.inode = holder.inode;
            kernel::describe_task(holder.task, &mut sighting.holder);
            sighting.fd = holder.fd;
        }
        None => {
            sighting.holder = Task::default();
            sighting.fd = 0;
        }
    }
    sighting.connection = Connection::default();
    // SAFETY: the record is copied before the program ends, within the grace period.
    if let Some(record) = unsafe { CONNECTIONS.get(sock.key()) } {
        if fits(record, sighting) {
            sighting.connection = *record;
        } else {
            count(|counters| &mut counters.stale_records);
        }
    }
    // SAFETY: `meta` is the iterator's own, and the record is as large as said.
    unsafe {
        bpf_seq_write(
            (*meta).seq.cast::<seq_file>(),
            (&raw const *sighting).cast(),
            size_of::<Sighting>() as u32,
        );
    }
}

/// Whether a record tells of this socket and not of an earlier one at its address.
#[inline(always)]
fn fits(record: &Connection, sighting: &Sighting) -> bool {
    let (then, now) = (&record.ends, &sighting.socket.ends);
    then.remote_port == now.remote_port
        && (then.local_port == 0 || then.local_port == now.local_port)
        && then.netns == now.netns
        && then.remote == now.remote
}
