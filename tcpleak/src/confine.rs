//! What a process that works for tcpleak gives up before anything else: every right that it does not need.

use std::io;

use rustix::{
    io::Errno,
    process::{Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_gid,
        set_thread_groups, set_thread_uid,
    },
};

/// The user, and the group, that own nothing.
pub const NOBODY: u32 = 65_534;

/// What such a process, and each that it starts, may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of its own, in bytes. Mapped files do not count.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Makes this process one without rights: of the user nobody if users can be changed, without capabilities
/// and never to have any, within the limits. It ends with the thread that started it.
///
/// To be called before there is a second thread, as capabilities are those of a thread.
///
/// # Errors
///
/// When a right that it has cannot be given up.
pub fn give_up_rights(limits: Limits) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Data, limits.memory_bytes)?;
    limit(Resource::Nofile, limits.descriptors)?;
    become_nobody()?;
    // A change of user clears it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    Ok(keep_capabilities(CapabilitySet::empty())?)
}

/// Whoever may not change users has nothing to give up there.
fn become_nobody() -> io::Result<()> {
    match become_user(Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes this thread one of a user, in this group and no other.
///
/// # Errors
///
/// When it may not change users.
pub fn become_user(user: Uid, group: Gid) -> Result<(), Errno> {
    set_thread_groups(&[])?;
    set_thread_gid(group)?;
    set_thread_uid(user)
}

/// Leaves this thread these capabilities and no others, and none to the programs that it starts.
///
/// # Errors
///
/// When it does not have them.
pub fn keep_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

/// Lowers a limit for good.
///
/// # Errors
///
/// When it is lower already.
pub fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
