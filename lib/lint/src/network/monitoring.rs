//! Whether NetworkPolicies let in those who scrape metrics, and the kubelet's probes.

use std::net::{IpAddr, Ipv4Addr};

use objects::{NetworkPeer, Protocol};

use super::peers::may_mean;
use super::subject::Subject;
use super::{Code, Direction, Finding, TUNNEL_PORT, World, selecting, some};
use crate::lockout::{metrics_ports, probed_ports, scrapers};
use crate::world::{Mode, Workload};

/// The address that Istio's node agent gives to the kubelet's probes of mesh pods.
const PROBE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));

pub(super) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for workload in world
        .workloads
        .iter()
        .filter(|workload| !workload.pod().spec.host_network)
    {
        let subject = subject(workload);
        let mut policies = selecting(world, &subject).filter(|(_, policy)| policy.ingress.is_some());
        let Some((read, _)) = policies.next() else {
            continue;
        };
        let refused: Vec<&str> = scrapers(world)
            .into_iter()
            .filter(|scraper| !std::ptr::eq(*scraper, workload))
            .filter(|scraper| {
                let ports = metrics_ports(workload);
                !ports.is_empty() && !ports.iter().any(|port| scraped(world, &subject, scraper, *port))
            })
            .map(|scraper| scraper.name.as_str())
            .collect();
        if !refused.is_empty() {
            found.push(Finding::about(
                read,
                Code::LocksOutMonitoring,
                "spec.ingress",
                format!(
                    "no NetworkPolicy that selects {} lets {} in to its metrics: its scrapes fail",
                    workload.name,
                    some(refused.iter().copied())
                ),
                "add an ingress rule from the scraper's pods for TCP 15008 where both are in the mesh, else for the metrics \
                 port",
            ));
        }
        let probes_pass = probed_ports(workload)
            .iter()
            .all(|port| probed(world, &subject, *port));
        if world.settings.probes_exempt && workload.in_mesh() && !probes_pass {
            found.push(Finding::about(
                read,
                Code::LocksOutProbes,
                "spec.ingress",
                format!(
                    "the kubelet's probes of mesh pods come from {PROBE_ADDRESS}, and no NetworkPolicy that selects {} lets \
                     that address in",
                    workload.name
                ),
                format!("add an ingress rule from ipBlock {PROBE_ADDRESS}/32"),
            ));
        }
    }
}

fn subject(workload: &Workload) -> Subject<'_> {
    Subject {
        name: workload.name.clone(),
        namespace: workload.namespace(),
        labels: std::borrow::Cow::Borrowed(workload.labels()),
        mesh: if workload.in_mesh() {
            Mode::InMesh
        } else {
            Mode::Outside
        },
        workload: Some(workload),
    }
}

fn scraped(world: &World<'_>, subject: &Subject<'_>, scraper: &Workload, port: Option<u16>) -> bool {
    let tunnel = scraper.in_mesh() && subject.mesh == Mode::InMesh;
    // A port that nobody knows may be one that is let through.
    let Some(port) = (if tunnel { Some(TUNNEL_PORT) } else { port }) else {
        return true;
    };
    let from = |peers: &[NetworkPeer]| {
        peers.is_empty()
            || peers
                .iter()
                .any(|peer| may_mean(world, subject.namespace, peer, scraper))
    };
    lets_in(world, subject, port, &from)
}

fn probed(world: &World<'_>, subject: &Subject<'_>, port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    let from = |peers: &[NetworkPeer]| {
        peers.is_empty()
            || peers.iter().any(|peer| match peer {
                NetworkPeer::Block { block, except } => {
                    block.contains(PROBE_ADDRESS) && !except.iter().any(|inner| inner.contains(PROBE_ADDRESS))
                }
                NetworkPeer::Pods { .. } => false,
            })
    };
    lets_in(world, subject, port, &from)
}

fn lets_in(
    world: &World<'_>,
    subject: &Subject<'_>,
    port: u16,
    from: &dyn Fn(&[NetworkPeer]) -> bool,
) -> bool {
    selecting(world, subject).any(|(_, policy)| {
        policy.ingress.iter().flatten().any(|rule| {
            from(&rule.peers)
                && rule.lets_port_through(Protocol::Tcp, port, |name| {
                    subject.names_port(Direction::Ingress, name, Protocol::Tcp, port)
                })
        })
    })
}
