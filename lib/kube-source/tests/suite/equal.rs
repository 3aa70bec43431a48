//! The same manifests mean the same, wherever they are stored: byte for byte what proxies are served.

use std::collections::BTreeMap;

use compile::{Compiler, Settings};
use kube_api::{ApiServer, Options};
use kube_source::{KubernetesStore, Wanted};
use object_store::{Directory, ObjectSource};
use objects::Object;
use prost::Message;
use serde_json::{Value, json};

use crate::support::Reader;

/// A small mesh, with everything in it that an API server, a scheduler and a kubelet write.
fn manifests() -> Vec<Value> {
    let mut all = vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop",
            "labels": { "istio.io/dataplane-mode": "ambient" } }, "spec": { "finalizers": ["kubernetes"] } }),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "istio-system" } }),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-a", "labels": {
            "topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "r1-z1" } },
            "spec": { "podCIDR": "10.4.0.0/24" },
            "status": { "images": [{ "names": ["a"], "sizeBytes": 1 }], "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web", "namespace": "shop" },
            "secrets": [{ "name": "x" }] }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop",
            "annotations": { "networking.istio.io/traffic-distribution": "PreferClose" } },
            "spec": { "clusterIP": "10.9.0.1", "clusterIPs": ["10.9.0.1"], "type": "NodePort",
                "selector": { "app": "web" }, "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{ "name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP" },
                          { "name": "log", "port": 81, "targetPort": "log", "protocol": "TCP" }] },
            "status": { "loadBalancer": {} } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "outside", "namespace": "shop" },
            "spec": { "clusterIP": "10.9.0.2", "ipFamilies": ["IPv4"], "ports": [{ "port": 443 }] } }),
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "outside-1",
            "namespace": "shop", "labels": { "kubernetes.io/service-name": "outside" } }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["203.0.113.7"], "conditions": { "ready": true, "serving": true } }],
            "ports": [{ "name": "", "port": 8443, "protocol": "TCP" }] }),
        json!({ "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "default", "namespace": "istio-system" }, "spec": { "mtls": { "mode": "STRICT" } } }),
        json!({ "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "web", "namespace": "shop" }, "spec": { "selector": { "matchLabels": { "app": "web" } },
            "mtls": { "mode": "STRICT" }, "portLevelMtls": { "9000": { "mode": "PERMISSIVE" } } } }),
        json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "web", "namespace": "shop" }, "spec": { "selector": { "matchLabels": { "app": "web" } },
            "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/shop/sa/client"] } }],
                        "to": [{ "operation": { "ports": ["8080"] } }] }] } }),
        json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "trial", "namespace": "shop", "annotations": { "istio.io/dry-run": "true" } },
            "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] } }),
    ];
    all.extend(beyond_kubernetes());
    for (index, phase) in ["Running", "Running", "Pending", "Failed"]
        .into_iter()
        .enumerate()
    {
        all.push(pod(index, phase));
    }
    for (index, object) in all.iter_mut().enumerate() {
        // What the stores would otherwise choose themselves.
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert(
            "uid".to_owned(),
            json!(format!("00000000-0000-4000-8000-{index:012}")),
        );
        let second = format!("2026-08-01T12:00:{index:02}Z");
        metadata.insert("creationTimestamp".to_owned(), json!(second));
    }
    all
}

/// What stands before Services and what Kubernetes has no Service for, with fields that nobody reads.
fn beyond_kubernetes() -> Vec<Value> {
    let istio = |kind: &str, name: &str, spec: Value, status: Value| {
        json!({ "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": { "name": name, "namespace": "shop", "labels": { "app": "web" } }, "spec": spec, "status": status })
    };
    let gateway = |kind: &str, name: &str, labels: Value, spec: Value, status: Value| {
        let mut object = json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": { "name": name, "labels": labels }, "spec": spec, "status": status });
        if kind == "Gateway" {
            object["metadata"]["namespace"] = json!("shop");
        }
        object
    };
    let hbone = json!([{ "name": "mesh", "port": 15008, "protocol": "HBONE", "tls": { "mode": "Terminate" },
        "allowedRoutes": { "namespaces": { "from": "Same" }, "kinds": [] } }]);
    vec![
        gateway(
            "GatewayClass",
            "istio-waypoint",
            json!({ "istio.io/waypoint-for": "all" }),
            json!({ "controllerName": "istio.io/mesh-controller", "description": "x" }),
            json!({ "conditions": [] }),
        ),
        gateway(
            "Gateway",
            "way",
            json!({}),
            json!({ "gatewayClassName": "istio-waypoint", "listeners": hbone }),
            json!({ "addresses": [{ "type": "Hostname", "value": "way.shop.svc.cluster.local" }],
                "listeners": [{ "name": "mesh", "attachedRoutes": 0, "supportedKinds": [], "conditions": [] }] }),
        ),
        gateway(
            "Gateway",
            "far",
            json!({ "topology.istio.io/network": "far" }),
            json!({ "gatewayClassName": "istio-remote", "listeners": hbone,
                "addresses": [{ "type": "IPAddress", "value": "203.0.113.1" }] }),
            json!({}),
        ),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "waylaid", "namespace": "shop",
            "labels": { "istio.io/use-waypoint": "way" } }, "spec": { "clusterIP": "10.9.0.3",
            "ipFamilies": ["IPv4"], "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80 }] },
            "status": { "loadBalancer": {}, "conditions": [{ "type": "istio.io/WaypointBound", "status": "True" }] } }),
        istio(
            "ServiceEntry",
            "outside",
            json!({ "hosts": ["a.example", "b.example"], "resolution": "STATIC",
            "location": "MESH_EXTERNAL", "exportTo": ["."], "ports": [{ "number": 443, "name": "tls", "protocol": "TLS" }],
            "endpoints": [{ "address": "203.0.113.9", "weight": 2, "locality": "r1/z1" }] }),
            json!({ "addresses": [{ "host": "a.example", "value": "240.240.0.7" },
                { "host": "b.example", "value": "240.240.0.8" }], "validationMessages": [{ "level": "INFO" }] }),
        ),
        istio(
            "ServiceEntry",
            "inside",
            json!({ "hosts": ["inside.example"], "addresses": ["10.8.0.0/16"],
            "resolution": "STATIC", "workloadSelector": { "labels": { "app": "web" } },
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }] }),
            json!({}),
        ),
        istio(
            "WorkloadEntry",
            "vm",
            json!({ "address": "10.5.0.9", "serviceAccount": "vm", "network": "far",
            "ports": { "http": 8081 }, "labels": { "app": "web" } }),
            json!({ "conditions": [] }),
        ),
        istio(
            "WorkloadGroup",
            "vms",
            json!({ "metadata": { "labels": { "app": "web" } },
            "template": { "serviceAccount": "vm" }, "probe": { "tcpSocket": { "port": 80 } } }),
            json!({}),
        ),
    ]
}

