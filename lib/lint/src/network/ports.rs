//! Rules that name application ports, which nobody sees between mesh pods.

use std::collections::BTreeSet;

use objects::{NetworkPolicy, NetworkPort, NetworkRule, Protocol, ReadObject, TargetPort};

use super::peers::{may_mean, means, mesh_peers};
use super::{
    Code, Direction, Finding, Mode, Severity, Subject, TUNNEL_PORT, Workload, World, passes, selecting, some,
};

pub(super) fn check(
    world: &World<'_>,
    read: &ReadObject,
    policy: &NetworkPolicy,
    direction: Direction,
    subjects: &[Subject<'_>],
    found: &mut Vec<Finding>,
) {
    let own = read.object.metadata.namespace.as_str();
    let meshed: Vec<&Subject<'_>> = subjects
        .iter()
        .filter(|subject| subject.mesh != Mode::Outside)
        .collect();
    if meshed.is_empty() {
        return;
    }
    for (index, rule) in direction.rules(policy).unwrap_or_default().iter().enumerate() {
        let Some(ports) = application_ports(rule) else {
            continue;
        };
        let peers = mesh_peers(world, own, &rule.peers);
        if peers == Mode::Outside {
            continue;
        }
        // The peers in the mesh that the manifests hold.
        let known: Vec<&Workload> = world
            .workloads
            .iter()
            .filter(|workload| workload.in_mesh())
            .filter(|workload| {
                let mut peers = rule.peers.iter();
                rule.peers.is_empty() || peers.any(|peer| means(world, own, peer, workload))
            })
            .collect();
        let (mut open, mut open_to_others, mut cut_off) = (Vec::new(), false, BTreeSet::new());
        for subject in &meshed {
            if !passes(world, subject, direction, Protocol::Tcp, TUNNEL_PORT) {
                continue;
            }
            // A workload's connections to itself do not leave it.
            let others = known.iter().filter(|peer| peer.name != subject.name);
            let blocked: Vec<&&Workload> = others
                .filter(|peer| !tunnels_pass(world, subject, direction, peer))
                .collect();
            if blocked.is_empty() {
                open.push(subject);
            } else {
                open_to_others = true;
                let between = |peer: &Workload| format!("{} ({})", peer.name, subject.name);
                if subject.mesh == Mode::InMesh {
                    cut_off.extend(blocked.into_iter().map(|peer| between(peer)));
                }
            }
        }
        if !cut_off.is_empty() {
            found.push(blocked(read, direction, index, &ports, &cut_off));
        }
        let sure = peers == Mode::InMesh && meshed.iter().any(|subject| subject.mesh == Mode::InMesh);
        let condition = if sure {
            ""
        } else {
            "where both ends are in the mesh (the manifests do not say): "
        };
        let closed = format!("the rule for {ports} admits none of that");
        let useless = format!(
            "once {TUNNEL_PORT} is open, it restricts nothing, since every port is behind the same tunnel port"
        );
        let now = if open.is_empty() && open_to_others {
            format!("{TUNNEL_PORT} is closed between these and open to others alone, so {closed}; {useless}")
        } else if open.is_empty() {
            format!("{TUNNEL_PORT} is closed here, so {closed}; {useless}")
        } else {
            format!(
                "{TUNNEL_PORT} is open to {}, so the rule restricts nothing there, since every port is behind the same \
                 tunnel port; were it closed, {closed}",
                some(open.iter().map(|subject| subject.name.as_str()))
            )
        };
        let finding = Finding::about(
            read,
            Code::ApplicationPortAssumed,
            format!("{}[{index}].ports", direction.field()),
            format!(
                "{condition}traffic between mesh pods arrives on TCP {TUNNEL_PORT} and not on {ports}: {now}. For peers outside \
                 of the mesh it holds as written"
            ),
            "open TCP 15008 between these pods, and say who may reach which port in an AuthorizationPolicy (principals and \
             operation.ports); keep this rule for peers outside of the mesh",
        );
        found.push(if sure {
            finding
        } else {
            finding.rated(Severity::Info)
        });
    }
}

/// Whether some policy that selects the subject lets tunnels pass between it and this peer.
fn tunnels_pass(world: &World<'_>, subject: &Subject<'_>, direction: Direction, peer: &Workload) -> bool {
    selecting(world, subject).any(|(read, policy)| {
        let own = read.object.metadata.namespace.as_str();
        let rules = direction.rules(policy).unwrap_or_default();
        rules.iter().any(|rule| {
            let mut peers = rule.peers.iter();
            (rule.peers.is_empty() || peers.any(|named| may_mean(world, own, named, peer)))
                && rule.lets_port_through(Protocol::Tcp, TUNNEL_PORT, |name| {
                    subject.names_port(direction, name, Protocol::Tcp, TUNNEL_PORT)
                })
        })
    })
}

/// Tunnels pass between the rule's pods and others, and not between them and the rule's peers.
fn blocked(
    read: &ReadObject,
    direction: Direction,
    index: usize,
    ports: &str,
    cut_off: &BTreeSet<String>,
) -> Finding {
    let (way, end) = match direction {
        Direction::Ingress => ("from", "in from"),
        Direction::Egress => ("to", "out to"),
    };
    Finding::about(
        read,
        Code::HboneBlocked,
        format!("{}[{index}]", direction.field()),
        format!(
            "traffic between mesh pods is one tunnel to TCP {TUNNEL_PORT}, which policies open to others and not {way} peers \
             for whom this rule opens {ports}, so nothing passes: {}",
            some(cut_off.iter().map(String::as_str))
        ),
        format!(
            "let TCP {TUNNEL_PORT} {end} these peers too, and say who may reach which port in an AuthorizationPolicy"
        ),
    )
}

/// The TCP ports that a rule names, for people; `None` when it also lets tunnels through, or names no TCP port.
fn application_ports(rule: &NetworkRule) -> Option<String> {
    if rule.lets_port_through(Protocol::Tcp, TUNNEL_PORT, |_| false) {
        return None;
    }
    let mut names: Vec<String> = rule
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        // DNS servers are seldom in the mesh, and the proxy asks them itself.
        .filter(|port| port.port != Some(TargetPort::Number(53)))
        .filter_map(spelled)
        .collect();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", "))
}

fn spelled(port: &NetworkPort) -> Option<String> {
    Some(match (port.port.as_ref()?, port.end_port) {
        (TargetPort::Number(first), Some(last)) => format!("{first} to {last}"),
        (TargetPort::Number(number), None) => number.to_string(),
        (TargetPort::Name(name), _) => name.clone(),
    })
}
