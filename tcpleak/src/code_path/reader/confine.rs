//! What the reader gives up before it reads anything: every right that it does not need.

use std::io;

use rustix::{
    io::Errno,
    process::{Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_gid,
        set_thread_groups, set_thread_uid,
    },
};

/// Most memory of its own, in bytes. Mapped files do not count.
const MEMORY: u64 = 2 << 30;
/// Most descriptors: standard input and outputs, and the file that was just received.
const DESCRIPTORS: u64 = 16;
/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Gives up everything but standard input and memory.
///
/// # Errors
///
/// When a right that it has cannot be given up.
pub fn give_up_rights() -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Data, MEMORY)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    become_nobody()?;
    // A change of user clears it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Whoever may not change users has nothing to give up there.
fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let changed = set_thread_groups(&[])
        .and_then(|()| set_thread_gid(group))
        .and_then(|()| set_thread_uid(user));
    match changed {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
