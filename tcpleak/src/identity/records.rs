//! What runtimes and the kubelet write about a container. Pure: each takes what a file or a directory
//! says, and returns the names in it.

use std::collections::HashMap;

use serde::Deserialize;

use crate::report::Container;

/// Most bytes of a name: Kubernetes allows 253, and the names of images are longer. One that is cut
/// would be another one, so that a longer one is not known at all.
const NAME_BYTES: usize = 512;

/// The keys by which runtimes know one thing, the first that is there counts.
type Keys = &'static [&'static str];

const POD: Keys = &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const NAMESPACE: Keys = &[
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.pod.namespace",
];
const POD_UID: Keys = &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"];
const NAME: Keys = &[
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
];
const IMAGE: Keys = &[
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
];

/// From `config.json` of an OCI bundle, which containerd and CRI-O annotate.
pub fn oci(text: &[u8]) -> Container {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Bundle {
        annotations: HashMap<String, String>,
    }
    of_keys(parsed::<Bundle>(text).annotations)
}

/// From Docker's `config.v2.json`.
pub fn docker(text: &[u8]) -> Container {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Record {
        name: String,
        config: Config,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Config {
        image: String,
        labels: Option<HashMap<String, String>>,
    }
    let Record { name, config } = parsed(text);
    let labelled = of_keys(config.labels.unwrap_or_default());
    Container {
        name: labelled
            .name
            .or_else(|| bounded(name.strip_prefix('/').unwrap_or(&name))),
        image: bounded(&config.image),
        ..labelled
    }
}

/// From `containers.json` of the storage that Podman uses: one file about all containers.
pub fn storage(text: &[u8], id: &str) -> Container {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Record {
        id: String,
        /// A document by itself.
        metadata: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "kebab-case")]
    struct Metadata {
        name: String,
        image_name: String,
    }
    let records: Vec<Record> = parsed(text);
    let record = records.into_iter().find(|record| record.id == id);
    let metadata: Metadata = parsed(record.unwrap_or_default().metadata.as_bytes());
    Container {
        name: bounded(&metadata.name),
        image: bounded(&metadata.image_name),
        ..Container::default()
    }
}

/// From the name of a link in `/var/log/containers`, where it is that of the container:
/// `POD_NAMESPACE_NAME-ID.log`. The kubelet makes them.
pub fn log_link(link: &str, id: &str) -> Option<Container> {
    let names = link
        .strip_suffix(".log")?
        .strip_suffix(id)?
        .strip_suffix('-')?;
    // None of the names can have the character that parts them.
    let mut names = names.splitn(3, '_');
    Some(Container {
        pod: bounded(names.next()?),
        namespace: bounded(names.next()?),
        name: bounded(names.next()?),
        ..Container::default()
    })
}

/// From the name of a directory in `/var/log/pods`, where it is that of the pod: `NAMESPACE_POD_UID`.
pub fn log_directory(directory: &str, pod_uid: &str) -> Option<Container> {
    let names = directory.strip_suffix(pod_uid)?.strip_suffix('_')?;
    let (namespace, pod) = names.split_once('_')?;
    Some(Container {
        pod: bounded(pod),
        namespace: bounded(namespace),
        ..Container::default()
    })
}

fn of_keys(mut values: HashMap<String, String>) -> Container {
    let mut value = |keys: Keys| {
        let found = keys.iter().find_map(|key| values.remove(*key));
        found.and_then(|value| bounded(&value))
    };
    Container {
        name: value(NAME),
        image: value(IMAGE),
        pod: value(POD),
        namespace: value(NAMESPACE),
        pod_uid: value(POD_UID),
        ..Container::default()
    }
}

/// What is no document of this kind says nothing.
fn parsed<T: Default + for<'a> Deserialize<'a>>(text: &[u8]) -> T {
    serde_json::from_slice(text).unwrap_or_default()
}

fn bounded(name: &str) -> Option<String> {
    (1..=NAME_BYTES)
        .contains(&name.len())
        .then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_not_known() {
        let record = |length| format!(r#"{{"Name":"/{}"}}"#, "a".repeat(length));
        assert_eq!(docker(record(512).as_bytes()).name, Some("a".repeat(512)));
        assert_eq!(docker(record(513).as_bytes()), Container::default());
    }

    #[test]
    fn what_is_no_record_says_nothing() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "\u{0}",
            r#"{"annotations":7}"#,
            r#"{"Config":[]}"#,
            &deep,
        ] {
            let text = text.as_bytes();
            for found in [oci(text), docker(text), storage(text, "a")] {
                assert_eq!(found, Container::default());
            }
        }
        assert_eq!(
            storage(br#"[{"id":"a","metadata":"{"}]"#, "a"),
            Container::default()
        );
        assert_eq!(log_link("a_b_c-ID.log", "other"), None);
        assert_eq!(log_link("ab-ID.log", "ID"), None);
        assert_eq!(log_link("é", "ID"), None);
        assert_eq!(log_directory("uid", "uid"), None);
        assert_eq!(log_directory("a_uid", "uid"), None);
    }
}
