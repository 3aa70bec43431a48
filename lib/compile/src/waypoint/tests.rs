//! What stands in front of what, and what its author is told.

use objects::{Kind, ObjectKey};
use proto::workload::{GatewayAddress, gateway_address::Destination};

use crate::Compiler;
use crate::testing::{compiled, pod, puts, service, stored, workload};

const SERVICE: &str = "demo/web.demo.svc.cluster.local";

fn space(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
}

fn web(labels: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: web, labels: {labels}, annotations: \
         {annotations}}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}\n"
    )
}

/// A waypoint that is ready, by name.
fn waypoint(namespace: &str, name: &str, labels: &str, from: &str) -> String {
    let status = format!("{{addresses: [{{type: Hostname, value: {name}.{namespace}.svc.cluster.local}}]}}");
    gateway(namespace, name, labels, from, &status)
}

fn gateway(namespace: &str, name: &str, labels: &str, from: &str, status: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{namespace: {namespace}, name: {name}, \
         labels: {labels}}}\nspec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, \
         protocol: HBONE, allowedRoutes: {{namespaces: {{from: {from}}}}}}}]}}\nstatus: {status}\n"
    )
}

fn policy(namespace: &str, target: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: {namespace}, name: \
         guard}}\nspec: {{targetRefs: [{target}], rules: [{{}}]}}\n"
    )
}

/// A waypoint in words: `namespace/hostname` or address.
fn words(address: &GatewayAddress) -> String {
    assert_eq!(address.hbone_mtls_port, 15008);
    match address.destination.as_ref().expect("a destination") {
        Destination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
        Destination::Address(address) => format!("{:?} on {:?}", address.address.to_vec(), address.network),
    }
}

fn of_service(compiler: &Compiler) -> Option<String> {
    service(compiler, SERVICE).waypoint.as_ref().map(words)
}

fn of_pod(compiler: &Compiler, name: &str) -> Option<String> {
    let uid = format!("Kubernetes//Pod/demo/{name}");
    workload(compiler, &uid).waypoint.as_ref().map(words)
}

/// Status, reason and message of the condition of the Service.
fn told(compiler: &Compiler) -> Option<(bool, &'static str, String)> {
    let key = ObjectKey::new(Kind::Service, "demo", "web");
    let conditions = &compiler.conditions()[&key];
    let bound = conditions
        .iter()
        .find(|condition| condition.kind == "istio.io/WaypointBound")?;
    Some((bound.status, bound.reason, bound.message.clone()))
}

#[test]
fn a_label_names_the_waypoint_and_overrides_that_of_the_namespace() {
    let ready = waypoint("demo", "own", "{}", "Same") + &waypoint("infra", "shared", "{}", "All");
    let inherits = "{istio.io/use-waypoint: shared, istio.io/use-waypoint-namespace: infra}";
    let cases = [
        ("{}", "{}", None),
        (
            "{istio.io/use-waypoint: own}",
            "{}",
            Some("demo/own.demo.svc.cluster.local"),
        ),
        ("{}", inherits, Some("infra/shared.infra.svc.cluster.local")),
        (
            "{istio.io/use-waypoint: own}",
            inherits,
            Some("demo/own.demo.svc.cluster.local"),
        ),
        ("{istio.io/use-waypoint: none}", inherits, None),
        // One that is not there is no reason to take the namespace's.
        ("{istio.io/use-waypoint: gone}", inherits, None),
    ];
    for (own, namespace, expected) in cases {
        let compiler = compiled(&(ready.clone() + &space("demo", namespace) + &web(own, "{}")));
        assert_eq!(of_service(&compiler).as_deref(), expected, "{own} {namespace}");
        if expected.is_some() {
            let (status, reason, _) = told(&compiler).expect("a condition");
            assert_eq!((status, reason), (true, "WaypointAccepted"), "{own} {namespace}");
        }
    }
}

