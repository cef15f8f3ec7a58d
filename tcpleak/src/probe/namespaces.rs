//! The network namespaces of the host, and work in each of them.
//!
//! A socket, and a tcp iterator, sees the network namespace in which it was made, so a thread of its
//! own enters each one. The list of namespaces is kept for a while.

use std::{fs::File, io, os::fd::AsFd, thread, time::Duration};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{NetworkNamespace, NetworkNamespaces, network_namespaces};

/// How long the list of namespaces is good for.
const REFRESH: Duration = Duration::from_secs(10);

/// Stands for the number of namespaces that are not known.
const HIDDEN: u32 = 0;

/// The network namespaces of the host.
#[derive(Default)]
pub struct Namespaces {
    found: NetworkNamespaces,
    listed_at: Option<Duration>,
}

impl Namespaces {
    /// Opens something in each namespace, and returns it with the inode number of the namespace. Those of
    /// processes that may not be looked into are one failure, with no number.
    /// `prepare` is called here, for each one; what it returns is called in the namespace, on a
    /// thread that ends with the job: a thread that has changed its namespace must do nothing else.
    pub fn in_each<T: Send, F: FnOnce() -> io::Result<T> + Send>(
        &mut self,
        now: Duration,
        mut prepare: impl FnMut() -> io::Result<F>,
    ) -> io::Result<Vec<(u32, io::Result<T>)>> {
        let is_due = |at: Duration| now.saturating_sub(at) >= REFRESH;
        if self.listed_at.is_none_or(is_due) {
            self.found = network_namespaces();
            self.listed_at = Some(now);
        }
        let NetworkNamespaces { known, hidden } = &self.found;
        let jobs: Vec<F> = known.iter().map(|_| prepare()).collect::<io::Result<_>>()?;
        let work = move || {
            let each = known.iter().zip(jobs);
            each.map(|(namespace, job)| (namespace.inode, enter(namespace).and_then(|()| job())))
                .collect()
        };
        let mut opened: Vec<_> =
            thread::scope(|scope| scope.spawn(work).join()).unwrap_or_default();
        if *hidden {
            opened.push((HIDDEN, Err(io::ErrorKind::PermissionDenied.into())));
        }
        Ok(opened)
    }

    /// Has the list made anew the next time. A namespace that could not be entered may have ended.
    pub fn look_again(&mut self) {
        self.listed_at = None;
    }
}

/// Moves this thread into a namespace.
fn enter(namespace: &NetworkNamespace) -> io::Result<()> {
    // No right is needed to stay where one is.
    if current_namespace() == Some(namespace.inode) {
        return Ok(());
    }
    let target = File::open(format!("/proc/{}/ns/net", namespace.pid))?;
    move_into_link_name_space(target.as_fd(), Some(LinkNameSpaceType::Network))?;
    // The process may have ended, and its number may be another's by now.
    if current_namespace() != Some(namespace.inode) {
        return Err(io::Error::other("the network namespace is gone"));
    }
    Ok(())
}

fn current_namespace() -> Option<u32> {
    let link = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}