fn pod(index: usize, phase: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("web-6d5c-{index}"), "generateName": "web-6d5c-", "namespace": "shop",
            "labels": { "app": "web", "pod-template-hash": "6d5c", "version": "v2" },
            "annotations": { "ambient.istio.io/redirection": if index == 0 { "enabled" } else { "pending" },
                "kubectl.kubernetes.io/last-applied-configuration": "{}" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d5c", "uid": "0a",
                "controller": true }] },
        "spec": { "nodeName": "node-a", "serviceAccountName": "web", "serviceAccount": "web",
            "initContainers": [{ "name": "setup", "image": "i" },
                { "name": "log", "image": "i", "restartPolicy": "Always", "ports": [{ "name": "log", "containerPort": 9000 }] }],
            "containers": [{ "name": "helper", "image": "i" }, { "name": "web", "image": "i", "ports": [
                { "name": "http", "containerPort": 8080, "protocol": "TCP" },
                { "name": "udp", "containerPort": 53, "protocol": "UDP" }] }] },
        "status": { "phase": phase, "podIP": format!("10.4.0.{index}"), "hostIP": "192.0.2.1",
            "conditions": [{ "type": "PodScheduled", "status": "True" },
                { "type": "Ready", "status": if phase == "Running" { "True" } else { "False" } }],
            "containerStatuses": [{ "name": "web", "ready": true, "restartCount": 1, "image": "i", "imageID": "" }] },
    });
    if index == 1 {
        pod["status"]["podIPs"] = json!([{ "ip": "10.4.0.1" }, { "ip": "fd00::1" }]);
        pod["spec"]["hostNetwork"] = json!(true);
    }
    pod
}

/// Everything that proxies would be served, by type and name.
async fn served(source: &dyn ObjectSource) -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut reader = Reader::new(source);
    reader.next().await;
    let mut compiler = Compiler::new(Settings {
        network_gateway_namespaces: vec!["shop".to_owned()],
        ..Settings::default()
    });
    let objects = reader.objects.into_iter();
    compiler.apply(objects.map(|(key, object)| (key, Some(object))));
    let addresses = compiler.addresses().iter();
    let addresses = addresses.map(|(name, address)| (("address", name.clone()), address.encode_to_vec()));
    let policies = compiler.policies().iter();
    let policies = policies.map(|(name, policy)| (("policy", name.clone()), policy.encode_to_vec()));
    addresses.chain(policies).collect()
}

#[tokio::test]
async fn both_stores_serve_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let server = ApiServer::start(Options::default()).await.unwrap();
    for manifest in manifests() {
        server.put(manifest.clone()).unwrap();
        directory.put(Object::from_value(manifest).unwrap()).unwrap();
    }
    let api = kube_source::ApiServer::at(&server.url(), None, None).unwrap();
    let kubernetes = served(&KubernetesStore::new(api, Wanted::for_control_plane())).await;
    let files = served(&directory).await;
    let names =
        |served: &BTreeMap<(&'static str, String), Vec<u8>>| served.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kubernetes), names(&files));
    // Pods that have ended are none; the dry run is one of the policies.
    assert_eq!(
        files.keys().filter(|(kind, _)| *kind == "address").count(),
        // Pods, Services, the endpoint without a pod; then the Service behind a waypoint, three hosts with the endpoint
        // of one entry, the WorkloadEntry and the gateway.
        (3 + 2 + 1) + (1 + 3 + 1 + 1 + 1),
        "{:?}",
        names(&files)
    );
    assert!(
        files.keys().filter(|(kind, _)| *kind == "policy").count() >= 3,
        "{:?}",
        names(&files)
    );
    for (name, bytes) in &files {
        assert_eq!(&kubernetes[name], bytes, "{name:?}");
    }
}
