//! WorkloadEntries on the wire.

use objects::{Kind, ObjectKey};

use crate::testing::{accepts, compiled, workload};

const UID: &str = "Kubernetes/networking.istio.io/WorkloadEntry/demo/vm";

fn vm(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{namespace: demo, name: vm{metadata}}}\n\
         spec: {spec}\n"
    )
}

#[test]
fn its_fields_are_those_of_the_workload() {
    let made = compiled(&vm(
        ", labels: {app: db, version: v1}, annotations: {istio.io/autoRegistrationGroup: vms, \
         ambient.istio.io/redirection: enabled}",
        "{address: 10.6.0.1, labels: {version: v2}, serviceAccount: db, network: far, locality: r/z, weight: 2}",
    ));
    let made = workload(&made, UID);
    assert_eq!((made.name.as_str(), made.namespace.as_str()), ("vm", "demo"));
    assert_eq!(made.addresses, [vec![10, 6, 0, 1]]);
    assert_eq!(
        (made.workload_name.as_str(), made.service_account.as_str()),
        ("vms", "db")
    );
    // What stands in it overrides the labels of the object.
    assert_eq!(
        (made.canonical_name.as_str(), made.canonical_revision.as_str()),
        ("db", "v2")
    );
    assert_eq!((made.network.as_str(), made.capacity), ("far", Some(2)));
    assert_eq!((made.tunnel_protocol, made.native_tunnel), (1, false));
    // On another network it is not found by its address.
    assert_eq!((made.status, made.network_mode, made.workload_type), (0, 1, 2));
    let place = made.locality.as_ref().expect("a locality");
    assert_eq!([&place.region, &place.zone, &place.subzone], ["r", "z", ""]);
}

#[test]
fn a_name_is_resolved_by_who_connects_and_a_socket_is_reached_by_nobody() {
    let by_name = compiled(&vm("", "{address: VM.example}"));
    let made = workload(&by_name, UID);
    assert_eq!((made.hostname.as_str(), made.addresses.len()), ("vm.example", 0));
    let by_socket = compiled(&vm("", "{address: \"unix:///run/a.sock\"}"));
    assert!(by_socket.addresses().is_empty());
}

#[test]
fn services_select_it_with_its_own_ports() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: db}\nspec: {selector: {app: db}, \
                   ports: [{name: a, port: 1, targetPort: 10}, {name: b, port: 2, targetPort: 20}, {name: c, port: 3, \
                   targetPort: web}, {name: d, port: 4, targetPort: gone}]}\n";
    let compiler = compiled(
        &(vm(
            "",
            "{address: 10.6.0.1, labels: {app: db}, ports: {a: 11, web: 33}}",
        ) + service),
    );
    let ports = &workload(&compiler, UID).services["demo/db.demo.svc.cluster.local"].ports;
    let ports: Vec<_> = ports
        .iter()
        .map(|port| (port.service_port, port.target_port))
        .collect();
    assert_eq!(ports, [(1, 11), (2, 20), (3, 33)]);
}

#[test]
fn policies_select_it_by_either_label() {
    let policies = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: demo, name: p}\n\
                    spec: {selector: {matchLabels: {app: db}}, rules: [{}]}\n---\napiVersion: security.istio.io/v1\nkind: \
                    PeerAuthentication\nmetadata: {namespace: demo, name: s}\nspec: {selector: {matchLabels: {tier: t}}, \
                    mtls: {mode: STRICT}}\n";
    let compiler =
        compiled(&(vm(", labels: {app: db}", "{address: 10.6.0.1, labels: {tier: t}}") + policies));
    let made = workload(&compiler, UID);
    assert_eq!(
        made.authorization_policies,
        ["demo/p", "istio-system/istio_converted_static_strict"]
    );
    let mut strict_only = made.clone();
    strict_only.authorization_policies.retain(|key| key != "demo/p");
    assert!(!accepts(&compiler, &strict_only, 80, None));
    assert!(accepts(
        &compiler,
        &strict_only,
        80,
        Some("cluster.local/ns/demo/sa/x")
    ));
}

#[test]
fn it_is_told_of_its_waypoint() {
    let compiler = compiled(&vm(
        ", labels: {istio.io/use-waypoint: gone}",
        "{address: 10.6.0.1}",
    ));
    let told = &compiler.conditions()[&ObjectKey::new(Kind::WorkloadEntry, "demo", "vm")];
    assert_eq!(
        (told[0].kind, told[0].reason),
        ("istio.io/WaypointBound", "WaypointIsNotReady")
    );
}
