//! How much is captured: a bucket for each process, and one for the host.
//!
//! A bucket is the time until which its rate is used up: each capture adds one interval, and none is
//! allowed that would lead further ahead than the burst. What matters less may use up less of the
//! burst, so under pressure it is shed first. Two CPUs may both take the last of it: that is a
//! capture more, and no harm.

//!
//! Buckets are about time, the ring is about how fast user space comes to read it. When it is half full,
//! the rest is for processes that were captured but a few times: one that does much at once would have it
//! all otherwise, and the only path of another would be lost.

use tcpleak_ebpf::Limits;

use crate::maps::{HOST_BUCKET, LIMITS, PATHS, PATHS_BYTES, PROCESS_BUCKETS, SUSPECTS};

/// Captures of a process at once that the second half of the ring has room for.
const FEW: u64 = 16;
/// What the ring is asked for: the bytes in it that were not read yet.
const UNREAD_BYTES: u64 = 0;

/// What is to be captured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The opening of a connection.
    Origin,
    /// A read or a write.
    Use,
    /// That this side was the first to close a connection.
    Close,
}

/// Whether a process may be captured now; it counts as done.
#[inline(always)]
pub fn permit(subject: Subject, tgid: u32, now: u64) -> bool {
    let Some(limits) = LIMITS.get(0) else {
        return false;
    };
    let Some(host) = HOST_BUCKET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: it points into a map of one entry, which is never freed.
    let host = unsafe { &mut *host };
    let Limits {
        process_interval,
        process_burst,
        host_interval,
        host_burst,
    } = *limits;
    let host_next = next(*host, now, host_interval);
    let quarters = if subject == Subject::Origin { 2 } else { 1 };
    let quarter = host_burst / 4;
    // Under load most end here. One that leaks may use up more.
    if host_next.wrapping_sub(now) > quarter * quarters
        && (host_next.wrapping_sub(now) > quarter * (quarters + 2) || !is_suspect(tgid))
    {
        return false;
    }
    let Some(process) = process_bucket(tgid) else {
        return false;
    };
    // SAFETY: entries are freed only after a grace period.
    let process = unsafe { &mut *process };
    let process_next = next(*process, now, process_interval);
    let half = if subject == Subject::Origin { 2 } else { 1 };
    if process_next.wrapping_sub(now) > process_burst / 2 * half {
        return false;
    }
    let many = process_next.wrapping_sub(now) > process_interval.wrapping_mul(FEW);
    if many && PATHS.query(UNREAD_BYTES) > u64::from(PATHS_BYTES) / 2 {
        return false;
    }
    *process = process_next;
    *host = host_next;
    true
}

#[inline(always)]
fn next(used_up_until: u64, now: u64, interval: u64) -> u64 {
    let from = if used_up_until > now {
        used_up_until
    } else {
        now
    };
    from.wrapping_add(interval)
}

#[inline(always)]
fn is_suspect(tgid: u32) -> bool {
    // SAFETY: only the presence of the entry is looked at.
    unsafe { SUSPECTS.get(tgid) }.is_some()
}

#[inline(always)]
fn process_bucket(tgid: u32) -> Option<*mut u64> {
    if let Some(bucket) = PROCESS_BUCKETS.get_ptr_mut(tgid) {
        return Some(bucket);
    }
    PROCESS_BUCKETS.insert(tgid, 0, 0).ok()?;
    PROCESS_BUCKETS.get_ptr_mut(tgid)
}
