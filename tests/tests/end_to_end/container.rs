//! A leak is put down to its unit, its container and its pod.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::harness::{ControlGroup, Fixture, Server, leaks, reset, run};

const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";

/// Process and text of a leak in a control group of this name.
fn leak_in(group: &str) -> (Value, String) {
    let group = ControlGroup::new(group);
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    group.take(client.pid());
    client.go();
    reset(server.accept());
    let pid = client.pid_text();
    let look = |format| {
        run(&[
            "snapshot",
            "--pid",
            &pid,
            "--min-age",
            "0s",
            "--format",
            format,
        ])
    };
    let (document, text) = (look("json"), look("text"));
    assert_eq!((document.code(), text.code()), (3, 3), "{document:?}");
    let report = document.document();
    let leak = leaks(&report).next().expect("there is a leak");
    let words: Vec<&str> = text.stdout.split_whitespace().collect();
    (leak["process"].clone(), words.join(" "))
}

/// An id that no container has: 64 digits, of which those of this process are the last.
fn id(first: char) -> String {
    format!("{first}{:063x}", std::process::id())
}

#[test]
fn a_leak_in_a_unit_names_it() {
    let (process, text) = leak_in(r"tcpleak\x2dtest.service");
    assert_eq!(process["unit"], r"tcpleak\x2dtest.service");
    assert_eq!(process["container"], Value::Null);
    assert!(text.contains(r"Unit tcpleak\x2dtest.service"), "{text}");
}

#[test]
fn a_leak_in_a_container_names_its_id_and_its_runtime() {
    let id = id('d');
    let (process, text) = leak_in(&format!("docker-{id}.scope"));
    assert_eq!(process["unit"], Value::Null);
    let container = &process["container"];
    assert_eq!(container["id"], id);
    assert_eq!(container["runtime"], "docker");
    assert_eq!(container["name"], Value::Null);
    assert!(text.contains("Cgroup"), "no name is known: {text}");
}

/// What containerd leaves about a container. It goes when this value is dropped.
struct Bundle(PathBuf);

impl Bundle {
    fn new(id: &str, annotations: &Value) -> Self {
        let tasks = Path::new("/run/containerd/io.containerd.runtime.v2.task/k8s.io");
        let directory = tasks.join(id);
        fs::create_dir_all(&directory).expect("/run can be written");
        let bundle = Self(directory);
        let text = json!({ "annotations": annotations }).to_string();
        fs::write(bundle.0.join("config.json"), text).expect("it is ours");
        bundle
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Something else may be in the directories above, which then stay.
        let _ = fs::remove_dir_all(&self.0);
        for above in self.0.ancestors().skip(1).take(3) {
            let _ = fs::remove_dir(above);
        }
    }
}

#[test]
fn a_leak_in_a_pod_names_pod_namespace_container_and_image() {
    let id = id('c');
    let _bundle = Bundle::new(
        &id,
        &json!({
            "io.kubernetes.cri.container-name": "crawler",
            "io.kubernetes.cri.image-name": "registry.example/crawler:1.4",
            "io.kubernetes.cri.sandbox-name": "crawler-6f7d-x2x",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-uid": UID,
        }),
    );
    let (process, text) = leak_in(&format!("cri-containerd-{id}.scope"));
    assert_eq!(
        process["container"],
        json!({
            "id": id,
            "runtime": "containerd",
            "name": "crawler",
            "image": "registry.example/crawler:1.4",
            "pod": "crawler-6f7d-x2x",
            "namespace": "shop",
            "pod_uid": UID,
        })
    );
    let words = "Pod shop/crawler-6f7d-x2x, container crawler (registry.example/crawler:1.4)";
    assert!(text.contains(words), "{text}");
}
