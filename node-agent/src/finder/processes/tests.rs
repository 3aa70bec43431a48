use std::os::unix::fs::symlink;

use super::*;
use crate::test_support::needs_root;

const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const OTHER: &str = "0a1b2c3d-9999-2222-3333-444455556666";

#[test]
fn pods_are_read_from_control_groups_of_both_drivers_and_versions() {
    let systemd = UID.replace('-', "_");
    for text in [
        format!("0::/kubepods/burstable/pod{UID}/abc\n"),
        format!("0::/kubepods/pod{UID}\n"),
        format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/cri-containerd-abc.scope\n"
        ),
        format!("0::/kubepods.slice/kubepods-pod{systemd}.slice/crio-abc.scope/container\n"),
        // As seen from a container with a control group namespace of its own.
        format!("0::/../../kubepods-besteffort-pod{systemd}.slice/cri-containerd-abc.scope\n"),
        format!("0::/../../pod{UID}/abc\n"),
        format!("0::/../../../burstable/pod{UID}/abc\n"),
        // Where the kubelet's groups lie below another one.
        format!("0::/kubelet/kubepods/burstable/pod{UID}/abc\n"),
        format!(
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{systemd}.slice/cri-containerd-abc.scope/pod{OTHER}\n"
        ),
        format!("12:pids:/kubepods/besteffort/pod{UID}/abc\n11:memory:/kubepods/besteffort/pod{UID}/abc\n"),
        // Version 1, where systemd's own hierarchy comes first.
        format!("1:name=systemd:/system.slice\n2:cpu,cpuacct:/kubepods/pod{UID}/a\n"),
        // A container that calls a group of its own after another pod.
        format!("0::/kubepods/pod{UID}/abc/pod{OTHER}\n"),
        format!("0::/kubepods/pod{UID}/abc/kubepods-pod{OTHER}.slice\n"),
    ] {
        assert_eq!(pod_of(&text).as_deref(), Some(UID), "{text}");
    }
    for text in [
        "",
        "0::/",
        "0::/system.slice/podman.service",
        "0::/user.slice/my-pod.slice",
        "0::/kubepods/burstable",
        "0::/kubepods/pod../a",
        "nonsense",
    ] {
        assert_eq!(pod_of(text).filter(|uid| uid != "man.service"), None, "{text}");
    }
}

#[test]
fn only_groups_that_the_kubelet_made_name_a_pod() {
    // Users of the node, and what runs beside the kubelet, name their groups as they like.
    for text in [
        format!("0::/user.slice/user-1000.slice/user@1000.service/pod{UID}/a"),
        format!("0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod{UID}/a"),
        format!("0::/../../../../user.slice/user-1000.slice/user@1000.service/kubepods-pod{UID}.slice"),
        format!("0::/system.slice/docker-abc.scope/pod{UID}"),
        format!("0::/../../../system.slice/docker-abc.scope/pod{UID}"),
    ] {
        assert_eq!(pod_of(&text), None, "{text}");
    }
}

#[test]
fn the_start_is_read_behind_whatever_a_process_calls_itself() {
    let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
    assert_eq!(started(&format!("7 (cat) {rest}")), Some(4242));
    assert_eq!(started(&format!("7 (a) S 1) {rest}")), Some(4242));
    assert_eq!(started("7 (cat) S 1"), None);
    assert_eq!(started(""), None);
}

/// A `/proc` of our own making, whose processes are in pinned namespaces.
struct Node {
    directory: tempfile::TempDir,
    pins: Vec<PathBuf>,
}

impl Node {
    fn new() -> Node {
        let mut node = Node {
            directory: tempfile::tempdir().unwrap(),
            pins: Vec::new(),
        };
        let own = Namespace::create().unwrap();
        node.process(1, 1, "0::/init.scope", &own);
        node
    }

    fn process(&mut self, id: u32, started: u64, cgroup: &str, namespace: &Namespace) {
        let process = self.directory.path().join(id.to_string());
        fs::create_dir_all(process.join("ns")).unwrap();
        fs::write(process.join("cgroup"), cgroup).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(process.join("stat"), format!("{id} (x) S {zeros}{started} 0")).unwrap();
        let pin = self.directory.path().join(format!("pin-{}", self.pins.len()));
        namespace.pin(&pin).unwrap();
        let _ = fs::remove_file(process.join("ns/net"));
        symlink(&pin, process.join("ns/net")).unwrap();
        self.pins.push(pin);
    }

