use objects::Object;
use serde_json::json;

use super::*;

/// A pod as an API server of today has it, with what its controllers and kubelet write.
fn real_pod() -> Value {
    let probe = json!({ "httpGet": { "path": "/ready", "port": 8080, "scheme": "HTTP" }, "timeoutSeconds": 1,
        "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3 });
    let fields = json!({ "f:metadata": { "f:labels": { ".": {}, "f:app": {}, "f:pod-template-hash": {} } },
        "f:spec": { "f:containers": { "k:{\"name\":\"app\"}": { ".": {}, "f:image": {}, "f:env": { ".": {} } } } } });
    json!({
        "metadata": {
            "name": "web-7c5b4d9f68-x2x9p", "generateName": "web-7c5b4d9f68-", "namespace": "shop",
            "uid": "6f1c6e6e-6c0c-4b43-8f0a-3f0f2a0f9b11", "resourceVersion": "123456", "generation": 1,
            "creationTimestamp": "2026-08-01T12:00:00Z",
            "labels": { "app": "web", "version": "v1", "pod-template-hash": "7c5b4d9f68" },
            "annotations": {
                "kubectl.kubernetes.io/restartedAt": "2026-08-01T12:00:00Z",
                "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(4000),
                "prometheus.io/scrape": "true",
                "ambient.istio.io/redirection": "enabled",
            },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c5b4d9f68",
                "uid": "0a", "controller": true, "blockOwnerDeletion": true },
                { "apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "0b" }],
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-08-01T12:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields }],
        },
        "spec": {
            "volumes": [{ "name": "kube-api-access-abcde", "projected": { "defaultMode": 420, "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } }] } }],
            "initContainers": [
                { "name": "setup", "image": "setup:1" },
                { "name": "log", "image": "log:1", "restartPolicy": "Always",
                  "ports": [{ "containerPort": 9000, "name": "log", "protocol": "TCP" }] }],
            "containers": [
                { "name": "helper", "image": "helper:1", "aFieldOfNextYear": { "x": [1] } },
                { "name": "app", "image": "registry.example.com/shop/web:1.2.3",
                  "command": ["/app"], "args": ["--verbose"],
                  "env": [{ "name": "A", "value": "B" }, { "name": "C", "valueFrom": { "secretKeyRef":
                      { "name": "s", "key": "k" } } }],
                  "ports": [{ "name": "http", "containerPort": 8080, "hostPort": 80, "protocol": "TCP" }],
                  "resources": { "limits": { "memory": "1Gi" }, "requests": { "cpu": "100m" } },
                  "readinessProbe": probe, "livenessProbe": probe,
                  "volumeMounts": [{ "name": "kube-api-access-abcde", "readOnly": true, "mountPath": "/var/run" }],
                  "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent" }],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "serviceAccountName": "web",
            "serviceAccount": "web", "nodeName": "node-17", "securityContext": {}, "schedulerName": "default",
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" }],
            "aFieldOfNextYear": true,
        },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.17", "hostIPs": [{ "ip": "192.0.2.17" }],
            "podIP": "10.4.17.9", "podIPs": [{ "ip": "10.4.17.9" }], "startTime": "2026-08-01T12:00:00Z",
            "conditions": [
                { "type": "PodReadyToStartContainers", "status": "True" },
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-08-01T12:00:09Z" },
                { "type": "PodScheduled", "status": "True" }],
            "containerStatuses": [{ "name": "app", "ready": true, "restartCount": 0, "image": "web:1.2.3",
                "imageID": "sha256:1", "containerID": "containerd://1", "state": { "running": {} } }],
            "qosClass": "Burstable", "aFieldOfNextYear": [1, 2],
        },
    })
}

fn pruned(kind: Kind, value: Value) -> Value {
    let Value::Object(mut fields) = value else {
        panic!("no object")
    };
    fields.insert("apiVersion".to_owned(), kind.api_versions()[0].into());
    fields.insert("kind".to_owned(), kind.as_str().into());
    prune(kind, &mut fields);
    Value::Object(fields)
}

#[test]
fn of_a_pod_stays_what_is_read() {
    let pod = pruned(Kind::Pod, real_pod());
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-7c5b4d9f68-x2x9p", "generateName": "web-7c5b4d9f68-", "namespace": "shop",
            "uid": "6f1c6e6e-6c0c-4b43-8f0a-3f0f2a0f9b11", "resourceVersion": "123456", "generation": 1,
            "creationTimestamp": "2026-08-01T12:00:00Z",
            "labels": { "app": "web", "version": "v1", "pod-template-hash": "7c5b4d9f68" },
            "annotations": { "ambient.istio.io/redirection": "enabled" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c5b4d9f68",
                "uid": "0a", "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": {
            "initContainers": [{ "name": "log", "restartPolicy": "Always",
                "ports": [{ "containerPort": 9000, "name": "log", "protocol": "TCP" }] }],
            "containers": [{ "name": "app",
                "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }] }],
            "serviceAccountName": "web", "nodeName": "node-17",
        },
        "status": { "phase": "Running", "podIP": "10.4.17.9",
            "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    assert_eq!(pod, expected);
    Object::from_value(pod).unwrap();
}

#[test]
fn a_pod_stays_a_pod_and_keeps_its_addresses() {
    let pod = pruned(
        Kind::Pod,
        json!({
            "metadata": { "name": "a", "namespace": "demo" },
            "spec": { "containers": [{ "name": "one" }, { "name": "two" }], "serviceAccount": "old" },
            "status": { "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
        }),
    );
    let pod = Object::from_value(pod).unwrap();
    let pod = pod.as_pod().unwrap();
    assert_eq!(pod.spec.containers.len(), 1);
    assert_eq!(pod.spec.service_account_name, "old");
    assert_eq!(pod.status.pod_ips.len(), 2);
}

#[test]
fn only_annotations_that_are_read_stay() {
    for read in [
        "istio.io/dry-run",
        "ambient.istio.io/redirection",
        "ztunnel.dev/x",
        "a.ztunnel.dev/x",
    ] {
        assert!(is_read(read), "{read}");
    }
    for other in [
        "plain",
        "notistio.io/x",
        "kubectl.kubernetes.io/restartedAt",
        "istio.io.example/x",
    ] {
        assert!(!is_read(other), "{other}");
    }
}

#[test]
fn policies_stay_whole() {
    let policy = json!({
        "metadata": { "name": "p", "namespace": "demo" },
        "spec": { "action": "DENY", "aFieldOfNextYear": { "x": null } },
        "status": { "conditions": [] },
    });
    let kept = pruned(Kind::AuthorizationPolicy, policy.clone());
    assert_eq!(
        (&kept["spec"], &kept["status"]),
        (&policy["spec"], &policy["status"])
    );
}

#[test]
fn every_kind_keeps_what_its_reader_demands() {
    let metadata = json!({ "name": "a", "namespace": "demo", "annotations": {}, "managedFields": [] });
    let cases = [
        (
            Kind::Service,
            json!({ "metadata": metadata, "spec": { "clusterIP": "10.9.0.1", "ports": [{ "port": 80, "nodePort": 1 }],
                "aFieldOfNextYear": 1 }, "status": { "loadBalancer": {} } }),
        ),
        (
            Kind::EndpointSlice,
            json!({ "metadata": metadata, "addressType": "IPv4", "aFieldOfNextYear": 1, "ports": null,
                "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true, "new": true },
                    "hints": { "forZones": [] }, "targetRef": { "kind": "Pod", "name": "a", "new": 1 } }] }),
        ),
        (
            Kind::Node,
            json!({ "metadata": { "name": "a" }, "spec": { "new": 1 }, "status": { "images": [] } }),
        ),
        (
            Kind::Namespace,
            json!({ "metadata": { "name": "a" }, "spec": { "finalizers": [] }, "status": { "new": 1 } }),
        ),
        (
            Kind::ServiceAccount,
            json!({ "metadata": metadata, "secrets": [], "new": 1 }),
        ),
    ];
    for (kind, value) in cases {
        let object = Object::from_value(pruned(kind, value)).unwrap();
        assert_eq!(object.kind(), kind);
    }
}

/// A field that a later version brings must not make an entry or waypoint unreadable: it would be missing, and called in
/// plaintext.
#[test]
fn entries_and_gateways_are_read_whatever_later_versions_add() {
    let later = json!({ "x": [1] });
    let entry = json!({
        "metadata": { "name": "e", "namespace": "demo" },
        "spec": { "hosts": ["a.example"], "resolution": "STATIC", "aFieldOfNextYear": later,
            "ports": [{ "number": 80, "name": "http", "aFieldOfNextYear": 1 }],
            "endpoints": [{ "address": "192.0.2.1", "aFieldOfNextYear": 1 }] },
        "status": { "addresses": [{ "host": "a.example", "value": "240.240.0.1" }], "aFieldOfNextYear": 1,
            "conditions": [{ "type": "Other", "status": "True" }] },
    });
    let machine = json!({
        "metadata": { "name": "m", "namespace": "demo" },
        "spec": { "address": "192.0.2.1", "aFieldOfNextYear": later },
        "status": { "conditions": [{ "type": "Other", "status": "True" }], "aFieldOfNextYear": 1 },
    });
    let group = json!({
        "metadata": { "name": "g", "namespace": "demo" },
        "spec": { "template": { "aFieldOfNextYear": later }, "aFieldOfNextYear": 1 },
    });
    let gateway = json!({
        "metadata": { "name": "w", "namespace": "demo" },
        "spec": { "gatewayClassName": "istio-waypoint", "aFieldOfNextYear": later, "listeners": [{ "name": "mesh",
            "port": 15008, "protocol": "HBONE", "aFieldOfNextYear": 1,
            "allowedRoutes": { "namespaces": { "from": "All" }, "kinds": [{ "kind": "HTTPRoute" }] } }] },
        "status": { "addresses": [{ "type": "Hostname", "value": "w.demo", "aFieldOfNextYear": 1 }],
            "conditions": [{ "type": "Programmed", "status": "True" }] },
    });
    let class =
        json!({ "metadata": { "name": "c" }, "spec": { "controllerName": "x", "aFieldOfNextYear": later } });
    for (kind, value) in [
        (Kind::ServiceEntry, entry),
        (Kind::WorkloadEntry, machine),
        (Kind::WorkloadGroup, group),
        (Kind::Gateway, gateway),
        (Kind::GatewayClass, class),
    ] {
        let kept = pruned(kind, value);
        assert!(!kept.to_string().contains("aFieldOfNextYear"), "{kept}");
        let object = Object::from_value(kept).unwrap_or_else(|errors| panic!("{errors}"));
        match kind {
            Kind::ServiceEntry => {
                assert_eq!(object.as_service_entry().unwrap().allocated.len(), 1);
                // What is written to a status is compared with what is there.
                assert_eq!(object.raw()["status"]["conditions"][0]["type"], "Other");
            }
            Kind::WorkloadEntry => assert_eq!(object.raw()["status"]["conditions"][0]["type"], "Other"),
            Kind::Gateway => {
                let gateway = object.as_gateway().unwrap();
                assert_eq!(gateway.addresses.len(), 1);
                assert_eq!(gateway.listeners[0].allowed, objects::AllowedNamespaces::All);
            }
            _ => {}
        }
    }
}
