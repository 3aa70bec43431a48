//! Whatever the order of events: the state told step by step is that of a compiler given everything at once, and
//! nothing is told that is not new.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::{Object, ObjectKey};
use proptest::prelude::*;
use prost::Message;
use proto::workload::address::Type;

use crate::testing::puts;
use crate::{Compiler, Settings};

mod networking;
mod properties;

const NAMESPACES: [&str; 3] = ["demo", "other", "istio-system"];
const MODES: [&str; 4] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];

/// What a receiver holds.
#[derive(Debug, Default, PartialEq)]
struct Mirror {
    addresses: BTreeMap<String, proto::workload::Address>,
    policies: BTreeMap<String, proto::security::Authorization>,
    conditions: BTreeMap<ObjectKey, Vec<crate::Condition>>,
}

impl Mirror {
    /// Takes an output and what is gone with it; panics on what is not news.
    fn take(&mut self, gone: &[ObjectKey], output: crate::Output) {
        for key in gone {
            let none = output.conditions.get(key).is_none_or(Vec::is_empty);
            assert!(none, "{key} is gone and is told something");
        }
        self.conditions.extend(output.conditions);
        self.conditions.retain(|key, _| !gone.contains(key));
        for (name, address) in output.addresses {
            assert_ne!(
                self.addresses.insert(name.clone(), address.clone()),
                Some(address),
                "{name} is no news"
            );
        }
        for (name, policy) in output.policies {
            assert_ne!(
                self.policies.insert(name.clone(), policy.clone()),
                Some(policy),
                "{name} is no news"
            );
        }
        for name in output.removed_addresses {
            assert!(self.addresses.remove(&name).is_some(), "{name} was not there");
        }
        for name in output.removed_policies {
            assert!(self.policies.remove(&name).is_some(), "{name} was not there");
        }
    }
}

fn labels() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}"),
        Just("{app: a}"),
        Just("{app: b}"),
        Just("{app: a, tier: t}")
    ]
    .prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x", "z"])
}

fn namespace() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMESPACES.to_vec())
}

fn mode() -> impl Strategy<Value = &'static str> {
    prop::sample::select(MODES.to_vec())
}

/// The text of some object; few names, so that objects meet.
fn object() -> impl Strategy<Value = String> {
    let head = |version: &str, kind: &str, namespace: &str, name: &str, rest: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}{rest}}}\n"
        )
    };
    let pod = (namespace(), name(), labels(), 0u8..4, prop::sample::select(vec!["Running", "Failed"]), any::<bool>())
        .prop_map(move |(namespace, name, labels, ip, phase, redirected)| {
            let annotations = if redirected { "{ambient.istio.io/redirection: enabled}" } else { "{}" };
            let rest = format!(", uid: u{ip}, labels: {}, annotations: {annotations}", networking::more(&labels, ip));
            let address = if ip == 0 { String::new() } else { format!(", podIP: 10.0.0.{ip}") };
            head("v1", "Pod", namespace, name, &rest)
                + &format!(
                    "spec: {{nodeName: node-{}, containers: [{{name: a, ports: [{{name: p, containerPort: 8{ip}}}]}}]}}\n\
                     status: {{phase: {phase}{address}}}\n",
                    ip % 2
                )
        });
    let service = (
        namespace(),
        name(),
        labels(),
        1u16..3,
        prop::sample::select(vec!["p", "8"]),
        any::<bool>(),
    )
        .prop_map(move |(namespace, name, labels, port, target, alias)| {
            let target = if target == "p" {
                "p".to_owned()
            } else {
                port.to_string()
            };
            let spec = if alias {
                "{type: ExternalName, externalName: a}".to_owned()
            } else {
                let outer = if port == 1 {
                    ", externalIPs: [10.0.0.4]"
                } else {
                    ""
                };
                format!("{{selector: {labels}, ports: [{{port: {port}, targetPort: {target}}}]{outer}}}")
            };
            let more = format!(", labels: {}", networking::more("{}", port + u16::from(alias)));
            head("v1", "Service", namespace, name, &more) + &format!("spec: {spec}\n")
        });
    let node = (0u8..2, 0u8..3).prop_map(|(node, zone)| {
        let labels = if zone == 0 {
            "{}".to_owned()
        } else {
            format!("{{topology.kubernetes.io/zone: z{zone}}}")
        };
        let status = if zone == 2 { "{addresses: [{type: InternalIP, address: 10.0.0.4}]}" } else { "{}" };
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: node-{node}, labels: {labels}}}\nstatus: {status}\n")
    });
    let space = (namespace(), any::<bool>(), 0u8..6).prop_map(|(namespace, close, more)| {
        let value = if close {
            "{networking.istio.io/traffic-distribution: PreferClose}"
        } else {
            "{}"
        };
        let labels = networking::of_namespace(more);
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {labels}, annotations: {value}}}\n")
    });
    let slice = (namespace(), name(), name(), name(), 1u8..4, any::<bool>()).prop_map(
        move |(namespace, name, service, pod, ip, target)| {
            let target = if target {
                format!(", targetRef: {{kind: Pod, namespace: {namespace}, name: {pod}, uid: u{ip}}}")
            } else {
                String::new()
            };
            let labels = format!(", labels: {{kubernetes.io/service-name: {service}}}");
            head("discovery.k8s.io/v1", "EndpointSlice", namespace, name, &labels)
                + &format!("addressType: IPv4\nendpoints: [{{addresses: [10.0.0.{ip}]{target}}}]\nports: [{{port: 7}}]\n")
        },
    );
    let peer = (namespace(), name(), labels(), mode(), mode(), 0u8..3, 0u8..3).prop_map(
        move |(namespace, name, labels, mode, port, second, generation)| {
            let ports = if labels == "{}" {
                String::new()
            } else {
                format!(", portLevelMtls: {{80: {{mode: {port}}}}}")
            };
            let time = if second == 0 {
                String::new()
            } else {
                format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\"")
            };
            let rest = format!("{time}, generation: {generation}");
            head(
                "security.istio.io/v1",
                "PeerAuthentication",
                namespace,
                name,
                &rest,
            ) + &format!("spec: {{selector: {{matchLabels: {labels}}}, mtls: {{mode: {mode}}}{ports}}}\n")
        },
    );
    let authorization = (namespace(), name(), labels(), any::<bool>(), 0u8..3).prop_map(
        move |(namespace, name, labels, deny, form)| {
            let action = if deny { "DENY" } else { "ALLOW" };
            let spec = match form {
                0 => networking::attached(deny, labels.len()),
                1 => format!("{{selector: {{matchLabels: {labels}}}, action: {action}, rules: [{{}}]}}"),
                _ => format!(
                    "{{selector: {{matchLabels: {labels}}}, action: {action}, rules: [{{to: [{{operation: {{ports: [\"1\"]}}}}]}}]}}"
                ),
            };
            let dry = if form == 2 && deny { ", annotations: {istio.io/dry-run: \"true\"}" } else { "" };
            head("security.istio.io/v1", "AuthorizationPolicy", namespace, name, dry) + &format!("spec: {spec}\n")
        },
    );
    prop_oneof![
        4 => pod, 2 => service, 1 => node, 1 => space, 2 => slice, 3 => peer, 2 => authorization, 8 => networking::object()
    ]
}

