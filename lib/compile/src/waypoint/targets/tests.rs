//! What the author of a policy with targets is told, and when anew.

use objects::{Kind, ObjectKey};

use crate::testing::{compiled, puts, stored};
use crate::{Compiler, Condition};

const USES_GATE: &str = "{istio.io/use-waypoint: gate}";

fn policy(namespace: &str, targets: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: {namespace}, name: \
         guard, generation: 4}}\nspec: {{targetRefs: [{targets}], rules: [{{}}]}}\n"
    )
}

fn web(labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: web, labels: {labels}}}\nspec: \
         {{ports: [{{port: 80}}], {spec}}}\n"
    )
}

fn entry(labels: &str, export: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: demo, name: far, labels: \
         {labels}}}\nspec: {{hosts: [far.example], exportTo: [\"{export}\"], resolution: DNS, ports: [{{number: 80, \
         name: http}}]}}\n"
    )
}

fn gateway(class: &str, labels: &str, from: &str, addresses: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{namespace: demo, name: gate, labels: \
         {labels}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE, \
         allowedRoutes: {{namespaces: {{from: {from}}}}}}}]}}\nstatus: {{addresses: [{addresses}]}}\n"
    )
}

fn class(name: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\n\
         spec: {{controllerName: istio.io/mesh-controller}}\n"
    )
}

fn ready() -> String {
    gateway(
        "istio-waypoint",
        "{}",
        "Same",
        "{type: IPAddress, value: 10.9.0.1}",
    )
}

/// The only condition of the policy.
fn told(compiler: &Compiler, namespace: &str) -> Condition {
    let key = ObjectKey::new(Kind::AuthorizationPolicy, namespace, "guard");
    match compiler.conditions()[&key].as_slice() {
        [condition] if condition.kind == "ztunnel.dev/TargetsBound" => condition.clone(),
        other => panic!("{other:?}"),
    }
}

const SERVICE: &str = "{kind: Service, name: web}";
const ENTRY: &str = "{group: networking.istio.io, kind: ServiceEntry, name: far}";
const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: gate}";
const CLASS: &str = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}";
const OTHER_CLASS: &str = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: nginx}";

#[test]
fn a_target_has_a_waypoint_or_it_is_said_why_not_and_what_follows() {
    let none = "judged as if there were none";
    let closed = "connections are refused, because the AuthorizationPolicy demo/guard counts on it";
    let users = "connections to what names it as waypoint are refused";
    let starting = gateway("istio-waypoint", "{}", "Same", "");
    let narrow = gateway(
        "istio-waypoint",
        "{}",
        "None",
        "{type: IPAddress, value: 10.9.0.1}",
    );
    let for_workloads = ready().replace("labels: {}", "labels: {istio.io/waypoint-for: workload}");
    let for_nothing = ready().replace("labels: {}", "labels: {istio.io/waypoint-for: none}");
    let remote = gateway("istio-remote", "{}", "Same", "{type: IPAddress, value: 10.9.0.1}");
    let named = web(USES_GATE, "");
    let cases = [
        ("demo", SERVICE, String::new(), "TargetNotFound", none),
        (
            "demo",
            SERVICE,
            web("{}", "") + &ready(),
            "AncestorNotBound",
            none,
        ),
        (
            "demo",
            SERVICE,
            web("{istio.io/use-waypoint: none}", ""),
            "AncestorNotBound",
            none,
        ),
        (
            "demo",
            SERVICE,
            web(USES_GATE, "type: ExternalName, externalName: a.example") + &ready(),
            "AncestorNotBound",
            "alias",
        ),
        ("demo", SERVICE, named.clone(), "WaypointIsNotReady", closed),
        (
            "demo",
            SERVICE,
            named.clone() + &starting,
            "WaypointIsNotReady",
            closed,
        ),
        (
            "demo",
            SERVICE,
            named.clone() + &narrow,
            "AttachmentDenied",
            closed,
        ),
        (
            "demo",
            SERVICE,
            named.clone() + &for_workloads,
            "UnsupportedTrafficType",
            closed,
        ),
        (
            "demo",
            SERVICE,
            named.clone() + &for_nothing,
            "UnsupportedTrafficType",
            closed,
        ),
        (
            "demo",
            SERVICE,
            named.clone() + &ready(),
            "Bound",
            "the waypoint demo/gate",
        ),
        ("demo", ENTRY, String::new(), "TargetNotFound", none),
        (
            "demo",
            ENTRY,
            entry("{}", "*") + &ready(),
            "AncestorNotBound",
            none,
        ),
        (
            "demo",
            ENTRY,
            entry(USES_GATE, "~") + &ready(),
            "AncestorNotBound",
            "nobody sees it",
        ),
        (
            "demo",
            ENTRY,
            entry(USES_GATE, "*") + &ready(),
            "Bound",
            "the waypoint demo/gate",
        ),
        ("demo", GATEWAY, String::new(), "TargetNotFound", users),
        ("demo", GATEWAY, starting, "WaypointIsNotReady", users),
        ("demo", GATEWAY, remote, "AncestorNotBound", users),
        ("demo", GATEWAY, ready(), "Bound", "has an address"),
        (
            "demo",
            CLASS,
            class("istio-waypoint"),
            "Invalid",
            "root namespace istio-system only",
        ),
        ("istio-system", CLASS, String::new(), "TargetNotFound", none),
        ("istio-system", OTHER_CLASS, class("nginx"), "Invalid", none),
        (
            "istio-system",
            CLASS,
            class("istio-waypoint"),
            "Bound",
            "each waypoint of the class",
        ),
    ];
    for (namespace, target, others, reason, message) in cases {
        let found = told(&compiled(&(policy(namespace, target) + &others)), namespace);
        assert_eq!(found.reason, reason, "{target} {others}: {found:?}");
        assert_eq!(found.status, reason == "Bound", "{found:?}");
        assert_eq!(found.is_clean(), found.status);
        assert!(found.message.contains(message), "{found:?}");
        assert_eq!(found.observed_generation, 4);
    }
}

