//! The objects of a mesh of any size, the same for the same size.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Services of one namespace.
const SERVICES_OF_A_NAMESPACE: u32 = 50;

/// How large a mesh is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Size {
    /// How many pods, evenly spread over services and nodes
    #[arg(long, default_value_t = 100_000)]
    pub pods: u32,
    /// How many services
    #[arg(long, default_value_t = 5_000)]
    pub services: u32,
    /// How many nodes, each with a node proxy
    #[arg(long, default_value_t = 2_000)]
    pub nodes: u32,
}

impl Size {
    /// A mesh of a tenth of everything.
    pub fn tenth(self) -> Size {
        let part = |number: u32| (number / 10).max(1);
        Size {
            pods: part(self.pods),
            services: part(self.services),
            nodes: part(self.nodes),
        }
    }

    /// The arguments that say this size.
    pub(super) fn arguments(self) -> Vec<String> {
        [
            ("--pods", self.pods),
            ("--services", self.services),
            ("--nodes", self.nodes),
        ]
        .into_iter()
        .flat_map(|(name, number)| [name.to_owned(), number.to_string()])
        .collect()
    }

    /// How many addresses a client is told of: pods, their services, and the node proxies' own pods.
    pub(super) fn addresses(self) -> u64 {
        u64::from(self.pods) + u64::from(self.services) + u64::from(self.nodes)
    }

    fn namespace(self, service: u32) -> u32 {
        service / SERVICES_OF_A_NAMESPACE
    }
}

/// Every object; pods as large as a kubelet and controllers make them, if `whole`.
pub(super) fn objects(size: Size, whole: bool) -> impl Iterator<Item = Value> {
    let namespaces = (0..=size.namespace(size.services.saturating_sub(1))).flat_map(namespace);
    let nodes = (0..size.nodes).flat_map(node);
    let services = (0..size.services).flat_map(move |number| service(size, number));
    let pods = (0..size.pods).map(move |number| pod(size, number, 0, whole));
    let system = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "istio-system" } });
    std::iter::once(system)
        .chain(namespaces)
        .chain(nodes)
        .chain(services)
        .chain(pods)
}

/// A pod in one of its versions: the number is its canonical revision.
pub(super) fn pod(size: Size, number: u32, revision: u32, whole: bool) -> Value {
    let service = number % size.services;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(number),
            "namespace": format!("ns-{}", size.namespace(service)),
            "uid": format!("5c1f8f2e-0000-4000-8000-{number:012}"),
            "resourceVersion": revision.to_string(),
            "labels": {
                "app": format!("svc-{service}"),
                "service.istio.io/canonical-revision": format!("r{revision}"),
                "pod-template-hash": "7c5b4d9f68",
            },
            "annotations": { "ambient.istio.io/redirection": "enabled" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("svc-{service}-7c5b4d9f68"),
                "uid": "0a", "controller": true,
            }],
        },
        "spec": {
            "nodeName": format!("node-{}", number % size.nodes),
            "serviceAccountName": "web",
            "containers": [{ "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }] }],
        },
        "status": {
            "phase": "Running",
            "podIP": pod_address(number).to_string(),
            "podIPs": [{ "ip": pod_address(number).to_string() }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    if whole {
        let text = |length: usize| "x".repeat(length);
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
            json!(text(2000));
        pod["spec"]["containers"][0]["image"] = json!(text(80));
        pod["spec"]["containers"][0]["env"] = json!([{ "name": "A", "value": text(200) }]);
        pod["status"]["containerStatuses"] = json!([{
            "name": "web", "ready": true, "restartCount": 0, "image": text(80), "imageID": text(100),
            "containerID": text(80),
        }]);
    }
    pod
}

/// The uid of a pod's workload, and what stands for its version there.
pub(super) fn workload(size: Size, number: u32, revision: u32) -> (String, String) {
    let namespace = size.namespace(number % size.services);
    (
        format!("Kubernetes//Pod/ns-{namespace}/{}", pod_name(number)),
        format!("r{revision}"),
    )
}

/// A number for a set of workloads in their versions: the sum over all of them, so that the order is of no account.
pub(super) fn digest(uid: &str, revision: &str) -> u64 {
    // FNV-1a.
    uid.bytes()
        .chain([0])
        .chain(revision.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// Name and uid of the pod of a node's proxy.
pub(super) fn proxy(node: u32) -> (String, String) {
    (
        format!("ztunnel-{node}"),
        format!("5c1f8f2e-0000-4000-8001-{node:012}"),
    )
}

fn pod_name(number: u32) -> String {
    format!("svc-7c5b4d9f68-{number:06}")
}

/// 10.0.0.1 and on.
fn pod_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + number)
}

fn namespace(number: u32) -> [Value; 3] {
    let name = format!("ns-{number}");
    [
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "istio.io/dataplane-mode": "ambient" } },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web", "namespace": name } }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "default", "namespace": name }, "spec": { "mtls": { "mode": "STRICT" } },
        }),
    ]
}

fn node(number: u32) -> [Value; 2] {
    let name = format!("node-{number}");
    let (proxy, uid) = proxy(number);
    // 172.16.0.1 and on.
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + number).to_string();
    [
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": {
                "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": format!("z{}", number % 3),
            } },
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": proxy, "namespace": "istio-system", "uid": uid },
            "spec": { "nodeName": name, "serviceAccountName": "ztunnel", "containers": [{ "name": "istio-proxy" }] },
            "status": {
                "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }),
    ]
}

fn service(size: Size, number: u32) -> [Value; 2] {
    let (name, namespace) = (format!("svc-{number}"), format!("ns-{}", size.namespace(number)));
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 1)) + number).to_string();
    let endpoints: Vec<Value> = (number..size.pods)
        .step_by(size.services.max(1) as usize)
        .map(|pod| {
            json!({
                "addresses": [pod_address(pod).to_string()],
                "conditions": { "ready": true },
                "nodeName": format!("node-{}", pod % size.nodes),
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": pod_name(pod) },
            })
        })
        .collect();
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "clusterIP": address, "selector": { "app": name },
                "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-abcde"), "namespace": namespace,
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": endpoints,
        }),
    ]
}
