//! Questions about a cluster, through a kubectl that hands out what a cluster would.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const KNOWN: &str = "namespaces\npods\nservices\nnodes\nconfigmaps\nendpointslices.discovery.k8s.io\n\
                     peerauthentications.security.istio.io\nauthorizationpolicies.security.istio.io\n";

/// A directory to be the whole PATH, with a kubectl that knows these kinds and gives these objects. It writes down how
/// it is called.
fn cluster(known: &str, objects: &[Value], settings: Option<&str>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    std::fs::write(place("known"), known).unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(place("objects"), list.to_string()).unwrap();
    let settings = settings.map_or_else(String::new, |mesh| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"mesh": mesh},
            "metadata": {"namespace": "istio-system", "name": "istio"}})
        .to_string()
    });
    std::fs::write(place("settings"), settings).unwrap();
    let at = directory.path().display();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {at}/called\ncase \"$*\" in\n*api-resources*) exec /bin/cat {at}/known;;\n\
         *configmaps*) exec /bin/cat {at}/settings;;\n*) exec /bin/cat {at}/objects;;\nesac\n"
    );
    std::fs::write(place("kubectl"), script).unwrap();
    std::fs::set_permissions(place("kubectl"), PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

/// Exit code, standard output and standard error.
fn policy(path: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ztctl"))
        .env("PATH", path)
        .arg("policy")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn pod(namespace: &str, name: &str, address: &str, is_enrolled: bool) -> Value {
    let annotations = if is_enrolled {
        json!({"ambient.istio.io/redirection": "enabled"})
    } else {
        json!({})
    };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "7", "annotations": annotations,
            "managedFields": [{"manager": "kubelet"}], "labels": {"app": name}},
        "spec": {"serviceAccountName": name, "containers": [{"name": "a", "image": "x", "terminationMessagePath": "/y"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "qosClass": "BestEffort"}})
}

fn shop() -> Vec<Value> {
    let namespace = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"istio.io/dataplane-mode": "ambient", "kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    };
    let strict = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"namespace": "shop", "name": "strict", "generation": 3}, "spec": {"mtls": {"mode": "STRICT"}}});
    vec![
        namespace("shop"),
        namespace("other"),
        pod("shop", "web", "10.1.0.1", true),
        pod("shop", "late", "10.1.0.2", false),
        pod("other", "client", "10.1.0.3", true),
        strict,
    ]
}

#[test]
fn a_cluster_is_asked_as_it_is() {
    let path = cluster(KNOWN, &shop(), None);
    let can = |from: &str, to: &str| {
        policy(
            path.path(),
            &[
                "can",
                from,
                to,
                "--kubernetes",
                "--context=here",
                "--kubeconfig=/k",
            ],
        )
    };
    let (code, said, _) = can("other/client", "shop/web:80");
    assert_eq!(code, Some(0), "{said}");
    // Its label asks for it, and the node agent has not said that it is done.
    let (code, said, _) = can("shop/late", "shop/web:80");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("PeerAuthentication requires mTLS (shop/strict, generation 3)"),
        "{said}"
    );
    let calls = std::fs::read_to_string(path.path().join("called")).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    assert!(
        calls
            .iter()
            .all(|call| call.starts_with("--kubeconfig /k --context here ")),
        "{calls:?}"
    );
    assert!(
        calls[1].contains(
            "get namespaces,nodes,services,pods,endpointslices.discovery.k8s.io,\
             peerauthentications.security.istio.io,authorizationpolicies.security.istio.io --all-namespaces"
        ),
        "{calls:?}"
    );
    let (code, said, _) = policy(
        path.path(),
        &[
            "strict-report",
            "-n",
            "shop",
            "--kubernetes",
            "--network-policy-enforced",
        ],
    );
    assert_eq!((code, said.contains("shop/late")), (Some(0), true), "{said}");
    let (code, said, _) = policy(path.path(), &["lint", "--kubernetes"]);
    assert_eq!((code, said.contains("0 errors")), (Some(0), true), "{said}");
}