    fn end(&self, id: u32) {
        fs::remove_dir_all(self.directory.path().join(id.to_string())).unwrap();
    }

    fn finder(&self) -> ProcessNamespaces {
        ProcessNamespaces::new(self.directory.path()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pin in &self.pins {
            Namespace::unpin(pin).unwrap();
        }
    }
}

fn with_address(address: &str) -> Namespace {
    let namespace = Namespace::create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let link = sys::link::Netlink::in_namespace(&namespace).unwrap();
        link.address("lo", address.parse::<IpAddr>().unwrap(), 32)
            .await
            .unwrap();
    });
    namespace
}

fn group(uid: &str) -> String {
    format!("0::/kubepods/burstable/pod{uid}/abc\n")
}

#[test]
fn the_namespace_is_that_of_the_pods_processes_with_the_pods_address() {
    if needs_root() {
        return;
    }
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    let mut node = Node::new();
    let finder = node.finder();
    let missing = finder.find(UID, &[address]).unwrap_err();
    assert!(missing.is_missing(), "{missing}");

    // Another pod at the same address does not count, nor does a process of this one that sits elsewhere: in a
    // namespace of its own, in that of another pod, in the node's.
    let (pod, other, inner) = (
        with_address("10.0.0.5"),
        with_address("10.0.0.6"),
        with_address("10.9.9.9"),
    );
    node.process(20, 5, &group(OTHER), &with_address("10.0.0.5"));
    assert!(finder.find(UID, &[address]).unwrap_err().is_missing());
    node.process(30, 7, &group(UID), &inner);
    node.process(31, 8, &group(UID), &other);
    let elsewhere = finder.find(UID, &[address]).unwrap_err();
    assert!(
        matches!(elsewhere, FindError::OtherAddresses { .. }),
        "{elsewhere}"
    );
    node.process(32, 9, &group(UID), &pod);
    assert_eq!(finder.find(UID, &[address]).unwrap().id(), pod.id());
    assert_eq!(
        finder
            .find(UID, &["10.0.0.9".parse().unwrap(), address])
            .unwrap()
            .id(),
        pod.id()
    );

    // Its process ends, and another pod's gets the id.
    node.end(32);
    node.process(32, 50, &group(OTHER), &other);
    let gone = finder.find(UID, &[address]).unwrap_err();
    assert!(matches!(gone, FindError::OtherAddresses { .. }), "{gone}");
    // The same pod begins anew in another namespace.
    let again = with_address("10.0.0.5");
    node.process(40, 60, &group(UID), &again);
    assert_eq!(finder.find(UID, &[address]).unwrap().id(), again.id());
}

#[test]
fn the_node_itself_is_never_a_pod() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let finder = node.finder();
    let first = Namespace::open(node.directory.path().join("1/ns/net")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let link = sys::link::Netlink::in_namespace(&first).unwrap();
        link.address("lo", "10.0.0.5".parse::<IpAddr>().unwrap(), 32)
            .await
            .unwrap();
    });
    node.process(20, 5, &group(UID), &first);
    let refused = finder.find(UID, &["10.0.0.5".parse().unwrap()]).unwrap_err();
    assert!(matches!(refused, FindError::NotThePods { .. }), "{refused}");
    // Without the node's process 1 it could not be told.
    node.end(1);
    assert!(ProcessNamespaces::new(node.directory.path()).is_err());
}

/// Nothing is looked for in it and nothing said of it, also while its commands are at work in the pods' namespaces.
#[test]
fn the_agents_own_pod_is_left_alone() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let finder = node.finder();
    let own = Namespace::current().unwrap();
    node.process(20, 5, &group(UID), &own);
    node.process(30, 7, &group(UID), &with_address("10.0.0.6"));
    let refused = finder.find(UID, &["10.0.0.5".parse().unwrap()]).unwrap_err();
    assert!(matches!(refused, FindError::Agents { .. }), "{refused}");
    assert!(refused.is_missing(), "nothing can be left in it");
}

#[test]
fn a_uid_cannot_lead_elsewhere() {
    if needs_root() {
        return;
    }
    let finder = Node::new().finder();
    for uid in ["", "..", "a/b", "a.b"] {
        assert!(
            matches!(finder.find(uid, &[]).unwrap_err(), FindError::BadUid(_)),
            "{uid:?}"
        );
    }
}
