//! The manifests for Kubernetes.

use std::collections::BTreeSet;

use crate::tools::{deploy_tool, file, installed, options, options_of_serve, run, temporary, text};

const DIRECTORY: &str = "deploy/kubernetes";

/// The manifests as kustomize puts them together.
fn built() -> String {
    let said = run(installed("kubectl", "kubernetes-client")
        .arg("kustomize")
        .arg(file(DIRECTORY)));
    assert!(said.content, "{}", said.words);
    said.words
}

/// What the schemas of Kubernetes say to manifests.
fn validate(manifests: &str) -> (bool, String) {
    let manifests = temporary(manifests, ".yaml");
    let said = run(deploy_tool("kubernetes-validate")
        .arg("--strict")
        .arg(manifests.path()));
    (said.content, said.words)
}

/// The capabilities that the pod asks for.
pub fn rights() -> BTreeSet<String> {
    let manifest = text(&format!("{DIRECTORY}/daemonset.yaml"));
    let (_, added) = manifest.split_once("add:\n").expect("it adds some");
    let lines = added
        .lines()
        .map_while(|line| line.trim().strip_prefix("- "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_manifests_are_valid() {
    let manifests = built();
    for kind in ["Namespace", "ServiceAccount", "DaemonSet"] {
        assert!(
            manifests.contains(&format!("kind: {kind}\n")),
            "{manifests}"
        );
    }
    let (valid, words) = validate(&manifests);
    assert!(valid, "{words}");
    assert_eq!(words.matches("passed for resource").count(), 3, "{words}");
    let misspelled = manifests.replace("readOnlyRootFilesystem", "readonlyRootFilesystem");
    let (valid, words) = validate(&misspelled);
    assert!(
        !valid && words.contains("readonlyRootFilesystem"),
        "{words}"
    );
}

#[test]
fn kustomize_puts_all_into_the_namespace_and_names_the_image() {
    let manifests = built();
    assert_eq!(
        manifests.matches("namespace: tcpleak\n").count(),
        2,
        "{manifests}"
    );
    assert!(
        manifests.contains("image: registry.example/tcpleak:0.1.0\n"),
        "{manifests}"
    );
}

#[test]
fn the_pod_starts_tcpleak_as_tcpleak_can_be_started() {
    let asked = options(&text(&format!("{DIRECTORY}/daemonset.yaml")));
    assert!(asked.contains("--token-file"), "{asked:?}");
    let known = options_of_serve();
    assert!(asked.is_subset(&known), "{asked:?}: {known:?}");
}
