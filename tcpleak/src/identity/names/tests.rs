use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::*;

const ID: &str = "2f4e0c8a91d35b67e80f12ab34cd56ef7890a1b2c3d4e5f60718293a4b5c6d7e";
const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";
const CONTAINERD: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json";
const OF_CONTAINERD: &str = r#"{"ociVersion":"1.1.0","process":{"args":["/crawler"]},"annotations":{
    "io.kubernetes.cri.container-name":"crawler","io.kubernetes.cri.container-type":"container",
    "io.kubernetes.cri.image-name":"registry.example/crawler:1.4","io.kubernetes.cri.sandbox-id":"ab",
    "io.kubernetes.cri.sandbox-name":"crawler-6f7d-x2x","io.kubernetes.cri.sandbox-namespace":"shop",
    "io.kubernetes.cri.sandbox-uid":"8dbc5577-d0e2-4706-8787-57d52c03ddf2"}}"#;

/// A directory that stands for the root of a host.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let host = Self::new();
        for (path, text) in files {
            fs::write(host.place(path), text).unwrap();
        }
        host
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    /// A path below the root whose directory exists, with the container's id for `ID`.
    fn place(&self, path: &str) -> PathBuf {
        let place = self.root().join(path.replace("ID", ID));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }

    fn names(&self) -> Names {
        Names::below([self.root().to_owned()])
    }

    fn look(&self) -> Container {
        self.look_for(bare())
    }

    fn look_for(&self, mut container: Container) -> Container {
        self.names().complete(&mut container, Instant::now());
        container
    }
}

/// A container of which the id alone is known.
fn bare() -> Container {
    Container {
        id: ID.into(),
        ..Container::default()
    }
}

/// Runtime, name, image, pod, namespace and uid of the pod.
fn fields(container: &Container) -> [Option<&str>; 6] {
    [
        &container.runtime,
        &container.name,
        &container.image,
        &container.pod,
        &container.namespace,
        &container.pod_uid,
    ]
    .map(Option::as_deref)
}

const CRAWLER: [Option<&str>; 6] = [
    Some("containerd"),
    Some("crawler"),
    Some("registry.example/crawler:1.4"),
    Some("crawler-6f7d-x2x"),
    Some("shop"),
    Some(UID),
];

#[test]
fn containerd_tells_all_wherever_it_keeps_its_bundles() {
    for place in [
        CONTAINERD.to_owned(),
        CONTAINERD.replace("run/", "run/k3s/"),
        CONTAINERD.replace("run/", "run/k0s/"),
        format!("var/snap/microk8s/common/{CONTAINERD}"),
    ] {
        let host = Host::with(&[(&place, OF_CONTAINERD)]);
        assert_eq!(fields(&host.look()), CRAWLER, "{place}");
    }
}

#[test]
fn a_root_that_may_not_be_opened_gives_way_to_the_next() {
    let host = Host::with(&[(CONTAINERD, OF_CONTAINERD)]);
    let closed = host.root().join("closed");
    let mut container = bare();
    Names::below([closed, host.root().to_owned()]).complete(&mut container, Instant::now());
    assert_eq!(fields(&container), CRAWLER);
}

#[test]
fn cri_o_tells_all() {
    for directory in ["run", "var/lib"] {
        let place =
            format!("{directory}/containers/storage/overlay-containers/ID/userdata/config.json");
        let text = r#"{"annotations":{"io.kubernetes.container.name":"web","io.kubernetes.cri-o.ImageName":
            "quay.example/web:2","io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"front",
            "io.kubernetes.pod.uid":"8dbc5577-d0e2-4706-8787-57d52c03ddf2"}}"#;
        let found = Host::with(&[(&place, text)]).look();
        assert_eq!(
            fields(&found),
            [
                Some("crio"),
                Some("web"),
                Some("quay.example/web:2"),
                Some("web-0"),
                Some("front"),
                Some(UID)
            ]
        );
    }
}

#[test]
fn docker_tells_name_and_image_and_under_kubernetes_the_pod() {
    let place = "var/lib/docker/containers/ID/config.v2.json";
    let text = r#"{"ID":"x","Name":"/shop-db-1","Config":{"Image":"postgres:16","Labels":null}}"#;
    assert_eq!(
        fields(&Host::with(&[(place, text)]).look()),
        [
            Some("docker"),
            Some("shop-db-1"),
            Some("postgres:16"),
            None,
            None,
            None
        ]
    );
    let text = r#"{"Name":"/k8s_db_shop-0_prod_8dbc_0","Config":{"Image":"sha256:0a1b","Labels":{
        "io.kubernetes.container.name":"db","io.kubernetes.pod.name":"shop-0",
        "io.kubernetes.pod.namespace":"prod"}}}"#;
    assert_eq!(
        fields(&Host::with(&[(place, text)]).look()),
        [
            Some("docker"),
            Some("db"),
            Some("sha256:0a1b"),
            Some("shop-0"),
            Some("prod"),
            None
        ]
    );
}

