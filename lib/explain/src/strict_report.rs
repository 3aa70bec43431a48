//! Who would break if plaintext were refused.

mod addresses;
mod network;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh::{Connection, Workload, authorize};
use objects::enrolment::Reason;
use objects::{MtlsMode, Object, Protocol};
use serde_json::json;

use crate::ask::Speaker;
use crate::world::{Membership, Pod, World};

/// What the report can never know, in full sentences.
pub const CANNOT_KNOW: [&str; 5] = [
    "Whether a pod that could connect ever does: this is about what policy lets through, not about traffic.",
    "Callers that are no pod here: load balancers, other clusters, machines outside.",
    "Ports that neither a container nor a Service names.",
    "Whether a network plugin enforces NetworkPolicies, unless that is said; of pods on their node's network none counts.",
    "Processes on a pod's own node, the kubelet's probes among them, may go past the node proxy and keep working.",
];

/// What is tried is older than everything, so that it decides at its level.
const OLDEST: &str = "0001-01-01T00:00:00Z";

/// What a STRICT PeerAuthentication for each namespace would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictReport {
    /// How many pods in the mesh were looked at.
    pub looked_at: usize,
    /// Those that would refuse a caller that they let in now.
    pub breaking: Vec<Breaking>,
    /// Callers that NetworkPolicies keep away from such a pod. Where these are enforced they lose nothing, and are not in
    /// `breaking`; elsewhere they are in both.
    pub kept_away: Vec<KeptAway>,
    /// Whether NetworkPolicies were said to be enforced.
    pub network_policies_enforced: bool,
    /// The pods outside of the mesh: every one is a possible caller.
    pub callers: Vec<Outsider>,
    /// Ports that would take plaintext still.
    pub stays_open: Vec<StaysOpen>,
    /// Pods without an address in the manifests, as `NAMESPACE/NAME`, of whom policies that ask for addresses cannot tell
    /// whether they let them in, or let others in to them, now: they count as let in.
    pub unknown_addresses: BTreeSet<String>,
}

/// A pod in the mesh, and who could not reach it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaking {
    /// The pod, as `NAMESPACE/NAME`.
    pub pod: String,
    /// The callers, as `NAMESPACE/NAME`, and the ports that they lose; none for a pod that names no port: any.
    pub callers: BTreeMap<String, Vec<u16>>,
}

/// A caller that NetworkPolicies keep away from a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAway {
    /// The pod in the mesh, as `NAMESPACE/NAME`.
    pub pod: String,
    /// The caller, as `NAMESPACE/NAME`.
    pub caller: String,
    /// The ports that are kept from it; none for a pod that names no port: any.
    pub ports: Vec<u16>,
    /// The policies that do, as `NAMESPACE/NAME`.
    pub policies: BTreeSet<String>,
}

/// A pod outside of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outsider {
    /// The pod, as `NAMESPACE/NAME`.
    pub pod: String,
    /// Why it "is not in the mesh: …".
    pub why: String,
}

/// A port that would take plaintext still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaysOpen {
    /// The pod, as `NAMESPACE/NAME`.
    pub pod: String,
    /// The port; `None` for a pod that names no port: any.
    pub port: Option<u16>,
    /// The PeerAuthentication that keeps it open, as `NAMESPACE/NAME`.
    pub by: Option<String>,
}

/// A pod in the mesh: its workload, and its ports (none: one that nobody names stands for all).
struct Inside {
    object: Arc<Object>,
    workload: Arc<Workload>,
    ports: Vec<u16>,
}

impl World {
    /// What a STRICT PeerAuthentication for the namespace (`None`: for each) would change. It is tried: the mesh is
    /// asked about every pod outside of it and every port of every pod inside, as it is and as it would be. With
    /// `network_policies_enforced`, a caller whom NetworkPolicies keep away does not count.
    pub fn strict_report(
        &mut self,
        namespace: Option<&str>,
        network_policies_enforced: bool,
    ) -> StrictReport {
        let inside = self.inside(namespace);
        let outside: Vec<(String, Speaker)> = self
            .outsiders()
            .map(|(pod, workload)| (name_of(&pod.object), Speaker::plaintext(workload)))
            .collect();
        let callers = self.outsiders().map(|(pod, _)| Outsider {
            pod: name_of(&pod.object),
            why: pod.membership.to_string(),
        });
        let callers = callers.collect();
        let mut unknown_addresses = BTreeSet::new();
        let before = self.let_in(&inside, &outside, &mut unknown_addresses);
        let namespaces: BTreeSet<&str> = inside
            .iter()
            .map(|pod| pod.object.metadata.namespace.as_str())
            .collect();
        let strict: Vec<Arc<Object>> = namespaces.into_iter().filter_map(strict).map(Arc::new).collect();
        let (after, stays_open) = self.with(strict, |world| {
            (
                world.let_in(&inside, &outside, &mut BTreeSet::new()),
                world.open(&inside),
            )
        });
        let mut breaking: BTreeMap<usize, BTreeMap<String, Vec<u16>>> = BTreeMap::new();
        let mut kept_away: BTreeMap<(usize, usize, BTreeSet<String>), Vec<u16>> = BTreeMap::new();
        for (pod, caller, port) in before.difference(&after) {
            let policies = self.kept_away(&outside[*caller].0, &inside[*pod].object, *port);
            if !policies.is_empty() {
                kept_away
                    .entry((*pod, *caller, policies))
                    .or_default()
                    .extend(*port);
                if network_policies_enforced {
                    continue;
                }
            }
            let callers = breaking.entry(*pod).or_default();
            callers
                .entry(outside[*caller].0.clone())
                .or_default()
                .extend(*port);
        }
        StrictReport {
            looked_at: inside.len(),
            breaking: breaking
                .into_iter()
                .map(|(pod, callers)| Breaking {
                    pod: name_of(&inside[pod].object),
                    callers,
                })
                .collect(),
            kept_away: kept_away
                .into_iter()
                .map(|((pod, caller, policies), ports)| KeptAway {
                    pod: name_of(&inside[pod].object),
                    caller: outside[caller].0.clone(),
                    ports,
                    policies,
                })
                .collect(),
            network_policies_enforced,
            callers,
            stays_open,
            unknown_addresses,
        }
    }