/// Of the same objects those that have addresses, or decide whose they are.
fn addressed() -> impl Strategy<Value = String> {
    const KINDS: [&str; 6] = [
        "Pod",
        "Service",
        "Node",
        "Namespace",
        "ServiceEntry",
        "WorkloadEntry",
    ];
    let is_wanted = |text: &String| {
        KINDS
            .iter()
            .any(|kind| text.contains(&format!("\nkind: {kind}\n")))
    };
    object().prop_filter("an object with addresses", is_wanted)
}

/// One round of changes: each object is put or, if it is there, removed.
fn rounds(object: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Vec<(String, bool)>>> {
    prop::collection::vec(
        prop::collection::vec((object, prop::bool::weighted(0.7)), 1..4),
        1..30,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The seed of a failure is printed with it.
    #[test]
    fn step_by_step_is_as_good_as_from_scratch(rounds in rounds(object())) {
        follow(rounds)?;
    }

    #[test]
    fn whose_addresses_are_is_found_step_by_step(rounds in rounds(addressed())) {
        follow(rounds)?;
    }
}

/// Applies round by round, and compares with what one compiler makes of the result.
fn follow(rounds: Vec<Vec<(String, bool)>>) -> Result<(), TestCaseError> {
    let mut compiler = Compiler::new(Settings::default());
    let mut mirror = Mirror::default();
    let mut now: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
    for round in rounds {
        let mut changes = Vec::new();
        for (text, put) in round {
            for (key, object) in puts(&text) {
                let object = object.filter(|_| put);
                match &object {
                    Some(object) => drop(now.insert(key.clone(), Arc::clone(object))),
                    None => drop(now.remove(&key)),
                }
                changes.push((key, object));
            }
        }
        let given: Vec<ObjectKey> = changes.iter().map(|(key, _)| key.clone()).collect();
        let gone: Vec<ObjectKey> = given
            .iter()
            .filter(|key| !now.contains_key(*key))
            .cloned()
            .collect();
        let output = compiler.apply(changes);
        // Whoever is given a policy is told its conditions, be they new or not.
        for key in given.iter().filter(|key| now.contains_key(*key)) {
            prop_assert_eq!(output.conditions.get(key), compiler.conditions().get(key));
        }
        mirror.take(&gone, output);
        let mut fresh = Compiler::new(Settings::default());
        fresh.apply(
            now.iter()
                .map(|(key, object)| (key.clone(), Some(Arc::clone(object)))),
        );
        prop_assert_eq!(&mirror.addresses, fresh.addresses());
        prop_assert_eq!(&mirror.policies, fresh.policies());
        prop_assert_eq!(&mirror.conditions, fresh.conditions());
        prop_assert_eq!(&mirror.addresses, compiler.addresses());
        // Every policy that a workload lists is there, and the model of the node proxy accepts everything.
        for address in mirror.addresses.values() {
            match address.r#type.clone() {
                Some(Type::Workload(workload)) => {
                    let listed = &workload.authorization_policies;
                    let missing = listed.iter().find(|key| !mirror.policies.contains_key(*key));
                    prop_assert_eq!(missing, None);
                    prop_assert!(mesh::Workload::from_proto(workload).is_ok());
                }
                Some(Type::Service(service)) => prop_assert!(mesh::Service::from_proto(service).is_ok()),
                None => prop_assert!(false, "an address without content"),
            }
        }
        for policy in mirror.policies.values() {
            prop_assert!(mesh::Policy::decode(&policy.encode_to_vec()).is_ok());
        }
    }
    Ok(())
}