#[test]
fn podman_tells_name_and_image() {
    let record = format!(
        r#"[{{"id":"0"}},{{"id":"{ID}","names":["web"],"metadata":
           "{{\"image-name\":\"docker.io/library/nginx:latest\",\"name\":\"web\",\"created-at\":1}}"}}]"#
    );
    for place in STORAGE {
        assert_eq!(
            fields(&Host::with(&[(place, &record)]).look()),
            [
                None,
                Some("web"),
                Some("docker.io/library/nginx:latest"),
                None,
                None,
                None
            ]
        );
    }
}

#[test]
fn the_kubelets_logs_tell_the_pod_when_the_runtime_cannot_be_read() {
    let host = Host::new();
    let link = host.place("var/log/containers/crawler-6f7d-x2x_shop_crawler-ID.log");
    symlink("/nowhere", link).unwrap();
    let [_, name, _, pod, namespace, _] = CRAWLER;
    assert_eq!(
        fields(&host.look()),
        [None, name, None, pod, namespace, None]
    );

    let host = Host::new();
    fs::create_dir_all(host.place(&format!("var/log/pods/shop_crawler-6f7d-x2x_{UID}"))).unwrap();
    let of_pod = Container {
        pod_uid: Some(UID.into()),
        ..bare()
    };
    assert_eq!(
        fields(&host.look_for(of_pod)),
        [None, None, None, pod, namespace, Some(UID)]
    );
    assert_eq!(host.look(), bare(), "nothing tells the pod");
}

#[test]
fn what_the_control_group_says_stays() {
    let known = Container {
        runtime: Some("docker".into()),
        pod_uid: Some("another".into()),
        ..bare()
    };
    let found = Host::with(&[(CONTAINERD, OF_CONTAINERD)]).look_for(known);
    assert_eq!(found.runtime.as_deref(), Some("docker"));
    assert_eq!(found.pod_uid.as_deref(), Some("another"));
    assert_eq!(found.name.as_deref(), Some("crawler"));
}

#[test]
fn links_do_not_lead_out_of_the_tree() {
    let outside = Host::with(&[(CONTAINERD, OF_CONTAINERD)]);
    let target = outside.place(CONTAINERD);

    let file = Host::new();
    symlink(&target, file.place(CONTAINERD)).unwrap();
    assert_eq!(file.look(), bare(), "a link in the place of the file");

    let directory = Host::new();
    let place = directory.place("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID");
    symlink(target.parent().unwrap(), place).unwrap();
    assert_eq!(
        directory.look(),
        bare(),
        "a link in the place of its directory"
    );

    // One that stays within the tree is followed: it leads to where it leads the host.
    let inside = Host::with(&[(&format!("elsewhere/{CONTAINERD}"), OF_CONTAINERD)]);
    symlink("/elsewhere/run", inside.root().join("run")).unwrap();
    assert_eq!(fields(&inside.look()), CRAWLER);
}

#[test]
fn what_is_no_file_of_bearable_size_is_left_alone() {
    let large = Host::new();
    let file = fs::File::create(large.place(CONTAINERD)).unwrap();
    file.set_len(5 << 20).unwrap();
    assert_eq!(large.look(), bare());

    let pipe = Host::new();
    let mode = rustix::fs::Mode::RWXU;
    let place = pipe.place(CONTAINERD);
    rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(pipe.look(), bare(), "nobody waits for a pipe");

    assert_eq!(
        Host::with(&[(CONTAINERD, "{\"annotations\":")]).look(),
        bare()
    );
}

#[test]
fn what_was_found_stays_known_and_what_was_not_is_looked_for_again() {
    let host = Host::new();
    let mut names = host.names();
    let start = Instant::now();
    let mut at = |after: Duration| {
        let mut container = bare();
        names.complete(&mut container, start + after);
        container.name
    };
    assert_eq!(at(Duration::ZERO), None);
    fs::write(host.place(CONTAINERD), OF_CONTAINERD).unwrap();
    assert_eq!(at(AGAIN / 2), None, "it is too early to look again");
    assert_eq!(at(AGAIN).as_deref(), Some("crawler"));
    fs::remove_file(host.place(CONTAINERD)).unwrap();
    assert_eq!(at(AGAIN * 100).as_deref(), Some("crawler"), "it has ended");
}

#[test]
fn many_names_of_containers_cost_no_more_than_some_looks() {
    let host = Host::with(&[(CONTAINERD, OF_CONTAINERD)]);
    let mut names = host.names();
    let start = Instant::now();
    for number in 0..LOOKS + 10 {
        let mut container = Container {
            id: format!("{number:064x}"),
            ..Container::default()
        };
        names.complete(&mut container, start);
    }
    assert_eq!(names.known.len(), LOOKS as usize);
    let mut container = bare();
    names.complete(&mut container, start);
    assert_eq!(container, bare(), "too many were looked for already");
    names.complete(&mut container, start + WINDOW);
    assert_eq!(fields(&container), CRAWLER);
}