#[test]
fn a_gateway_is_a_waypoint_once_it_has_an_address_names_first() {
    let cases = [
        ("{}", None),
        ("{addresses: []}", None),
        (
            "{addresses: [{type: IPAddress, value: 10.9.0.1}]}",
            Some("[10, 9, 0, 1] on \"\""),
        ),
        (
            "{addresses: [{value: 10.9.0.1}, {type: Hostname, value: w.example}]}",
            Some("demo/w.example"),
        ),
    ];
    for (status, expected) in cases {
        let text = gateway("demo", "w", "{}", "Same", status) + &web("{istio.io/use-waypoint: w}", "{}");
        let compiler = compiled(&text);
        assert_eq!(of_service(&compiler).as_deref(), expected, "{status}");
        let (status, reason, message) = told(&compiler).expect("a condition");
        match expected {
            Some(_) => assert!(status),
            None => assert_eq!(
                (status, reason, message.as_str()),
                (
                    false,
                    "WaypointIsNotReady",
                    "the waypoint demo/w is not ready: its Gateway has no address: connections do not go through it"
                )
            ),
        }
    }
}

#[test]
fn it_takes_the_traffic_that_it_or_its_class_is_for() {
    let class = |labels: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: istio-waypoint, labels: \
             {labels}}}\nspec: {{controllerName: c}}\n"
        )
    };
    let cases = [
        ("{}", "{}", true, false),
        ("{istio.io/waypoint-for: service}", "{}", true, false),
        ("{istio.io/waypoint-for: workload}", "{}", false, true),
        ("{istio.io/waypoint-for: all}", "{}", true, true),
        ("{istio.io/waypoint-for: none}", "{}", false, false),
        ("{}", "{istio.io/waypoint-for: workload}", false, true),
        (
            "{istio.io/waypoint-for: all}",
            "{istio.io/waypoint-for: none}",
            true,
            true,
        ),
        (
            "{istio.io/waypoint-for: everything}",
            "{istio.io/waypoint-for: workload}",
            false,
            true,
        ),
    ];
    for (gateway, of_class, services, workloads) in cases {
        let text = waypoint("demo", "w", gateway, "Same")
            + &class(of_class)
            + &web("{istio.io/use-waypoint: w}", "{}")
            + &pod("demo", "direct", "{istio.io/use-waypoint: w}", "")
            + &pod(
                "demo",
                "of-w",
                "{gateway.networking.k8s.io/gateway-name: w, istio.io/use-waypoint: w}",
                "",
            );
        let compiler = compiled(&text);
        let case = format!("{gateway} {of_class}");
        assert_eq!(of_service(&compiler).is_some(), services, "{case}");
        assert_eq!(of_pod(&compiler, "direct").is_some(), workloads, "{case}");
        assert_eq!(
            of_pod(&compiler, "of-w"),
            None,
            "nothing stands in front of a waypoint"
        );
        if !services {
            assert_eq!(
                told(&compiler).expect("a condition").1,
                "UnsupportedTrafficType",
                "{case}"
            );
        }
    }
}

#[test]
fn its_listener_says_which_namespaces_it_admits() {
    let selector = "Selector, selector: {matchLabels: {team: a}}";
    let by_name = "Selector, selector: {matchLabels: {kubernetes.io/metadata.name: demo}}";
    let cases = [
        ("Same", "{}", false),
        ("All", "{}", true),
        ("None", "{}", false),
        (selector, "{}", false),
        (selector, "{team: a}", true),
        (by_name, "{}", true),
    ];
    for (from, labels, admits) in cases {
        let own = "{istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra}";
        let text = waypoint("infra", "w", "{}", from) + &space("demo", labels) + &web(own, "{}");
        let compiler = compiled(&text);
        assert_eq!(of_service(&compiler).is_some(), admits, "{from} {labels}");
        let reason = if admits {
            "WaypointAccepted"
        } else {
            "AttachmentDenied"
        };
        assert_eq!(told(&compiler).expect("a condition").1, reason, "{from} {labels}");
    }
}

