use std::path::Path;
use std::time::Duration;

use real_api::{Cluster, MESH, Request};
use serde_json::{Value, json};
use tests::{eventually, eventually_some};

/// Long enough for any machine; a test that passes never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn object(api: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": api, "kind": kind, "metadata": { "namespace": namespace, "name": name }, "spec": spec })
}

pub(crate) fn namespace(name: &str, in_mesh: bool) -> Value {
    let labels = match in_mesh {
        true => json!({ "istio.io/dataplane-mode": "ambient", "kubernetes.io/metadata.name": name }),
        false => json!({ "kubernetes.io/metadata.name": name }),
    };
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

pub(crate) fn account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": name } })
}

/// A pod that runs, as a kubelet would tell of it.
pub(crate) fn pod(namespace: &str, name: &str, node: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": name } },
        "spec": { "nodeName": node, "serviceAccountName": name, "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "none", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

pub(crate) fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    object(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        namespace,
        name,
        spec,
    )
}

/// A namespace `shop` in the mesh with two pods on two nodes, and an account each.
pub(crate) fn shop(cluster: &Cluster) {
    cluster.put(&namespace("shop", true));
    for (name, node, address) in [("web", "node-a", "10.1.0.1"), ("db", "node-b", "10.1.1.1")] {
        cluster.put(&account("shop", name));
        cluster.put(&pod("shop", name, node, address));
    }
}

/// What is told of this object under a type of condition, once it is told of the object as it is now.
#[track_caller]
pub(crate) fn condition(cluster: &Cluster, path: &str, kind: &str) -> Value {
    eventually_some(&format!("{kind} on {path}"), PATIENCE, || {
        let object = cluster.api().get(path)?;
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        let generation = &object["metadata"]["generation"];
        (found["observedGeneration"].is_null() || found["observedGeneration"] == *generation)
            .then(|| found.clone())
    })
}

/// Waits until policies can be read: a server that has begun anew does not know its custom kinds at once.
#[track_caller]
pub(crate) fn policies_are_served(cluster: &Cluster) {
    eventually("policies are served", PATIENCE, || {
        let path = "/apis/security.istio.io/v1/authorizationpolicies";
        matches!(
            cluster.api().request("GET", path, "application/json", ""),
            Ok((200, _))
        )
    });
}

/// Makes a policy, and waits until the control plane has seen it and said so on it.
#[track_caller]
pub(crate) fn is_seen(cluster: &Cluster, name: &str) {
    policies_are_served(cluster);
    cluster.put(&policy("shop", name, json!({ "rules": [{}] })));
    let path = format!("/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/{name}");
    let told = condition(cluster, &path, "ZtunnelAccepted");
    assert_eq!(told["status"], "True", "{told:#}");
}

/// Nothing that an account of the mesh asked for was forbidden to it.
#[track_caller]
pub(crate) fn nothing_was_forbidden(cluster: &Cluster) {
    nothing_was_forbidden_since(cluster, 0);
}

/// The same of what was asked for after so many requests.
#[track_caller]
pub(crate) fn nothing_was_forbidden_since(cluster: &Cluster, count: usize) {
    let requests = cluster.requests().split_off(count);
    assert!(!requests.is_empty(), "nothing was asked for");
    let is_refused = |request: &&Request| matches!(request.code, 401 | 403);
    let forbidden: Vec<_> = requests.iter().filter(is_refused).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

/// The text of the roots in a namespace.
pub(crate) fn roots(cluster: &Cluster, namespace: &str) -> Option<String> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    Some(
        cluster.api().get(&path)?["data"]["root-cert.pem"]
            .as_str()?
            .to_owned(),
    )
}

/// A list of the names in a collection.
pub(crate) fn names(cluster: &Cluster, path: &str) -> Vec<String> {
    let list = cluster.api().get(path).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    items.iter().map(name).collect()
}

/// Who holds the lease.
pub(crate) fn holder(cluster: &Cluster) -> Option<String> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{MESH}/leases/ztunnel-control-plane");
    let lease = cluster.api().get(&path)?;
    Some(lease["spec"]["holderIdentity"].as_str()?.to_owned())
}

/// Applies every manifest of `examples/` as a user would, server-side; how many objects the server took. Objects of kinds
/// that nobody defined here, such as those of Cilium, are not among them.
#[track_caller]
pub(crate) fn examples(cluster: &Cluster) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut applied = 0;
    let mut folders = vec![root];
    let mut objects = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let parsed = charts::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
                objects.extend(
                    parsed
                        .into_iter()
                        .filter(|object| object["apiVersion"].is_string()),
                );
            }
        }
    }
    // What is in a namespace after the namespace.
    objects.sort_by_key(|object| (object["kind"] != "Namespace", object["kind"] == "Pod"));
    for mut object in objects {
        if cluster.collection(&object).is_none() {
            continue;
        }
        if object["kind"] == "Pod" {
            // No controller makes accounts or their tokens here.
            let name = object["spec"]["serviceAccountName"]
                .as_str()
                .unwrap_or("default")
                .to_owned();
            cluster.put(&account(object["metadata"]["namespace"].as_str().unwrap(), &name));
            object["spec"]["automountServiceAccountToken"] = Value::Bool(false);
        }
        let output = cluster.kubectl(&["apply", "--validate=false", "-f", "-"], &object.to_string());
        assert_eq!(output.code, 0, "{object:#}: {}", output.stderr);
        applied += 1;
    }
    applied
}
