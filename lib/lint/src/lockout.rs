//! Policies that lock out what a cluster cannot do without: DNS, the kubelet's probes, those who scrape metrics.

use std::collections::BTreeMap;

use objects::{Action, ContainerPort, Protocol, ReadObject};
use serde_json::Value;

use crate::code::Code;
use crate::finding::Finding;
use crate::peer_authentication::strict;
use crate::scope::Scope;
use crate::terms::{self, Cube};
use crate::world::{Workload, World, some};

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut refusals = Refusals::default();
    for workload in world.workloads.iter().filter(|workload| workload.in_mesh()) {
        dns(world, workload, &mut refusals);
        monitoring(world, workload, &mut refusals);
        if !world.settings.probes_exempt {
            probes(world, workload, &mut refusals);
        }
    }
    found.extend(refusals.findings());
}

/// Who is refused by which policy, gathered to say it once for each.
#[derive(Default)]
struct Refusals<'a> {
    by_policy: BTreeMap<(Code, String), (&'a ReadObject, Vec<Refusal>)>,
}

/// What is called, and who calls.
type Refusal = (String, String);

impl<'a> Refusals<'a> {
    fn note(&mut self, code: Code, policy: &'a ReadObject, target: String, caller: String) {
        let key = (code, policy.object.key().to_string());
        let entry = self.by_policy.entry(key).or_insert_with(|| (policy, Vec::new()));
        entry.1.push((target, caller));
    }

    fn findings(self) -> impl Iterator<Item = Finding> {
        self.by_policy.into_iter().map(|((code, _), (policy, pairs))| {
            let targets = some(pairs.iter().map(|(target, _)| target.as_str()));
            let callers = some(pairs.iter().map(|(_, caller)| caller.as_str()));
            let (why, fix) = match code {
                Code::LocksOutDns => (
                    format!(
                        "{targets} answers DNS, and over TCP this policy refuses {callers}; questions over UDP are not \
                         captured and not judged"
                    ),
                    "allow port 53 to everybody (a rule with only to.operation.ports: [\"53\"]), or keep DNS servers out \
                     of the mesh",
                ),
                Code::LocksOutProbes => (
                    format!(
                        "this policy refuses the kubelet's probes of {targets}: they come from the node, in plaintext, \
                         and this node agent does not let them pass by the proxy (that of Istio does)"
                    ),
                    "use exec probes, or let the probed port take plaintext (portLevelMtls PERMISSIVE, an ALLOW rule with \
                     the node's addresses in ipBlocks); with a node agent that exempts probes: --probes-exempt",
                ),
                _ => (
                    format!("this policy refuses {callers} at the metrics of {targets}: its scrapes fail"),
                    "add an ALLOW rule with the scraper's principal for the metrics port",
                ),
            };
            let field = if policy.object.raw().pointer("/spec/rules").is_some() {
                "spec.rules"
            } else {
                "spec"
            };
            Finding::about(policy, code, field, why, fix)
        })
    }
}

/// The policy that surely refuses such connections to a workload.
fn refused<'a>(world: &World<'a>, workload: &Workload, caller: &Cube) -> Option<&'a ReadObject> {
    let mut first_allow = None;
    let mut allowed = false;
    for (read, policy) in world.enforced() {
        if !Scope::of(world, &read.object, &policy.selector).selects(workload) {
            continue;
        }
        let mut cubes = policy.rules.iter().map(|rule| {
            terms::cubes(
                rule,
                policy.action,
                &read.object.metadata.namespace,
                &world.settings.trust_domains,
            )
        });
        match policy.action {
            // What is too large to compare may allow.
            Action::Allow => {
                allowed |= cubes.any(|cubes| cubes.is_none_or(|cubes| terms::may_meet(&cubes, caller)));
                first_allow = first_allow.or(Some(read));
            }
            Action::Audit | Action::Custom => {}
            Action::Deny => {
                let denies = |cubes: Vec<Cube>| cubes.iter().any(|cube| cube.covers(caller));
                if cubes.any(|cubes| cubes.is_some_and(denies)) {
                    return Some(read);
                }
            }
        }
    }
    first_allow.filter(|_| !allowed)
}

/// A connection as this workload would make it.
fn call(world: &World<'_>, from: &Workload, port: Option<u16>) -> Cube {
    if !from.in_mesh() {
        return Cube::plaintext(port);
    }
    let domain = world
        .settings
        .trust_domains
        .first()
        .map_or("cluster.local", String::as_str);
    let account = &from.pod().spec.service_account_name;
    Cube::identified(&format!("{domain}/ns/{}/sa/{account}", from.namespace()), port)
}

