//! Containers in the path of a control group.
//!
//! A runtime names the group of a container by the container's id, alone or after a word of its own. The
//! kubelet puts it below a group for the pod, which is named by the pod's uid.

use crate::report::Container;

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// A container, and where in the path it stands.
pub struct Found {
    /// Number of the part that names it.
    pub position: usize,
    /// Id, runtime and pod.
    pub container: Container,
    /// Whether its runtime put it into the unit that started it, which then is its own.
    pub is_of_unit: bool,
}

/// The innermost container.
pub fn innermost(parts: &[&str]) -> Option<Found> {
    let named = parts.iter().copied().map(Name::of).enumerate();
    let (position, name) = named.rev().find_map(|(at, name)| Some((at, name?)))?;
    let (around, runtime) = (&parts[..position], runtime(name.word));
    let is_docker = name.word.is_empty() && around.last() == Some(&"docker");
    let pod_uid = name.slice.and_then(pod_uid);
    let pod_uid = pod_uid.or_else(|| around.iter().rev().find_map(|part| self::pod_uid(part)));
    Some(Found {
        position,
        container: Container {
            id: name.id.to_owned(),
            runtime: runtime.or(is_docker.then_some("docker")).map(str::to_owned),
            pod_uid,
            ..Container::default()
        },
        is_of_unit: name.word == "libpod-payload",
    })
}

/// The name of a container's group.
struct Name<'a> {
    /// What stands before the id.
    word: &'a str,
    id: &'a str,
    /// Where the runtime was given a path for systemd and knows no systemd: the pod's slice.
    slice: Option<&'a str>,
}

impl<'a> Name<'a> {
    /// Takes it apart; none when it is not that of a container.
    fn of(part: &'a str) -> Option<Self> {
        let mut fields = part.rsplitn(3, ':');
        let last = fields.next()?;
        let (word, slice) = (fields.next(), fields.next());
        let name = last.strip_suffix(".scope").unwrap_or(last);
        let (word, id) = match word {
            Some(word) => (word, name),
            None => name.rsplit_once('-').unwrap_or(("", name)),
        };
        let is_known = word.is_empty() || runtime(word).is_some();
        (is_known && is_id(id)).then_some(Self { word, id, slice })
    }
}

/// The runtime that puts this word before the id. What watches a container from outside has a group with
/// another one.
fn runtime(word: &str) -> Option<&'static str> {
    match word {
        "cri-containerd" | "nerdctl" => Some("containerd"),
        "crio" => Some("crio"),
        "docker" => Some("docker"),
        "libpod" | "libpod-payload" => Some("podman"),
        _ => None,
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(is_digit)
}

/// The uid of the pod whose group this is: `podUID`, or `kubepods-…-podUID.slice` with `_` for `-`.
fn pod_uid(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod")?.1,
    };
    let uid = uid.replace('_', "-");
    // That of a pod that the kubelet has from a file is a hash, without dashes.
    let is_uid = match uid.len() {
        32 => uid.bytes().all(is_digit),
        36 => {
            let is_place = |(place, byte)| match place {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => is_digit(byte),
            };
            uid.bytes().enumerate().all(is_place)
        }
        _ => false,
    };
    is_uid.then_some(uid)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