#[test]
fn of_several_targets_those_without_a_waypoint_are_named() {
    let both = policy("demo", &format!("{SERVICE}, {ENTRY}"));
    let some = told(
        &compiled(&(both.clone() + &web(USES_GATE, "") + &entry("{}", "*") + &ready())),
        "demo",
    );
    assert_eq!((some.status, some.reason), (false, "PartiallyInvalid"));
    assert!(
        some.message.contains("ServiceEntry far") && !some.message.contains("Service web"),
        "{some:?}"
    );
    let neither = told(&compiled(&(both + &entry("{}", "*"))), "demo");
    assert_eq!(neither.reason, "TargetNotFound");
    assert!(
        neither.message.contains("ServiceEntry far") && neither.message.contains("Service web"),
        "{neither:?}"
    );
}

#[test]
fn who_refuses_nobody_has_nobody_refused() {
    let dry = policy("demo", GATEWAY).replace(
        "generation: 4",
        "generation: 4, annotations: {istio.io/dry-run: \"true\"}",
    );
    let found = told(&compiled(&dry), "demo");
    assert!(found.message.contains("do not go through it"), "{found:?}");
}

#[test]
fn a_target_that_cannot_be_read_is_said() {
    let targets = [
        "{kind: Deployment, group: apps, name: web}",
        "{kind: Service}",
        "{kind: Service, name: web, namespace: other}",
    ];
    for target in targets {
        let mut compiler = compiled(&(web(USES_GATE, "") + &ready()));
        let text = policy("demo", target);
        compiler.apply([stored(Kind::AuthorizationPolicy, "demo", "guard", &text)]);
        let found = told(&compiler, "demo");
        assert_eq!(
            (found.status, found.reason),
            (false, "Invalid"),
            "{target}: {found:?}"
        );
        assert!(!found.message.contains("the waypoint demo/gate"), "{found:?}");
    }
}

#[test]
fn it_is_told_anew_when_target_label_or_waypoint_comes_and_goes() {
    let key = ObjectKey::new(Kind::AuthorizationPolicy, "demo", "guard");
    let mut compiler = compiled(&policy("demo", SERVICE));
    let space = |labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: demo, labels: {labels}}}\n")
    };
    let gone = |kind, name| vec![(ObjectKey::new(kind, "demo", name), None)];
    let steps = [
        (puts(&web("{}", "")), "AncestorNotBound"),
        (puts(&space(USES_GATE)), "WaypointIsNotReady"),
        (puts(&ready()), "Bound"),
        (
            puts(&gateway("istio-waypoint", "{}", "Same", "")),
            "WaypointIsNotReady",
        ),
        (puts(&ready()), "Bound"),
        (
            puts(&web("{istio.io/use-waypoint: none}", "")),
            "AncestorNotBound",
        ),
        (puts(&web("{}", "")), "Bound"),
        (puts(&space("{}")), "AncestorNotBound"),
        (puts(&web(USES_GATE, "")), "Bound"),
        (gone(Kind::Gateway, "gate"), "WaypointIsNotReady"),
        (gone(Kind::Service, "web"), "TargetNotFound"),
    ];
    for (changes, reason) in steps {
        let output = compiler.apply(changes);
        assert_eq!(output.conditions[&key][0].reason, reason);
    }
    // A selector in place of targets: node proxies' affair.
    let text = policy("demo", SERVICE).replace(&format!("targetRefs: [{SERVICE}]"), "selector: {}");
    let output = compiler.apply(puts(&text));
    let kinds: Vec<_> = output.conditions[&key]
        .iter()
        .map(|condition| condition.kind)
        .collect();
    assert_eq!(kinds, ["ZtunnelAccepted"]);
}
