#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::registry::Registry;
use crate::store::Store;

fn resource(group: &str, plural: &str) -> Arc<Resource> {
    let served = Registry::new(&Store::default()).served();
    served.find(group, "v1", plural).unwrap()
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "containers": [{
            "name": "a", "image": "a:1",
            "ports": [{ "containerPort": 80 }],
            "resources": { "requests": { "cpu": 1, "memory": "64Mi" } },
            "readinessProbe": { "httpGet": { "port": "http" } },
        }] },
        "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [] },
    })
}

#[test]
fn what_is_of_the_kind_stays() {
    let mut pod = pod();
    let before = pod.clone();
    assert_eq!(prune(&resource("", "pods"), "v1", &mut pod), Ok(Vec::new()));
    assert_eq!(pod, before);
    let mut account = json!({ "metadata": { "name": "a" }, "secrets": null });
    assert_eq!(
        prune(&resource("", "serviceaccounts"), "v1", &mut account),
        Ok(Vec::new())
    );
}

#[test]
fn unknown_fields_are_named_and_dropped() {
    let mut object = pod();
    object["spec"]["containers"][0]["ports"][0]["port"] = json!(1);
    object["spec"]["nodeNam"] = json!("a");
    object["metadata"]["lables"] = json!({});
    let mut unknown = prune(&resource("", "pods"), "v1", &mut object).unwrap();
    unknown.sort();
    assert_eq!(
        unknown,
        [
            "metadata.lables",
            "spec.containers[0].ports[0].port",
            "spec.nodeNam"
        ]
    );
    assert_eq!(object, pod());
    // In the words of whoever asks.
    let mut event = json!({ "metadata": { "name": "a" }, "message": "x", "involvedObject": { "nam": "b" } });
    let unknown = prune(&resource("events.k8s.io", "events"), "v1", &mut event).unwrap();
    assert_eq!(unknown, ["regarding.nam"]);
    assert_eq!(
        event,
        json!({ "metadata": { "name": "a" }, "message": "x", "involvedObject": {} })
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    let refused = |group: &str, plural: &str, mut object: Value| {
        prune(&resource(group, plural), "v1", &mut object).unwrap_err()
    };
    let mut object = pod();
    object["spec"]["containers"][0]["ports"][0]["containerPort"] = json!("80");
    let wrong = refused("", "pods", object);
    assert_eq!(wrong.field, "spec.containers[0].ports[0].containerPort");
    assert!(wrong.problem.contains("invalid type: string \"80\""), "{wrong:?}");
    let slice = json!({ "addressType": "IPv4", "endpoints": {} });
    assert_eq!(
        refused("discovery.k8s.io", "endpointslices", slice).field,
        "endpoints"
    );
    let secret = json!({ "data": { "a": "no base64!" } });
    assert_eq!(refused("", "secrets", secret).field, "data.a");
}

#[test]
fn what_nobody_could_use_is_refused() {
    let fields = |group: &str, plural: &str, object: Value| -> Vec<String> {
        let found = broken(&resource(group, plural), &object);
        found
            .into_iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect()
    };
    assert_eq!(fields("", "pods", pod()), [""; 0]);
    assert_eq!(
        fields("", "pods", json!({ "spec": {} })),
        ["spec.containers: Required value"]
    );
    let ports =
        json!({ "spec": { "type": "ClusterIp", "ports": [{ "port": 0, "name": "a" }, { "port": 80 }] } });
    assert_eq!(
        fields("", "services", ports),
        [
            "spec.type: Unsupported value: \"ClusterIp\": supported values: \"ClusterIP\", \"NodePort\", \"LoadBalancer\", \"ExternalName\"",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].name: Required value",
        ]
    );
    assert_eq!(
        fields("", "services", json!({ "spec": { "clusterIP": "None" } })),
        [""; 0]
    );
    let mut deployment = json!({ "spec": {
        "selector": { "matchLabels": { "app": "b" } },
        "template": { "metadata": { "labels": { "app": "a" } }, "spec": pod()["spec"] },
    } });
    let found = fields("apps", "deployments", deployment.clone());
    assert!(
        found.len() == 1 && found[0].contains("does not match template"),
        "{found:?}"
    );
    deployment["spec"]["template"]["metadata"]["labels"]["app"] = json!("b");
    assert_eq!(fields("apps", "deployments", deployment), [""; 0]);
    let slice =
        json!({ "addressType": "IP", "endpoints": [{ "addresses": [] }], "ports": [{ "port": 70000 }] });
    assert_eq!(fields("discovery.k8s.io", "endpointslices", slice).len(), 3);
}
