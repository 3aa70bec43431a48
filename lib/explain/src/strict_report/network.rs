//! Which callers NetworkPolicies keep away already.
//!
//! Where that cannot be told, a policy counts as one that lets the caller through: the report then names one caller too
//! many, and never one too few.

use std::collections::BTreeSet;

use objects::selector::Labels;
use objects::{Kind, NetworkPeer, NetworkPolicy, NetworkRule, Object, Protocol, Spec};

use crate::world::{Pod, World};

/// The NetworkPolicies that select one of the two ends and let this connection through neither one by one nor together,
/// as `NAMESPACE/NAME`; none when it passes. Without a port it is about a port that nobody names.
pub(super) fn blocking(world: &World, caller: &Pod, target: &Pod, port: Option<u16>) -> BTreeSet<String> {
    let on_the_node = |pod: &Pod| pod.object.as_pod().is_some_and(|pod| pod.spec.host_network);
    // Plugins differ in what such a pod is to them.
    if on_the_node(caller) || on_the_node(target) {
        return BTreeSet::new();
    }
    let directions: [Direction; 2] = [
        (target, caller, |policy| policy.ingress.as_deref()),
        (caller, target, |policy| policy.egress.as_deref()),
    ];
    for (selected, peer, rules) in directions {
        let selecting: Vec<(&Object, &[NetworkRule])> = policies(world, selected)
            .filter_map(|(object, policy)| Some((object, rules(policy)?)))
            .collect();
        let passes = selecting.iter().any(|(policy, rules)| {
            let mut rules = rules.iter();
            rules.any(|rule| on_port(rule, target, port) && names(world, policy, rule, peer))
        });
        if !selecting.is_empty() && !passes {
            return selecting
                .iter()
                .map(|(policy, _)| super::name_of(policy))
                .collect();
        }
    }
    BTreeSet::new()
}

/// Whom policies select, who the other end is, and which rules of a policy are meant.
type Direction<'a> = (&'a Pod, &'a Pod, fn(&NetworkPolicy) -> Option<&[NetworkRule]>);

/// The policies that select a pod.
fn policies<'a>(world: &'a World, pod: &'a Pod) -> impl Iterator<Item = (&'a Object, &'a NetworkPolicy)> {
    let metadata = &pod.object.metadata;
    let here = world.objects_in(Kind::NetworkPolicy, &metadata.namespace);
    here.filter_map(|object| match &object.spec {
        Spec::NetworkPolicy(policy) => Some((object.as_ref(), policy)),
        _ => None,
    })
    .filter(|(_, policy)| policy.pod_selector.matches(&metadata.labels))
}

/// Whether the rule is about this port of the target.
fn on_port(rule: &NetworkRule, target: &Pod, port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    rule.lets_port_through(Protocol::Tcp, port, |name| {
        let pod = target.object.as_pod();
        let containers = pod.into_iter().flat_map(|pod| pod.spec.containers_and_sidecars());
        let mut ports = containers.flat_map(|container| &container.ports);
        ports.any(|known| known.name == name && known.protocol == Protocol::Tcp && known.port == port)
    })
}

/// Whether the rule names this pod as the other end.
fn names(world: &World, policy: &Object, rule: &NetworkRule, peer: &Pod) -> bool {
    let metadata = &peer.object.metadata;
    rule.peers.is_empty()
        || rule.peers.iter().any(|named| match named {
            NetworkPeer::Block { block, except } => {
                // An address that nobody wrote says nothing.
                peer.made_up_address
                    || addresses(peer)
                        .any(|ip| block.contains(ip) && !except.iter().any(|except| except.contains(ip)))
            }
            NetworkPeer::Pods { namespaces, pods } => {
                let there = match namespaces {
                    Some(selector) => selector.matches(&namespace_labels(world, &metadata.namespace)),
                    None => metadata.namespace == policy.metadata.namespace,
                };
                there
                    && pods
                        .as_ref()
                        .is_none_or(|selector| selector.matches(&metadata.labels))
            }
        })
}

fn addresses(pod: &Pod) -> impl Iterator<Item = std::net::IpAddr> {
    let content = pod.object.as_pod();
    content
        .into_iter()
        .flat_map(|pod| pod.status.pod_ips.iter().copied())
}

/// The labels of a namespace, with the one that Kubernetes gives it.
fn namespace_labels(world: &World, name: &str) -> Labels {
    let object = world.object(Kind::Namespace, "", name);
    let mut labels = object.map_or_else(Labels::new, |object| object.metadata.labels.clone());
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    labels
}