fn dns<'a>(world: &World<'a>, workload: &Workload, refusals: &mut Refusals<'a>) {
    const PORT: u16 = 53;
    let serves = workload
        .ports()
        .any(|port| port.port == PORT && port.protocol == Protocol::Tcp);
    if !serves {
        return;
    }
    for caller in &world.workloads {
        if std::ptr::eq(caller, workload) {
            continue;
        }
        let plain = !caller.in_mesh();
        let policy = refused(world, workload, &call(world, caller, Some(PORT)))
            .or_else(|| strict(world, workload, Some(PORT)).filter(|_| plain));
        if let Some(policy) = policy {
            refusals.note(
                Code::LocksOutDns,
                policy,
                workload.name.clone(),
                caller.name.clone(),
            );
        }
    }
}

fn monitoring<'a>(world: &World<'a>, workload: &Workload, refusals: &mut Refusals<'a>) {
    let ports = metrics_ports(workload);
    if ports.is_empty() {
        return;
    }
    for scraper in scrapers(world) {
        let refusing = |port: &Option<u16>| refused(world, workload, &call(world, scraper, *port));
        // One port that answers is enough.
        let policies: Option<Vec<&ReadObject>> = ports.iter().map(refusing).collect();
        if let Some(policy) = policies.and_then(|policies| policies.first().copied()) {
            refusals.note(
                Code::LocksOutMonitoring,
                policy,
                workload.name.clone(),
                scraper.name.clone(),
            );
        }
    }
}

/// Where a workload offers metrics: as its annotations or the names of its ports say. `None`: on a port that is not
/// named.
pub(crate) fn metrics_ports(workload: &Workload) -> Vec<Option<u16>> {
    let annotations = &workload.object.metadata.annotations;
    let annotation = |name: &str| {
        annotations
            .get(&format!("prometheus.io/{name}"))
            .map(String::as_str)
    };
    if annotation("scrape") == Some("true") {
        return vec![annotation("port").and_then(|port| port.parse().ok())];
    }
    let named = |port: &&ContainerPort| port.name == "metrics" || port.name.ends_with("-metrics");
    workload
        .ports()
        .filter(named)
        .map(|port| Some(port.port))
        .collect()
}

/// Who scrapes: what is called so in a namespace of monitoring, or everything there when nothing is called so; and
/// Prometheus wherever it runs.
pub(crate) fn scrapers<'w>(world: &'w World<'_>) -> Vec<&'w Workload> {
    const SCRAPERS: [&str; 4] = ["prometheus", "vmagent", "otel-collector", "alloy"];
    let is_scraper = |workload: &Workload| {
        let labels = workload.labels();
        let known = ["app", "app.kubernetes.io/name", "k8s-app"];
        known
            .iter()
            .filter_map(|key| labels.get(*key))
            .chain([&workload.object.metadata.name])
            .any(|text| {
                SCRAPERS
                    .iter()
                    .any(|name| text == name || text.starts_with(&format!("{name}-")))
            })
    };
    let in_monitoring = |workload: &Workload| {
        let name = workload.namespace();
        let labels = world.namespace_labels(name);
        name.contains("monitoring") || labels.values().any(|value| value == "monitoring")
    };
    let by_name: Vec<&Workload> = world
        .workloads
        .iter()
        .filter(|workload| is_scraper(workload))
        .collect();
    if !by_name.is_empty() {
        return by_name;
    }
    world
        .workloads
        .iter()
        .filter(|workload| in_monitoring(workload))
        .collect()
}

fn probes<'a>(world: &World<'a>, workload: &Workload, refusals: &mut Refusals<'a>) {
    for port in probed_ports(workload) {
        let policy =
            strict(world, workload, port).or_else(|| refused(world, workload, &Cube::plaintext(port)));
        if let Some(policy) = policy {
            refusals.note(
                Code::LocksOutProbes,
                policy,
                workload.name.clone(),
                "the kubelet".to_owned(),
            );
        }
    }
}

/// The ports that the kubelet probes over the network; `None`: one that cannot be told.
pub(crate) fn probed_ports(workload: &Workload) -> Vec<Option<u16>> {
    let mut found = Vec::new();
    let containers = workload
        .object
        .raw()
        .pointer("/spec/containers")
        .and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let Some(probe) = container.get(probe) else {
                continue;
            };
            let port = ["httpGet", "tcpSocket", "grpc"]
                .iter()
                .find_map(|kind| probe.get(*kind).filter(|action| action.is_object())?.get("port"));
            let number = match port {
                Some(Value::Number(number)) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
                Some(Value::String(name)) => workload
                    .ports()
                    .find(|known| known.name == *name)
                    .map(|known| known.port),
                _ => continue,
            };
            if !found.contains(&number) {
                found.push(number);
            }
        }
    }
    found
}