    /// The NetworkPolicies that keep a caller (`NAMESPACE/NAME`) away from a pod.
    fn kept_away(&self, caller: &str, target: &Object, port: Option<u16>) -> BTreeSet<String> {
        let find = |(namespace, name)| self.pod(namespace, name);
        let target = self.pod(&target.metadata.namespace, &target.metadata.name);
        match caller.split_once('/').and_then(find).zip(target) {
            Some((caller, target)) => network::blocking(self, caller, target, port),
            None => BTreeSet::new(),
        }
    }

    fn inside(&self, namespace: Option<&str>) -> Vec<Inside> {
        let here = |pod: &&Pod| namespace.is_none_or(|namespace| pod.object.metadata.namespace == namespace);
        let pods = self.pods().filter(here).filter(|pod| pod.membership.is_inside());
        pods.filter_map(|pod| {
            let workload = Arc::clone(self.workload_of(pod)?);
            Some(Inside {
                object: Arc::clone(&pod.object),
                ports: ports(pod, &workload),
                workload,
            })
        })
        .collect()
    }

    /// Pods outside of the mesh that can call. Node proxies are none: what they forward is not their own.
    fn outsiders(&self) -> impl Iterator<Item = (&Pod, &Arc<Workload>)> {
        let calls = |pod: &&Pod| {
            !pod.membership.is_inside() && pod.membership != Membership::Outside(Reason::NodeProxy)
        };
        self.pods()
            .filter(calls)
            .filter_map(|pod| Some((pod, self.workload_of(pod)?)))
    }

    /// Which pods let which outsiders in on which ports, by position. Notes the pods of which only an address that nobody
    /// wrote speaks against it.
    fn let_in(
        &self,
        inside: &[Inside],
        outside: &[(String, Speaker)],
        unknown_addresses: &mut BTreeSet<String>,
    ) -> BTreeSet<(usize, usize, Option<u16>)> {
        let mut found = BTreeSet::new();
        for (pod, target) in inside.iter().enumerate() {
            // Policies may have changed what the workload lists.
            let Some(workload) = self.snapshot().workload(&target.workload.uid) else {
                continue;
            };
            let Some(local) = workload.addresses.first() else {
                continue;
            };
            for (caller, (name, speaker)) in outside.iter().enumerate() {
                for port in target.asked() {
                    let address = SocketAddr::new(*local, port.unwrap_or(UNNAMED));
                    let Ok((source_ip, destination)) = speaker.meets(workload, address) else {
                        continue;
                    };
                    let connection = Connection {
                        peer: None,
                        source_ip,
                        workload,
                        destination,
                    };
                    let decision = authorize(&connection, self.snapshot());
                    let made_up = if decision.is_allowed() {
                        Vec::new()
                    } else {
                        self.refused_by_made_up_address(&decision, name, target, port)
                    };
                    if decision.is_allowed() || !made_up.is_empty() {
                        found.insert((pod, caller, port));
                    }
                    unknown_addresses.extend(made_up);
                }
            }
        }
        found
    }

    /// The ports whose mode is not STRICT.
    fn open(&self, inside: &[Inside]) -> Vec<StaysOpen> {
        let mut found = Vec::new();
        for pod in inside {
            for port in pod.asked() {
                let effective = self.effective_mtls(&pod.object, port);
                if effective.mode != MtlsMode::Strict {
                    let by = effective
                        .decided_by
                        .map(|key| format!("{}/{}", key.namespace, key.name));
                    let pod = name_of(&pod.object);
                    found.push(StaysOpen { pod, port, by });
                }
            }
        }
        found
    }
}

/// Stands for the ports of a pod that names none. Nobody serves on it, so policies hardly name it.
const UNNAMED: u16 = 65_535;

impl Inside {
    fn asked(&self) -> impl Iterator<Item = Option<u16>> {
        let any = self.ports.is_empty().then_some(None);
        self.ports.iter().copied().map(Some).chain(any)
    }
}

/// The TCP ports that its containers or its Services name.
fn ports(pod: &Pod, workload: &Workload) -> Vec<u16> {
    let containers = pod
        .object
        .as_pod()
        .into_iter()
        .flat_map(|content| content.spec.containers_and_sidecars());
    let declared = containers
        .flat_map(|container| &container.ports)
        .filter(|port| port.protocol == Protocol::Tcp);
    let served = workload
        .services
        .values()
        .flatten()
        .filter_map(|port| port.target_port);
    let all: BTreeSet<u16> = declared
        .map(|port| port.port)
        .chain(served.map(std::num::NonZeroU16::get))
        .collect();
    all.into_iter().collect()
}

fn strict(namespace: &str) -> Option<Object> {
    let object = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": namespace, "name": "strict-report", "creationTimestamp": OLDEST},
        "spec": {"mtls": {"mode": "STRICT"}},
    });
    // The namespace of an object that could be read.
    Object::from_value(object).ok()
}

fn name_of(object: &Object) -> String {
    format!("{}/{}", object.metadata.namespace, object.metadata.name)
}