#[test]
fn the_settings_of_the_mesh_count() {
    let settings = "trustDomain: shop.example\ndiscoverySelectors:\n- matchLabels: {kubernetes.io/metadata.name: shop}\n";
    let mut objects = shop();
    objects.push(
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "late"},
        "spec": {"rules": [{"from": [{"source": {"principals": ["shop.example/ns/shop/sa/late"]}}]}]}}),
    );
    // Outside of the selected namespaces: what is not in the mesh calls into it all the same.
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}}));
    objects.push(pod("plain", "old", "10.1.0.9", false));
    objects.push(
        json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"namespace": "other", "name": "strict"}, "spec": {"mtls": {"mode": "STRICT"}}}),
    );
    let path = cluster(KNOWN, &objects, Some(settings));
    let can = |more: &[&str]| policy(path.path(), &[&["can", "--kubernetes"], more].concat());
    assert_eq!(can(&["sa:shop/late", "shop/web:80"]).0, Some(0));
    let other = can(&["sa:shop/late", "shop/web:80", "--trust-domain=cluster.local"]);
    assert_eq!(other.0, Some(1), "{}", other.1);
    let (code, said, _) = can(&["plain/old", "shop/web:80"]);
    assert_eq!(
        (code, said.contains("PeerAuthentication requires mTLS")),
        (Some(1), true),
        "{said}"
    );
    let (_, said, _) = policy(path.path(), &["strict-report", "--kubernetes"]);
    assert!(said.contains("plain/old is not in the mesh"), "{said}");
    let (code, _, said) = can(&["other/client", "shop/web:80"]);
    assert_eq!(
        (code, said.contains("there is no pod other/client")),
        (Some(3), true),
        "{said}"
    );
}

#[test]
fn what_cannot_be_read_closes_or_is_named() {
    let mut objects = shop();
    objects.push(
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "odd"}, "spec": {"rules": "none"}}),
    );
    objects.push(json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": "odd"}, "spec": {"ports": 7}}));
    let path = cluster(KNOWN, &objects, None);
    let (code, said, problems) = policy(
        path.path(),
        &["can", "other/client", "shop/web:80", "--kubernetes"],
    );
    assert_eq!(code, Some(1));
    assert!(
        said.contains("shop/odd") && said.contains("not understood"),
        "{said}"
    );
    assert!(
        problems.contains("Service shop/odd: not taken into account"),
        "{problems}"
    );
}

#[test]
fn without_an_answer_of_the_cluster_there_is_none() {
    let question = ["can", "other/client", "shop/web:80", "--kubernetes"];
    let nothing = tempfile::tempdir().unwrap();
    let (code, _, said) = policy(nothing.path(), &question);
    assert_eq!(
        (code, said.contains("no kubectl on the PATH")),
        (Some(3), true),
        "{said}"
    );
    let path = cluster(KNOWN, &shop(), None);
    std::fs::write(
        path.path().join("kubectl"),
        "#!/bin/sh\necho no right to >&2\nexit 1\n",
    )
    .unwrap();
    let (code, _, said) = policy(path.path(), &question);
    assert_eq!(
        (code, said.contains("kubectl api-resources failed: no right to")),
        (Some(3), true),
        "{said}"
    );
    let path = cluster("namespaces\npods\n", &shop()[..5], None);
    let (code, _, said) = policy(path.path(), &question);
    assert_eq!(
        (code, said.contains("does not know the kind AuthorizationPolicy")),
        (Some(0), true),
        "{said}"
    );
    for wrong in [
        &["can", "a/b", "c/d:80", "--kubernetes", "-f", "x"][..],
        &["can", "a/b", "c/d:80", "--context", "x"],
        &["strict-report", "--network-policy-enforced"],
        &["lint", "--network-policy-enforced"],
    ] {
        assert_eq!(policy(path.path(), wrong).0, Some(2), "{wrong:?}");
    }
}
