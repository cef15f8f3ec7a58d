use super::*;

const ID: &str = "2f4e0c8a91d35b67e80f12ab34cd56ef7890a1b2c3d4e5f60718293a4b5c6d7e";
const OUTER: &str = "aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffff0000000011111111";
const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";
const UID_IN_SLICE: &str = "8dbc5577_d0e2_4706_8787_57d52c03ddf2";
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// The path with what its capitals stand for.
fn path(form: &str) -> String {
    form.replace("OUTER", OUTER)
        .replace("UID_IN_SLICE", UID_IN_SLICE)
        .replace("UID", UID)
        .replace("HASH", HASH)
        .replace("ID", ID)
}

#[test]
fn units_are_the_innermost_service_or_scope() {
    for (path, unit) in [
        ("/system.slice/crawler.service", "crawler.service"),
        ("/system.slice/crawler.service/worker", "crawler.service"),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "getty@tty1.service",
        ),
        ("/init.scope", "init.scope"),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            "session-3.scope",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
            "sync.service",
        ),
        (
            r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Maps\x2dbeta-42.scope",
            r"app-org.gnome.Maps\x2dbeta-42.scope",
        ),
        (
            r"/system.slice/back\x20up\x2dall.service",
            r"back\x20up\x2dall.service",
        ),
        (r"/system.slice/a\x0a\xzz\x.service", r"a\x0a\xzz\x.service"),
        ("/system.slice/_cgroup.service", "cgroup.service"),
        ("/../../system.slice/ssh.service", "ssh.service"),
        (
            "/machine.slice/machine-debian.scope/payload/system.slice/ssh.service",
            "ssh.service",
        ),
        (
            "/lxc.payload.web/system.slice/nginx.service",
            "nginx.service",
        ),
        // It watches a container and is not in it.
        (
            "/machine.slice/libpod-conmon-ID.scope",
            "libpod-conmon-ID.scope",
        ),
    ] {
        let found = of_cgroup(&self::path(path));
        assert_eq!(found.unit, Some(self::path(unit)), "{path}");
        assert_eq!(found.container, None, "{path}");
    }
}

#[test]
fn a_slice_or_another_directory_is_neither_unit_nor_container() {
    let long = format!("/system.slice/{}.service", "a".repeat(248));
    for path in [
        "",
        "/",
        "/..",
        "/system.slice",
        "/user.slice/user-1000.slice",
        "/.service",
        "/.scope",
        "/service",
        "/docker",
        "/docker/0123",
        "/kubepods/burstable/podUID",
        "/kubepods.slice/kubepods-podUID_IN_SLICE.slice",
        "/crio-conmon-ID",
        "/a:b:c:ID",
        "/ID0",
        &long,
    ] {
        assert_eq!(of_cgroup(&self::path(path)), Identity::default(), "{path}");
    }
}

#[test]
fn containers_are_found_in_the_forms_that_runtimes_use() {
    for (path, runtime, pod_uid) in [
        ("/system.slice/docker-ID.scope", Some("docker"), None),
        ("/docker/ID", Some("docker"), None),
        ("/docker/ID/init", Some("docker"), None),
        ("/system.slice/nerdctl-ID.scope", Some("containerd"), None),
        ("/default/ID", None, None),
        ("/ecs/c0ffee/ID", None, None),
        (
            "/machine.slice/libpod-ID.scope/container",
            Some("podman"),
            None,
        ),
        ("/libpod_parent/libpod-ID", Some("podman"), None),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            Some("podman"),
            None,
        ),
        // By systemd.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_IN_SLICE.slice/cri-containerd-ID.scope",
            Some("containerd"),
            Some(UID),
        ),
        (
            "/kubepods.slice/kubepods-podUID_IN_SLICE.slice/crio-ID.scope/container",
            Some("crio"),
            Some(UID),
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_IN_SLICE.slice/docker-ID.scope",
            Some("docker"),
            Some(UID),
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/cri-containerd-ID.scope",
            Some("containerd"),
            Some(HASH),
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_IN_SLICE.slice/cri-containerd-ID.scope",
            Some("containerd"),
            Some(UID),
        ),
        // By the kubelet itself.
        ("/kubepods/burstable/podUID/ID", None, Some(UID)),
        ("/kubepods/podUID/ID", None, Some(UID)),
        ("/kubepods/besteffort/podHASH/ID", None, Some(HASH)),
        (
            "/kubepods/besteffort/podUID/crio-ID",
            Some("crio"),
            Some(UID),
        ),
        // The kubelet reckons with systemd and the runtime does not.
        (
            "/system.slice/containerd.service/kubepods-burstable-podUID_IN_SLICE.slice:cri-containerd:ID",
            Some("containerd"),
            Some(UID),
        ),
        // Seen from within a pod.
        ("/../ID", None, None),
        ("/../../podUID/ID", None, Some(UID)),
        (
            "/../../kubepods-podUID_IN_SLICE.slice/cri-containerd-ID.scope",
            Some("containerd"),
            Some(UID),
        ),
        // A node that is a container itself, as kind and k3d make them.
        (
            "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_IN_SLICE.slice/cri-containerd-ID.scope",
            Some("containerd"),
            Some(UID),
        ),
        (
            "/docker/OUTER/kubepods/besteffort/podUID/ID",
            None,
            Some(UID),
        ),
    ] {
        let found = of_cgroup(&self::path(path));
        let expected = Container {
            id: ID.into(),
            runtime: runtime.map(str::to_owned),
            pod_uid: pod_uid.map(str::to_owned),
            ..Container::default()
        };
        assert_eq!(found.container, Some(expected), "{path}");
        assert_eq!(found.unit, None, "{path}");
    }
}

#[test]
fn a_unit_in_a_container_is_told_and_one_around_it_only_if_it_is_its_own() {
    let unit = |form: &str| {
        let found = of_cgroup(&path(form));
        assert_eq!(found.container.unwrap().id, ID, "{form}");
        found.unit
    };
    assert_eq!(
        unit("/system.slice/docker-ID.scope/system.slice/nginx.service").as_deref(),
        Some("nginx.service")
    );
    assert_eq!(unit("/system.slice/containerd.service/default/ID"), None);
    assert_eq!(
        unit("/system.slice/shop.service/libpod-payload-ID").as_deref(),
        Some("shop.service")
    );
}

#[test]
fn whatever_a_group_is_called_nothing_panics() {
    let bits = [
        "pod",
        "kubepods-",
        "-pod",
        ".slice",
        ":",
        "::",
        "é",
        r"\x",
        r"\x2",
        r"\xé1",
        ".scope",
        "docker-",
        ID,
        UID_IN_SLICE,
        "/",
        "..",
        "\u{1b}",
        "-",
        ".service",
        "_",
    ];
    for first in bits {
        for second in bits {
            for third in bits {
                for fourth in ["", "/", ".service", ".scope", ID] {
                    let path = format!("/{first}{second}{third}{fourth}");
                    let found = of_cgroup(&path);
                    let lengths = found.unit.map_or(0, |unit| unit.len());
                    assert!(lengths <= 255, "{path}");
                    assert!(found.container.is_none_or(|container| container.id == ID));
                }
            }
        }
    }
}