/// Without a policy that counts on it, a waypoint that cannot be used is none, as in Istio. With one, connections are
/// refused by node proxies that find no such service.
#[test]
fn a_policy_that_counts_on_a_waypoint_closes_the_way_around_it() {
    let missing = Some("demo/w.demo.svc.cluster.local");
    let denied = Some("infra/w.infra.not-usable.invalid");
    let not_there = "{istio.io/use-waypoint: w}";
    let elsewhere = "{istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra}";
    let gateway_api = "group: gateway.networking.k8s.io, kind";
    let cases = [
        (
            "demo",
            "{kind: Service, name: web}".to_owned(),
            not_there,
            missing,
        ),
        ("demo", "{kind: Service, name: other}".to_owned(), not_there, None),
        ("other", "{kind: Service, name: web}".to_owned(), not_there, None),
        (
            "demo",
            format!("{{{gateway_api}: Gateway, name: w}}"),
            not_there,
            missing,
        ),
        (
            "demo",
            format!("{{{gateway_api}: Gateway, name: v}}"),
            not_there,
            None,
        ),
        (
            "istio-system",
            format!("{{{gateway_api}: GatewayClass, name: istio-waypoint}}"),
            not_there,
            missing,
        ),
        (
            "demo",
            format!("{{{gateway_api}: GatewayClass, name: istio-waypoint}}"),
            not_there,
            None,
        ),
        // Who is not admitted must not reach it; a policy for the whole waypoint does not concern who never passes it.
        ("demo", "{kind: Service, name: web}".to_owned(), elsewhere, denied),
        (
            "infra",
            format!("{{{gateway_api}: Gateway, name: w}}"),
            elsewhere,
            None,
        ),
    ];
    for (namespace, target, labels, expected) in cases {
        let text = waypoint("infra", "w", "{}", "Same") + &web(labels, "{}");
        let mut compiler = compiled(&text);
        assert_eq!(of_service(&compiler), None);
        compiler.apply(puts(&policy(namespace, &target)));
        assert_eq!(
            of_service(&compiler).as_deref(),
            expected,
            "{namespace} {target} {labels}"
        );
        let (status, _, message) = told(&compiler).expect("a condition");
        let sentence = format!("because the AuthorizationPolicy {namespace}/guard counts on it");
        assert!(!status);
        assert_eq!(message.contains(&sentence), expected.is_some(), "{message}");
    }
}

#[test]
fn a_second_waypoint_takes_its_share() {
    let both = waypoint("demo", "old", "{}", "Same") + &waypoint("demo", "new", "{}", "Same");
    let cases = [
        (
            "new",
            "{ztunnel.dev/use-waypoint-canary-weight: \"30\"}",
            vec![70, 30],
            "WaypointAccepted",
        ),
        (
            "new",
            "{ztunnel.dev/use-waypoint-canary-weight: \"0\"}",
            vec![100, 0],
            "WaypointAccepted",
        ),
        (
            "new",
            "{ztunnel.dev/use-waypoint-canary-weight: \"101\"}",
            vec![],
            "CanaryInvalidWeight",
        ),
        ("new", "{}", vec![], "CanaryInvalidWeight"),
        (
            "old",
            "{ztunnel.dev/use-waypoint-canary-weight: \"30\"}",
            vec![],
            "CanarySameAsPrimary",
        ),
        (
            "gone",
            "{ztunnel.dev/use-waypoint-canary-weight: \"30\"}",
            vec![],
            "WaypointIsNotReady",
        ),
    ];
    for (canary, annotations, weights, reason) in cases {
        let labels = format!("{{istio.io/use-waypoint: old, istio.io/use-waypoint-canary: {canary}}}");
        let compiler = compiled(&(both.clone() + &web(&labels, annotations)));
        assert_eq!(
            of_service(&compiler).as_deref(),
            Some("demo/old.demo.svc.cluster.local")
        );
        let weighted = &service(&compiler, SERVICE).weighted_waypoints;
        assert_eq!(
            weighted.iter().map(|one| one.weight).collect::<Vec<_>>(),
            weights,
            "{canary} {annotations}"
        );
        assert_eq!(
            told(&compiler).expect("a condition").1,
            reason,
            "{canary} {annotations}"
        );
    }
}

