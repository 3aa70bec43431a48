//! The accounts of the mesh are held to what they write, and nobody else is.

use serde_json::{Value, json};

use crate::evaluation::{Request, says, verdict};

const AGENT: &str = "ztunnel-node-agent-istio-system";
const CONTROL_PLANE: &str = "ztunnel-control-plane-istio-system";

fn account(name: &str, node: Option<&str>) -> Value {
    let mut user = json!({ "username": format!("system:serviceaccount:istio-system:{name}") });
    if let Some(node) = node {
        // Kubernetes documentation, "Managing Service Accounts": what a token that is bound to a pod says of its node.
        user["extra"] = json!({
            "authentication.kubernetes.io/pod-name": ["ztunnel-node-agent-x"],
            "authentication.kubernetes.io/node-name": [node],
        });
    }
    user
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" }, "annotations": { "a": "b" } },
        "spec": { "nodeName": "node-a" },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }],
            "conditions": [{ "type": "Ready", "status": "False", "lastProbeTime": null }],
            "containerStatuses": [{ "name": "main", "ready": false, "restartCount": 3, "state": { "running": {} } }],
        },
    })
}

fn change(user: Value, change: impl Fn(&mut Value)) -> Request {
    let mut object = pod();
    change(&mut object);
    Request {
        object,
        old: pod(),
        resource: "pods".to_owned(),
        user,
    }
}

#[test]
fn an_agent_writes_its_annotation_on_pods_of_its_node() {
    let own = || account("ztunnel-node-agent", Some("node-a"));
    let enrol = |object: &mut Value| {
        object["metadata"]["annotations"]["ambient.istio.io/redirection"] = json!("enabled");
    };
    assert_eq!(verdict(AGENT, &change(own(), enrol)), [""; 0]);
    // And takes it away, also from a pod that has nothing else.
    let mut leave = change(own(), |object| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("annotations");
        metadata.remove("labels");
    });
    leave.old["metadata"] =
        json!({ "name": "web", "annotations": { "ambient.istio.io/redirection": "enabled" } });
    assert_eq!(verdict(AGENT, &leave), [""; 0]);
    // Those of other nodes, of none, and with a token that is not bound.
    let other = account("ztunnel-node-agent", Some("node-b"));
    assert!(verdict(AGENT, &change(other, enrol))[0].contains("own node"));
    let nowhere = change(own(), |object| {
        object["spec"].as_object_mut().unwrap().remove("nodeName");
    });
    assert!(verdict(AGENT, &nowhere)[0].contains("own node"));
    let found = verdict(AGENT, &change(account("ztunnel-node-agent", None), enrol));
    assert!(found[0].contains("names no node"), "{found:?}");
    // Anything else of a pod.
    type Write = fn(&mut Value);
    let writes: [(Write, &str); 14] = [
        (
            |object| object["metadata"]["labels"]["app"] = json!("other"),
            "labels",
        ),
        (
            |object| object["metadata"]["annotations"]["a"] = json!("c"),
            "annotation",
        ),
        (
            |object| object["metadata"]["annotations"] = json!({}),
            "annotation",
        ),
        (
            |object| object["metadata"]["annotations"]["new"] = json!("c"),
            "annotation",
        ),
        (
            |object| object["metadata"]["finalizers"] = json!(["a/b"]),
            "finalizers",
        ),
        (|object| object["status"]["podIP"] = json!("10.0.0.2"), "status"),
        (
            |object| object["status"]["podIPs"] = json!([{ "ip": "10.0.0.2" }]),
            "status",
        ),
        (|object| object["status"]["phase"] = json!("Failed"), "status"),
        (
            |object| object["status"]["conditions"][0]["status"] = json!("True"),
            "status",
        ),
        (
            |object| object["status"]["containerStatuses"][0]["ready"] = json!(true),
            "status",
        ),
        (
            |object| object["status"]["containerStatuses"][0]["restartCount"] = json!(4),
            "status",
        ),
        (|object| object["status"]["hostIP"] = json!("192.0.2.2"), "status"),
        (|object| object["status"]["reason"] = json!("Evicted"), "status"),
        (
            |object| {
                object.as_object_mut().unwrap().remove("status");
            },
            "status",
        ),
    ];
    for (write, expected) in writes {
        let found = verdict(AGENT, &change(own(), write));
        says(&found, expected, &expected);
        // The kubelet may.
        let kubelet = json!({ "username": "system:node:node-b", "groups": ["system:nodes"] });
        assert_eq!(verdict(AGENT, &change(kubelet, write)), [""; 0]);
    }
}

