//! Rules that name application ports, which nobody sees between mesh pods.

use objects::{NetworkPolicy, NetworkPort, NetworkRule, Protocol, ReadObject, TargetPort};

use super::peers::mesh_peers;
use super::{Code, Direction, Finding, Mode, Severity, Subject, TUNNEL_PORT, World, passes, some};

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
        let open: Vec<&&Subject<'_>> = meshed
            .iter()
            .filter(|subject| passes(world, subject, direction, Protocol::Tcp, TUNNEL_PORT))
            .collect();
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
        let now = if open.is_empty() {
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
