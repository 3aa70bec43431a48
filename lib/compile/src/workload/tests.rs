use proto::workload::{NetworkMode, TunnelProtocol, Workload, WorkloadStatus, WorkloadType};

use crate::testing::{compiled, puts, workload};
use crate::{Compiler, Settings};

const UID: &str = "Kubernetes//Pod/demo/web-1";
const READY: &str = "{phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: \"True\"}]}";

fn pod(metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: demo, name: web-1, uid: u1{metadata}}}\n\
         spec: {{containers: [{{name: a, ports: [{{name: http, containerPort: 8080}}, \
         {{name: udp, containerPort: 9, protocol: UDP}}]}}]{spec}}}\nstatus: {status}\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: {name}}}\nspec: {spec}\n")
}

fn made(text: &str) -> Workload {
    workload(&compiled(text), UID).clone()
}

#[test]
fn fields() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {topology.kubernetes.io/region: r, \
                topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}\n";
    let status = "{phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}, {ip: \"fd00::2\"}], \
                  conditions: [{type: Ready, status: \"True\"}]}";
    let web = made(&(pod("", ", nodeName: node-a, serviceAccountName: web", status) + node));
    assert_eq!(
        (web.uid.as_str(), web.name.as_str(), web.namespace.as_str()),
        (UID, "web-1", "demo")
    );
    assert_eq!(
        web.addresses
            .iter()
            .map(|address| address.len())
            .collect::<Vec<_>>(),
        [4, 16]
    );
    assert_eq!(
        (web.node.as_str(), web.service_account.as_str()),
        ("node-a", "web")
    );
    assert_eq!(
        (
            web.trust_domain.as_str(),
            web.cluster_id.as_str(),
            web.network.as_str()
        ),
        ("", "Kubernetes", "")
    );
    assert_eq!(
        (web.workload_name.as_str(), web.canonical_name.as_str()),
        ("web-1", "web-1")
    );
    assert_eq!(web.canonical_revision, "latest");
    assert_eq!(
        (web.workload_type(), web.status()),
        (WorkloadType::Pod, WorkloadStatus::Healthy)
    );
    assert_eq!(
        (web.tunnel_protocol(), web.native_tunnel),
        (TunnelProtocol::None, false)
    );
    assert_eq!(web.network_mode(), NetworkMode::Standard);
    assert!(web.capacity.is_none() && web.waypoint.is_none() && web.services.is_empty());
    let place = web.locality.expect("a place");
    assert_eq!(
        (place.region.as_str(), place.zone.as_str(), place.subzone.as_str()),
        ("r", "z", "s")
    );
    assert!(made(&pod("", ", nodeName: node-a", READY)).locality.is_none());
    assert_eq!(
        made(&pod("", ", hostNetwork: true", READY)).network_mode(),
        NetworkMode::HostNetwork
    );
    assert_eq!(made(&pod("", "", READY)).service_account, "default");

    let settings = Settings {
        trust_domain: "example.org".to_owned(),
        cluster_domain: "example.net".to_owned(),
        cluster_id: "c1".to_owned(),
        network: "n1".to_owned(),
        ..Settings::default()
    };
    let mut compiler = Compiler::new(settings);
    let text = pod(", labels: {app: web}", "", READY)
        + &service("web", "{selector: {app: web}, ports: [{port: 80}]}");
    compiler.apply(puts(&text));
    let web = workload(&compiler, "c1//Pod/demo/web-1");
    assert_eq!(
        (web.trust_domain.as_str(), web.network.as_str()),
        ("example.org", "n1")
    );
    assert_eq!(
        web.services.keys().collect::<Vec<_>>(),
        ["demo/web.demo.svc.example.net"]
    );
    assert!(compiler.addresses().contains_key("demo/web.demo.svc.example.net"));
}

#[test]
fn dropped_and_unhealthy_pods() {
    let is_there = |status: &str| compiled(&pod("", "", status)).addresses().contains_key(UID);
    assert!(
        !is_there("{phase: Succeeded, podIP: 10.1.0.2}") && !is_there("{phase: Failed, podIP: 10.1.0.2}")
    );
    assert!(!is_there("{phase: Running}") && is_there("{phase: Pending, podIP: 10.1.0.2}"));
    let health = |metadata: &str, status: &str| made(&pod(metadata, "", status)).status();
    assert_eq!(
        health("", "{phase: Pending, podIP: 10.1.0.2}"),
        WorkloadStatus::Unhealthy
    );
    let unready = "{phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: \"False\"}]}";
    assert_eq!(health("", unready), WorkloadStatus::Unhealthy);
    assert_eq!(health("", READY), WorkloadStatus::Healthy);
    let deleted = ", deletionTimestamp: \"2026-08-01T00:00:00Z\"";
    assert_eq!(health(deleted, READY), WorkloadStatus::Unhealthy);
}

