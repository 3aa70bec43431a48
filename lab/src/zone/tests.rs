use dns::Resolver;
use serde_json::json;

use super::*;

fn object(value: serde_json::Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).unwrap())
}

fn pod(name: &str, address: &str, ready: bool, spec: serde_json::Value) -> Arc<Object> {
    let mut value = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "n", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "a", "image": "x" }] },
        "status": { "phase": "Running", "podIP": address,
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] } });
    for (key, part) in spec.as_object().into_iter().flatten() {
        value["spec"][key] = part.clone();
    }
    object(value)
}

#[test]
fn names_follow_services_and_ready_pods() {
    let service = |name: &str, address: &str| {
        object(
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "n" },
            "spec": { "clusterIP": address, "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
        )
    };
    let objects = [
        service("web", "10.96.0.10"),
        service("all", "None"),
        pod(
            "a",
            "10.244.1.2",
            true,
            json!({ "hostname": "first", "subdomain": "all" }),
        ),
        pod("b", "10.244.1.3", false, json!({})),
        pod(
            "c",
            "10.244.2.2",
            true,
            json!({ "hostname": "other", "subdomain": "elsewhere" }),
        ),
    ];
    let zone = SharedZone::default();
    zone.replace(Zone::new(&objects));
    let addresses = |name: &str| -> Option<Vec<String>> {
        Some(zone.lookup(name)?.iter().map(ToString::to_string).collect())
    };
    assert_eq!(
        addresses("web.n.svc.cluster.local"),
        Some(vec!["10.96.0.10".to_owned()])
    );
    assert_eq!(
        addresses("all.n.svc.cluster.local"),
        Some(vec!["10.244.1.2".to_owned(), "10.244.2.2".to_owned()])
    );
    assert_eq!(
        addresses("first.all.n.svc.cluster.local"),
        Some(vec!["10.244.1.2".to_owned()])
    );
    assert_eq!(addresses("other.all.n.svc.cluster.local"), None);
    assert_eq!(addresses("web.other.svc.cluster.local"), None);
    assert!(zone.zone_authoritative("example.org"));
}
