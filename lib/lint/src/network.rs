//! What NetworkPolicies do to a mesh: they see tunnels to port 15008 where their authors think of application ports.

use objects::{NetworkPeer, NetworkPolicy, NetworkRule, Protocol, ReadObject};

use crate::code::{Code, Severity};
use crate::finding::Finding;
use crate::world::{Mode, Workload, World, some};

mod dns;
mod monitoring;
mod peers;
mod ports;
mod subject;
mod tunnels;

use subject::{Subject, subjects};

/// The port of tunnels (HBONE).
const TUNNEL_PORT: u16 = 15008;

/// A direction of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    fn field(self) -> &'static str {
        match self {
            Direction::Ingress => "spec.ingress",
            Direction::Egress => "spec.egress",
        }
    }

    /// The rules of a policy; `None`: it does not touch the direction.
    fn rules(self, policy: &NetworkPolicy) -> Option<&[NetworkRule]> {
        match self {
            Direction::Ingress => policy.ingress.as_deref(),
            Direction::Egress => policy.egress.as_deref(),
        }
    }
}

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    let enforced = world.settings.network_policy_enforced || enforcer(world);
    for (read, policy) in world.network_policies() {
        if !enforced {
            found.push(Finding::about(
                read,
                Code::NetworkPolicyNotEnforced,
                "spec",
                "nothing is known to enforce NetworkPolicy here: the mesh does not, and the manifests hold no network \
                 plugin that does (Calico, Cilium, Antrea, ...), so the policy restricts nobody",
                "install such a plugin and say so with --network-policy-enforced; or write callers and ports into an \
                 AuthorizationPolicy, which the mesh enforces",
            ));
        }
        default_deny(read, policy, found);
        let subjects = subjects(world, read, policy);
        for direction in Direction::BOTH {
            tunnels::check(world, read, policy, direction, &subjects, found);
            ports::check(world, read, policy, direction, &subjects, found);
        }
        dns::check(world, read, policy, &subjects, found);
    }
    monitoring::check(world, found);
}

/// Whether a workload of the manifests is a network plugin that enforces NetworkPolicy.
fn enforcer(world: &World<'_>) -> bool {
    const LABELS: [(&str, &str); 7] = [
        ("k8s-app", "calico-node"),
        ("k8s-app", "cilium"),
        ("app", "antrea"),
        ("k8s-app", "kube-router"),
        ("name", "weave-net"),
        ("k8s-app", "canal"),
        ("app", "ovnkube-node"),
    ];
    world.workloads.iter().any(|workload| {
        let labels = workload.labels();
        LABELS
            .iter()
            .any(|(key, value)| labels.get(*key).is_some_and(|found| found == value))
    })
}

fn default_deny(read: &ReadObject, policy: &NetworkPolicy, found: &mut Vec<Finding>) {
    let closed: Vec<&str> = [("in", Direction::Ingress), ("out", Direction::Egress)]
        .iter()
        .filter(|(_, direction)| direction.rules(policy).is_some_and(<[NetworkRule]>::is_empty))
        .map(|(word, _)| *word)
        .collect();
    if closed.is_empty() {
        return;
    }
    let whom = if policy.pod_selector.is_empty() {
        "all pods of the namespace".to_owned()
    } else {
        format!("pods with {}", policy.pod_selector)
    };
    let out = if closed.contains(&"out") { ", DNS" } else { "" };
    found.push(Finding::about(
        read,
        Code::DefaultDeny,
        "spec.policyTypes",
        format!(
            "by itself the policy lets nothing {} for {whom}: also no tunnels of the mesh (TCP 15008){out}; policies add up, \
             so others decide what passes",
            closed.join(" and nothing ")
        ),
        "apply it together with policies that let TCP 15008 and DNS (UDP and TCP 53) pass",
    ));
}

/// Whether some policy that selects the subject lets a port through in a direction, whoever the peer is.
fn passes(
    world: &World<'_>,
    subject: &Subject<'_>,
    direction: Direction,
    protocol: Protocol,
    port: u16,
) -> bool {
    selecting(world, subject).any(|(_, policy)| {
        let rules = direction.rules(policy).unwrap_or_default();
        rules.iter().any(|rule| {
            rule.lets_port_through(protocol, port, |name| {
                subject.names_port(direction, name, protocol, port)
            })
        })
    })
}

/// The policies that select a subject.
fn selecting<'a>(
    world: &World<'a>,
    subject: &Subject<'_>,
) -> impl Iterator<Item = (&'a ReadObject, &'a NetworkPolicy)> {
    world.network_policies().filter(|(read, policy)| {
        read.object.metadata.namespace == subject.namespace && policy.pod_selector.matches(&subject.labels)
    })
}