#[test]
fn tunnels() {
    let cases = [
        (
            ", annotations: {ambient.istio.io/redirection: enabled}",
            TunnelProtocol::Hbone,
            false,
        ),
        (
            ", annotations: {ambient.istio.io/redirection: pending}",
            TunnelProtocol::None,
            false,
        ),
        (
            ", labels: {istio.io/dataplane-mode: ambient}",
            TunnelProtocol::None,
            false,
        ),
        (
            ", labels: {networking.istio.io/tunnel: http}",
            TunnelProtocol::Hbone,
            true,
        ),
        (
            ", labels: {networking.istio.io/tunnel: other}",
            TunnelProtocol::None,
            false,
        ),
        ("", TunnelProtocol::None, false),
    ];
    for (metadata, tunnel, native) in cases {
        let web = made(&pod(metadata, "", READY));
        assert_eq!(
            (web.tunnel_protocol(), web.native_tunnel),
            (tunnel, native),
            "{metadata}"
        );
    }
}

#[test]
fn names() {
    let owned = |kind: &str, name: &str, labels: &str| {
        format!(
            ", generateName: x, labels: {labels}, ownerReferences: [{{apiVersion: v1, kind: {kind}, name: {name}, \
             uid: o, controller: true}}]"
        )
    };
    let cases = [
        (owned("ReplicaSet", "web-5d9", "{pod-template-hash: 5d9}"), "web"),
        (
            owned("ReplicaSet", "web-5d9", "{pod-template-hash: other}"),
            "web-5d9",
        ),
        (
            owned("ReplicaSet", "web-5d9", "{rollouts-pod-template-hash: 5d9}"),
            "web",
        ),
        (
            owned("ReplicationController", "web-1", "{deploymentconfig: web}"),
            "web",
        ),
        (owned("ReplicationController", "web-1", "{}"), "web-1"),
        (owned("Job", "nightly-29012345", "{}"), "nightly"),
        (owned("Job", "nightly-1234567", "{}"), "nightly-1234567"),
        (owned("Job", "nightly-12345678901", "{}"), "nightly-12345678901"),
        (owned("DaemonSet", "agent", "{}"), "agent"),
        (
            owned("ReplicaSet", "web-5d9", "{pod-template-hash: 5d9}").replace("generateName: x, ", ""),
            "web-1",
        ),
        (
            owned("ReplicaSet", "web-5d9", "{pod-template-hash: 5d9}")
                .replace("controller: true", "controller: false"),
            "web-1",
        ),
        (
            ", labels: {service.istio.io/workload-name: own}".to_owned(),
            "own",
        ),
    ];
    for (metadata, expected) in cases {
        assert_eq!(
            made(&pod(&metadata, "", READY)).workload_name,
            expected,
            "{metadata}"
        );
    }
    let canonical = |labels: &str| {
        let web = made(&pod(&format!(", labels: {labels}"), "", READY));
        (web.canonical_name, web.canonical_revision)
    };
    let pair = |name: &str, revision: &str| (name.to_owned(), revision.to_owned());
    assert_eq!(canonical("{app: a, version: v1}"), pair("a", "v1"));
    let better = "{app: a, app.kubernetes.io/name: b, version: v1, app.kubernetes.io/version: v2}";
    assert_eq!(canonical(better), pair("b", "v2"));
    let best = "{app: a, app.kubernetes.io/name: b, service.istio.io/canonical-name: c, \
                app.kubernetes.io/version: v2, service.istio.io/canonical-revision: v3}";
    assert_eq!(canonical(best), pair("c", "v3"));
}