#[test]
fn a_control_plane_makes_what_is_its_own() {
    let ask = |resource: &str, object: Value| {
        verdict(
            CONTROL_PLANE,
            &Request {
                object,
                old: Value::Null,
                resource: resource.to_owned(),
                user: account("ztunnel-control-plane", Some("node-a")),
            },
        )
    };
    let named = |namespace: &str, name: &str| json!({ "metadata": { "name": name, "namespace": namespace } });
    let secret = |name: &str, form: &str| {
        let mut secret = named("istio-system", name);
        secret["type"] = json!(form);
        secret
    };
    for (resource, object) in [
        ("secrets", secret("istio-ca-secret", "istio.io/ca-root")),
        ("secrets", secret("ztunnel-ca-roots", "ztunnel.dev/ca-roots")),
        ("configmaps", named("shop", "istio-ca-root-cert")),
        ("configmaps", named("shop", "istio-ca-crl")),
        ("configmaps", named("istio-system", "ztunnel-ca")),
        ("leases", named("istio-system", "ztunnel-control-plane")),
    ] {
        assert_eq!(ask(resource, object.clone()), [""; 0], "{object}");
    }
    for (resource, object, expected) in [
        (
            "secrets",
            secret("istio-ca-secret", "kubernetes.io/service-account-token"),
            "no Secret",
        ),
        ("secrets", secret("other", "istio.io/ca-root"), "no Secret"),
        (
            "secrets",
            secret("ztunnel-ca-roots", "kubernetes.io/service-account-token"),
            "no Secret",
        ),
        ("secrets", named("istio-system", "istio-ca-secret"), "no Secret"),
        ("configmaps", named("shop", "ztunnel-ca"), "no ConfigMap"),
        ("configmaps", named("kube-system", "extension"), "no ConfigMap"),
        ("leases", named("istio-system", "other"), "no Lease"),
    ] {
        let found = ask(resource, object.clone());
        says(&found, expected, &object);
        let somebody = Request {
            object,
            old: Value::Null,
            resource: resource.to_owned(),
            user: json!({ "username": "kubernetes-admin" }),
        };
        assert_eq!(verdict(CONTROL_PLANE, &somebody), [""; 0]);
    }
}

/// Whatever a role names to be written may also be made: a policy that lags behind would stop the control plane.
#[test]
fn what_a_role_names_may_be_made() {
    let rendered = charts::rendered("defaults").unwrap();
    let mut made = 0;
    for role in &rendered {
        let named = role["metadata"]["name"].as_str().unwrap_or_default();
        if !role["kind"].as_str().unwrap().ends_with("Role") || !named.starts_with("ztunnel-control-plane") {
            continue;
        }
        let texts = |value: &Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            let writes = texts(&rule["verbs"])
                .iter()
                .any(|verb| matches!(verb.as_str(), "patch" | "update"));
            let names = texts(&rule["resourceNames"]);
            for (resource, name) in texts(&rule["resources"])
                .iter()
                .flat_map(|resource| names.iter().map(move |name| (resource, name)))
                .filter(|(resource, _)| writes && resource.as_str() != "clustertrustbundles")
            {
                // What the control plane gives each of its Secrets.
                let kind = match name.as_str() {
                    "ztunnel-ca-roots" => "ztunnel.dev/ca-roots",
                    _ => "istio.io/ca-root",
                };
                let request = Request {
                    object: json!({
                        "metadata": { "name": name, "namespace": "istio-system" },
                        "type": kind,
                    }),
                    old: Value::Null,
                    resource: resource.clone(),
                    user: account("ztunnel-control-plane", Some("node-a")),
                };
                assert_eq!(
                    verdict(CONTROL_PLANE, &request),
                    [""; 0],
                    "{resource}/{name} in templates/admission/accounts.yaml"
                );
                made += 1;
            }
        }
    }
    assert!(made >= 5, "{made}");
}

/// What may be created without a name being known to the role is held by name, and nothing else is created.
#[test]
fn every_creation_that_a_role_cannot_name_is_held() {
    let rendered = charts::rendered("defaults").unwrap();
    let grants = charts::permissions::Grants::of_account(&rendered, "ztunnel-control-plane");
    let created: Vec<String> = grants
        .all()
        .into_iter()
        .filter(|permission| permission.verb == "create")
        .map(|permission| permission.resource)
        .collect();
    // Events and reviews are nobody's; a bundle's name begins with its signer, which is granted by `attest`.
    let free = ["events", "tokenreviews", "clustertrustbundles"];
    let held = ["configmaps", "leases", "secrets"];
    for resource in &created {
        let known = free.contains(&resource.as_str()) || held.contains(&resource.as_str());
        assert!(
            known,
            "{resource}: is its name held by templates/admission/accounts.yaml?"
        );
    }
    assert_eq!(created.len(), free.len() + held.len(), "{created:?}");
}
