//! What containers are called, from the files of what started them.
//!
//! They are read through the root of the first process: tcpleak itself may be in a container, and need
//! not have the host's files mounted there for that. What is found is remembered, and for a while also
//! that nothing was.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use lru::LruCache;

use super::{records, tree::Tree};
use crate::report::Container;

/// The files of the host, whatever mount namespace this is; and where the first process may not be looked
/// into, those that tcpleak itself sees.
const HOST: [&str; 2] = ["/proc/1/root", "/"];
/// Most containers that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// How long it is good that nothing was found: a container may run before all is written about it.
const AGAIN: Duration = Duration::from_secs(30);
/// Most containers that are looked for in a [`WINDOW`]: anybody who may make control groups can have as
/// many names of containers as he likes.
const LOOKS: u32 = 64;
/// The time that [`LOOKS`] counts in.
const WINDOW: Duration = Duration::from_secs(10);

/// A file about one container, in a directory named by its id.
struct Record {
    directory: &'static str,
    file: &'static str,
    /// The runtime that writes it.
    runtime: &'static str,
    read: fn(&[u8]) -> Container,
}

const fn bundle(directory: &'static str, file: &'static str, runtime: &'static str) -> Record {
    Record {
        directory,
        file,
        runtime,
        read: records::oci,
    }
}

const RECORDS: [Record; 7] = [
    bundle(
        "run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
        "containerd",
    ),
    // K3s and RKE2, k0s, MicroK8s.
    bundle(
        "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
        "containerd",
    ),
    bundle(
        "run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
        "containerd",
    ),
    bundle(
        "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
        "containerd",
    ),
    bundle(
        "run/containers/storage/overlay-containers",
        "userdata/config.json",
        "crio",
    ),
    bundle(
        "var/lib/containers/storage/overlay-containers",
        "userdata/config.json",
        "crio",
    ),
    Record {
        directory: "var/lib/docker/containers",
        file: "config.v2.json",
        runtime: "docker",
        read: records::docker,
    },
];

/// Podman's records of all containers; the second one has those that are gone after a start of the host.
const STORAGE: [&str; 2] = [
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/containers/storage/overlay-containers/volatile-containers.json",
];

/// The names of containers.
#[derive(Debug)]
pub struct Names {
    /// The first one that can be opened counts.
    roots: Vec<PathBuf>,
    known: LruCache<String, Known>,
    /// When the present window began, and how many containers were looked for in it.
    window: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Known {
    names: Container,
    looked_at: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self::below(HOST.map(PathBuf::from))
    }
}

impl Names {
    /// The names that the files below a directory tell: the first of these that can be opened.
    pub fn below(roots: impl Into<Vec<PathBuf>>) -> Self {
        Self {
            roots: roots.into(),
            known: LruCache::new(REMEMBERED),
            window: None,
        }
    }

    /// Adds what is known of a container to what its control group says. What the files do not tell, or
    /// may not be read, stays unknown.
    pub fn complete(&mut self, container: &mut Container, now: Instant) {
        if let Some(known) = self.known.get(&container.id)
            && (has_name(&known.names) || now.saturating_duration_since(known.looked_at) < AGAIN)
        {
            return fill(container, &known.names);
        }
        if !self.may_look(now) {
            return;
        }
        let mut trees = self.roots.iter().map(|root| Tree::at(root));
        if let Some(tree) = trees.find_map(Result::ok) {
            look(&tree, container);
        }
        let known = Known {
            names: container.clone(),
            looked_at: now,
        };
        self.known.put(container.id.clone(), known);
    }

    fn may_look(&mut self, now: Instant) -> bool {
        let open = self
            .window
            .filter(|(start, _)| now.saturating_duration_since(*start) < WINDOW);
        let (start, looks) = open.unwrap_or((now, 0));
        self.window = Some((start, looks.saturating_add(1)));
        looks < LOOKS
    }
}

/// Looks where each runtime writes, and then at what the kubelet names after pods.
fn look(tree: &Tree, container: &mut Container) {
    for record in RECORDS {
        let path = format!("{}/{}/{}", record.directory, container.id, record.file);
        let Ok(text) = tree.read(&path) else { continue };
        let mut found = (record.read)(&text);
        if has_name(&found) {
            found.runtime = Some(record.runtime.to_owned());
            fill(container, &found);
        }
    }
    for path in STORAGE {
        if container.name.is_some() && container.image.is_some() {
            break;
        }
        if let Ok(text) = tree.read(path) {
            fill(container, &records::storage(&text, &container.id));
        }
    }
    if container.pod.is_none() {
        let made = |entry: &str| records::log_link(entry, &container.id);
        if let Some(found) = tree.find("var/log/containers", made) {
            fill(container, &found);
        }
    }
    if container.pod.is_none()
        && let Some(pod_uid) = &container.pod_uid
        && let Some(found) = tree.find("var/log/pods", |entry| {
            records::log_directory(entry, pod_uid)
        })
    {
        fill(container, &found);
    }
}

fn has_name(container: &Container) -> bool {
    container.name.is_some() || container.pod.is_some()
}

/// Adds what is not known yet.
fn fill(container: &mut Container, found: &Container) {
    let fields = [
        (&mut container.runtime, &found.runtime),
        (&mut container.name, &found.name),
        (&mut container.image, &found.image),
        (&mut container.pod, &found.pod),
        (&mut container.namespace, &found.namespace),
        (&mut container.pod_uid, &found.pod_uid),
    ];
    for (field, found) in fields {
        if field.is_none() {
            field.clone_from(found);
        }
    }
}

#[cfg(test)]
mod tests;