#[test]
fn ports_of_services() {
    let ports = |spec: &str| {
        let text = pod(", labels: {app: web}", "", READY) + &service("web", spec);
        let web = made(&text);
        web.services.get("demo/web.demo.svc.cluster.local").map(|list| {
            assert!(list.ports.iter().all(|port| port.app_protocol == 0));
            list.ports
                .iter()
                .map(|port| (port.service_port, port.target_port))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        ports("{selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8081}]}"),
        Some(vec![(80, 8081)])
    );
    assert_eq!(
        ports("{selector: {app: web}, ports: [{port: 80, targetPort: http}]}"),
        Some(vec![(80, 8080)])
    );
    assert_eq!(
        ports("{selector: {app: web}, ports: [{port: 80, targetPort: gone}]}"),
        Some(vec![])
    );
    assert_eq!(
        ports("{selector: {app: web}, ports: [{port: 80, targetPort: udp}]}"),
        Some(vec![])
    );
    assert_eq!(ports("{selector: {app: other}, ports: [{port: 80}]}"), None);
    assert_eq!(ports("{selector: {}, ports: [{port: 80}]}"), None);
    assert_eq!(ports("{ports: [{port: 80}]}"), None);
    assert_eq!(
        ports("{type: ExternalName, externalName: a, selector: {app: web}}"),
        None
    );
    // A restartable init container counts, an ordinary one does not.
    let init = |policy: &str| {
        let init =
            format!(", initContainers: [{{name: i, ports: [{{name: gone, containerPort: 7}}]{policy}}}]");
        let service = service(
            "web",
            "{selector: {app: web}, ports: [{port: 80, targetPort: gone}]}",
        );
        made(&(pod(", labels: {app: web}", &init, READY) + &service)).services["demo/web.demo.svc.cluster.local"].ports.len()
    };
    assert_eq!((init(", restartPolicy: Always"), init("")), (1, 0));
}

#[test]
fn slices() {
    let slice = |target: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{namespace: demo, name: web-s, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nendpoints:\n- {{addresses: [10.1.0.2], targetRef: {target}}}\n\
             - {{addresses: [192.0.2.1, 192.0.2.2]}}\n- {{addresses: [192.0.2.3], conditions: {{ready: false}}}}\n\
             - {{addresses: [192.0.2.1]}}\nports: [{{name: http, port: 8000}}, {{name: udp, port: 1, protocol: UDP}}]\n"
        )
    };
    let web = service(
        "web",
        "{ports: [{name: http, port: 80}, {name: udp, port: 1, protocol: UDP}, {name: more, port: 2}]}",
    );
    let target = "{kind: Pod, namespace: demo, name: web-1, uid: u1}";
    let compiler = compiled(&[pod("", "", READY), web.clone(), slice(target)].concat());
    assert_eq!(workload(&compiler, UID).services.len(), 1);
    let bare = workload(
        &compiler,
        "Kubernetes/discovery.k8s.io/EndpointSlice/demo/web-s/192.0.2.1",
    );
    assert_eq!(
        (bare.addresses.len(), bare.network_mode()),
        (2, NetworkMode::HostNetwork)
    );
    let ports = &bare.services["demo/web.demo.svc.cluster.local"].ports;
    assert_eq!(
        ports
            .iter()
            .map(|port| (port.service_port, port.target_port))
            .collect::<Vec<_>>(),
        [(80, 8000)]
    );
    assert!(bare.service_account.is_empty() && bare.authorization_policies.is_empty());
    let unready = workload(
        &compiler,
        "Kubernetes/discovery.k8s.io/EndpointSlice/demo/web-s/192.0.2.3",
    );
    assert_eq!(
        (bare.status(), unready.status()),
        (WorkloadStatus::Healthy, WorkloadStatus::Unhealthy)
    );
    assert_eq!(compiler.addresses().len(), 4);
    // Another uid is another pod; without its Service a slice means nothing.
    let other = compiled(
        &[
            pod("", "", READY),
            web.clone(),
            slice(&target.replace("u1", "u2")),
        ]
        .concat(),
    );
    assert!(workload(&other, UID).services.is_empty());
    assert_eq!(compiled(&slice(target)).addresses().len(), 0);
    // A slice that loses an endpoint takes its workload away.
    let mut compiler = compiler;
    let smaller = slice(target).replace("- {addresses: [192.0.2.3], conditions: {ready: false}}\n", "");
    let output = compiler.apply(puts(&smaller));
    assert_eq!((output.addresses.len(), output.removed_addresses.len()), (0, 1));
    let gone = puts(&smaller).into_iter().map(|(key, _)| (key, None));
    let output = compiler.apply(gone);
    assert_eq!((output.addresses.len(), output.removed_addresses.len()), (1, 1));
    assert!(workload(&compiler, UID).services.is_empty());
}
