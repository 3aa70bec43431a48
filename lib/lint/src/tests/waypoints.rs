//! What is said of policies that count on waypoints agrees with what becomes of connections.

use compile::InFront;
use objects::{Kind, ObjectKey};

use super::*;

const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: attached, namespace: shop}\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: backend, namespace: shop, labels: \
                       {istio.io/use-waypoint: gate}}\nspec: {ports: [{port: 80}]}\n";
const UNLABELLED: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: backend, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, \
                         istio.io/use-waypoint: gate}}\n";

fn gateway(class: &str, traffic: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gate, namespace: shop, labels: \
         {{istio.io/waypoint-for: {traffic}}}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: \
         15008, protocol: HBONE}}]}}\n"
    )
}

#[test]
fn nobody_enforces_is_said_only_where_connections_are_not_refused() {
    let attached = |to: &str, action: &str| {
        format!(
            "{POLICY}spec: {{targetRefs: [{{kind: {to}}}], action: {action}, rules: [{{from: [{{source: {{namespaces: \
             [evil]}}}}]}}]}}\n"
        )
    };
    let service = |action: &str| attached("Service, name: backend", action);
    let gate = |action: &str| attached("Gateway, group: gateway.networking.k8s.io, name: gate", action);
    let inherited = format!("{UNLABELLED}---\n{NAMESPACE}");
    let (other, workload) = (
        gateway("remote-class", "all").replace("HBONE", "HTTP"),
        gateway("istio-waypoint", "workload"),
    );
    let good = gateway("istio-waypoint", "all");
    let mut closed = 0;
    for (name, objects, gateway, waypoints_run) in [
        ("not there", SERVICE, None, true),
        ("not there, by its namespace", &inherited, None, true),
        ("of another class", SERVICE, Some(&other), true),
        ("for other traffic", SERVICE, Some(&workload), true),
        ("where none run", SERVICE, Some(&good), false),
        (
            "for other traffic, where none run",
            SERVICE,
            Some(&workload),
            false,
        ),
    ] {
        for policy in [service("DENY"), service("AUDIT"), gate("DENY"), gate("AUDIT")] {
            let mut text = format!("{policy}---\n{objects}");
            if let Some(gateway) = gateway {
                text = format!("{text}---\n{gateway}");
            }
            // The later Namespace of one name counts.
            let text = if objects == inherited {
                text
            } else {
                format!("{MESH}---\n{text}")
            };
            let input = input(&text);
            let settings = Settings {
                waypoints_run,
                ..Settings::default()
            };
            let compiler = crate::waypoints::compiler(input.objects.iter(), &settings);
            let key = ObjectKey::new(Kind::Service, "shop", "backend");
            let is_closed = matches!(compiler.in_front_of(&key), InFront::Closed(_));
            closed += usize::from(is_closed);
            let found = lint(&input, &settings);
            let about: Vec<&Finding> = found
                .iter()
                .filter(|finding| {
                    matches!(
                        finding.code,
                        Code::WaypointNotFound | Code::WaypointNotUsable | Code::TargetWithoutWaypoint
                    )
                })
                .collect();
            assert!(!about.is_empty(), "{name}: {policy}{}", listed(&found));
            for finding in about {
                let (unenforced, refused) = (
                    finding.why.contains("nobody enforces"),
                    finding.why.contains("connections are refused"),
                );
                assert_eq!(refused, is_closed, "{name}: {policy}{finding}");
                assert!(!(unenforced && is_closed), "{name}: {policy}{finding}");
            }
        }
    }
    assert!(closed > 0, "no case in which connections are refused");
}