#[test]
fn what_comes_in_through_a_gateway_passes_too_where_a_label_says_so() {
    let ready = waypoint("demo", "w", "{}", "Same");
    for (own, namespace, expected) in [
        ("{istio.io/use-waypoint: w}", "{}", false),
        (
            "{istio.io/use-waypoint: w, istio.io/ingress-use-waypoint: \"true\"}",
            "{}",
            true,
        ),
        (
            "{istio.io/use-waypoint: w}",
            "{istio.io/ingress-use-waypoint: \"true\"}",
            true,
        ),
        (
            "{istio.io/use-waypoint: w, istio.io/ingress-use-waypoint: \"false\"}",
            "{istio.io/ingress-use-waypoint: \"true\"}",
            false,
        ),
    ] {
        let compiler = compiled(&(ready.clone() + &space("demo", namespace) + &web(own, "{}")));
        assert_eq!(
            service(&compiler, SERVICE).ingress_use_waypoint,
            expected,
            "{own} {namespace}"
        );
    }
}

#[test]
fn services_of_waypoints_are_behind_none() {
    let service = |name: &str, labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: {name}, labels: {labels}}}\nspec: \
             {{ports: [{{port: 15008}}]}}\n"
        )
    };
    let text = space("demo", "{istio.io/use-waypoint: w}")
        + &waypoint("demo", "w", "{}", "Same")
        + &service("w", "{}")
        + &service("east", "{gateway.istio.io/managed: istio.io-eastwest-controller}")
        + &service("app", "{}");
    let compiler = compiled(&text);
    let behind = |name: &str| {
        let key = format!("demo/{name}.demo.svc.cluster.local");
        crate::testing::service(&compiler, &key).waypoint.is_some()
    };
    assert_eq!([behind("w"), behind("east"), behind("app")], [false, false, true]);
}

#[test]
fn pods_of_waypoints_say_how_they_take_what_was_decrypted() {
    let of_w = pod("demo", "p", "{gateway.networking.k8s.io/gateway-name: w}", "");
    let bound = |binding: &str| {
        let mut text = waypoint("demo", "w", "{}", "Same");
        text = text.replace(
            "labels: {}",
            &format!("annotations: {{ambient.istio.io/waypoint-inbound-binding: {binding}}}"),
        );
        let compiler = compiled(&(text + &of_w));
        let tunnel = workload(&compiler, "Kubernetes//Pod/demo/p").application_tunnel?;
        Some((tunnel.protocol, tunnel.port))
    };
    let cases = [
        ("PROXY/15088", Some((1, 15088))),
        ("NONE/15088", Some((0, 15088))),
        ("PROXY", Some((1, 0))),
        ("PROXY/", None),
        ("PROXY/70000", None),
        ("HTTP/1", None),
    ];
    for (binding, expected) in cases {
        assert_eq!(bound(binding), expected, "{binding}");
    }
}

#[test]
fn a_policy_that_refuses_nobody_closes_nothing() {
    let attached = policy("demo", "{kind: Service, name: web}");
    let attached = attached.trim_start_matches("---\n");
    let dry_run = attached.replace(
        "name: guard}",
        "name: guard, annotations: {istio.io/dry-run: \"true\"}}",
    );
    let audit = attached.replace("rules: [{}]", "action: AUDIT, rules: [{}]");
    for (policy, is_closed) in [(attached, true), (&dry_run, false), (&audit, false)] {
        let mut compiler = compiled(&web("{istio.io/use-waypoint: w}", "{}"));
        compiler.apply([stored(Kind::AuthorizationPolicy, "demo", "guard", policy)]);
        assert_eq!(of_service(&compiler).is_some(), is_closed, "{policy}");
    }
}
