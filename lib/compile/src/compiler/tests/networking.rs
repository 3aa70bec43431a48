//! Random objects of the kinds that name, stand before and lie outside: waypoints, entries, gateways of networks.

use proptest::prelude::*;

use super::{labels, name, namespace};

/// Labels, some of which name a waypoint.
pub(super) fn more(labels: &str, choice: impl Into<u32>) -> String {
    let inner = labels.trim_start_matches('{').trim_end_matches('}');
    let extra = match choice.into() {
        0 => return labels.to_owned(),
        1 => "istio.io/use-waypoint: x",
        2 => "istio.io/use-waypoint: z, istio.io/use-waypoint-namespace: other",
        _ => "gateway.networking.k8s.io/gateway-name: x",
    };
    let comma = if inner.is_empty() { "" } else { ", " };
    format!("{{{inner}{comma}{extra}}}")
}

pub(super) fn of_namespace(choice: u8) -> &'static str {
    match choice {
        0 => "{istio.io/use-waypoint: x}",
        1 => "{istio.io/use-waypoint: none, team: a}",
        2 => "{istio.io/use-waypoint: x, istio.io/use-waypoint-namespace: demo, team: a}",
        3 => "{topology.istio.io/network: far}",
        4 => "{istio.io/ingress-use-waypoint: \"true\"}",
        _ => "{}",
    }
}

/// The spec of a policy that is attached to something.
pub(super) fn attached(deny: bool, choice: usize) -> String {
    let action = if deny { "DENY" } else { "ALLOW" };
    let target = match choice % 4 {
        0 => "{kind: Service, name: x}",
        1 => "{kind: ServiceEntry, group: networking.istio.io, name: x}",
        2 => "{kind: Gateway, group: gateway.networking.k8s.io, name: x}",
        _ => "{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}",
    };
    format!("{{targetRefs: [{target}], action: {action}, rules: [{{}}]}}")
}

/// The text of some object.
pub(super) fn object() -> impl Strategy<Value = String> {
    let class = (any::<bool>(), 0u8..3).prop_map(|(remote, more)| {
        let name = if remote { "istio-remote" } else { "istio-waypoint" };
        let rest = match more {
            0 => "",
            1 => ", labels: {istio.io/waypoint-for: all}",
            _ => ", annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}",
        };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}{rest}}}\n\
             spec: {{controllerName: c}}\n"
        )
    });
    let account = prop::sample::select(vec![
        "",
        ", annotations: {gateway.istio.io/service-account: a}",
        ", annotations: {gateway.istio.io/name-override: b}",
    ]);
    let rest = (second(), account).prop_map(|(time, account)| time + account);
    let gateway = (namespace(), name(), 0u8..5, 0u8..4, prop::bool::weighted(0.3), rest).prop_map(
        |(namespace, name, address, more, remote, rest)| {
            let class = if remote { "istio-remote" } else { "istio-waypoint" };
            let address = match address {
                0 => "",
                1 => "status: {addresses: [{type: IPAddress, value: 10.9.0.1}]}\n",
                2 => "status: {addresses: [{value: 10.9.0.2}, {type: Hostname, value: w.example}]}\n",
                _ => "status: {addresses: [{type: Hostname, value: x.demo.svc.cluster.local}]}\n",
            };
            let (labels, from) = match more {
                0 => ("{topology.istio.io/network: far}", "All"),
                1 => ("{istio.io/waypoint-for: all}", "All"),
                2 => (
                    "{istio.io/waypoint-for: workload}",
                    "Selector, selector: {matchLabels: {team: a}}",
                ),
                _ => ("{topology.istio.io/network: m}", "Same"),
            };
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{namespace: {namespace}, name: \
                 {name}, labels: {labels}{rest}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: \
                 15008, protocol: HBONE, allowedRoutes: {{namespaces: {{from: {from}}}}}}}]}}\n{address}"
            )
        },
    );
    let entry = (
        (namespace(), name(), labels(), second()),
        prop::sample::select(vec!["a.example", "b.example", "x.demo.svc.cluster.local", "*.example"]),
        0u8..11,
        0u8..4,
        0u8..4,
    )
        .prop_map(|((namespace, name, labels, time), host, form, status, more)| {
            let spec = match form {
                0 => "resolution: NONE, addresses: [10.8.0.0/16]".to_owned(),
                1 => "resolution: STATIC, endpoints: [{address: 10.7.0.1, labels: {app: a}}, {address: 10.7.0.2, \
                      weight: 3, network: far, ports: {p: 99}}]"
                    .to_owned(),
                2 => format!("resolution: STATIC, workloadSelector: {{labels: {labels}}}"),
                3 => "resolution: DYNAMIC_DNS".to_owned(),
                4 if !host.starts_with('*') => "resolution: DNS".to_owned(),
                6 => "resolution: STATIC, addresses: [10.0.0.0/8], endpoints: [{address: 10.6.0.1}]".to_owned(),
                7 => "resolution: NONE, addresses: [10.0.0.0/30, 10.6.0.0/16]".to_owned(),
                8 => "resolution: STATIC, addresses: [10.0.0.4, 10.6.0.1, 11.0.0.0/7]".to_owned(),
                // An address that the one before has too, without a block.
                10 => "resolution: STATIC, addresses: [10.0.0.4]".to_owned(),
                9 => "resolution: STATIC, addresses: [10.6.0.0/24, 10.0.0.2/31]".to_owned(),
                _ => format!("resolution: STATIC, addresses: [240.240.0.{}]", status + 1),
            };
            let export = match more {
                0 => ", exportTo: [\".\"]",
                1 => ", exportTo: [\"~\"]",
                _ => "",
            };
            let allocated = match status {
                0 => String::new(),
                n => format!(
                    "status: {{addresses: [{{host: {host:?}, value: 240.240.0.{n}}}, {{host: c.example, value: \
                     240.240.0.3}}]}}\n"
                ),
            };
            let more = self::more(&labels, more);
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: {namespace}, name: \
                 {name}, labels: {more}{time}}}\nspec: {{hosts: [{host:?}, c.example], ports: [{{number: 80, name: p, \
                 protocol: HTTP}}], {spec}{export}}}\n{allocated}"
            )
        });
    let machine = (0u8..7, second());
    let workload = (namespace(), name(), labels(), machine).prop_map(|(namespace, name, labels, (form, time))| {
        let address = match form {
            4 => "address: 10.0.0.2",
            5 => "address: 10.0.0.4",
            6 => "address: 10.6.0.7",
            0 => "address: vm.example",
            1 => "address: 10.6.0.1, ports: {p: 7}",
            2 => "network: far",
            _ => "address: 10.6.0.2, network: m, serviceAccount: vm, locality: a/b",
        };
        let more = match form {
            5 => "{networking.istio.io/tunnel: http}".to_owned(),
            _ => more("{}", form % 3),
        };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{namespace: {namespace}, name: \
             {name}, labels: {more}{time}}}\nspec: {{{address}, labels: {labels}}}\n"
        )
    });
    prop_oneof![1 => class, 3 => gateway, 4 => entry, 2 => workload]
}

fn second() -> impl Strategy<Value = String> {
    (0u8..4).prop_map(|second| match second {
        0 => String::new(),
        _ => format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\""),
    })
}
