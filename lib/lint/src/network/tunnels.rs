//! Whether tunnels pass.

use objects::{NetworkPolicy, Protocol, ReadObject};

use super::{Code, Direction, Finding, Mode, Severity, Subject, TUNNEL_PORT, World, passes, some};

pub(super) fn check(
    world: &World<'_>,
    read: &ReadObject,
    policy: &NetworkPolicy,
    direction: Direction,
    subjects: &[Subject<'_>],
    found: &mut Vec<Finding>,
) {
    if direction.rules(policy).is_none() {
        return;
    }
    let blocked: Vec<&Subject<'_>> = subjects
        .iter()
        .filter(|subject| subject.mesh != Mode::Outside)
        .filter(|subject| !passes(world, subject, direction, Protocol::Tcp, TUNNEL_PORT))
        .collect();
    if blocked.is_empty() {
        return;
    }
    let sure = blocked.iter().any(|subject| subject.mesh == Mode::InMesh);
    let names = some(blocked.iter().map(|subject| subject.name.as_str()));
    let (way, effect) = match direction {
        Direction::Ingress => ("in", "no caller in the mesh reaches them"),
        Direction::Egress => ("out", "they reach nobody in the mesh"),
    };
    let condition = if sure {
        String::new()
    } else {
        "if these pods are in the mesh (the manifests do not hold their namespace): ".to_owned()
    };
    let finding = Finding::about(
        read,
        Code::HboneBlocked,
        direction.field(),
        format!(
            "{condition}traffic between mesh pods is one tunnel to TCP {TUNNEL_PORT}, and no policy that selects them lets it \
             {way}, so {effect}: {names}"
        ),
        match direction {
            Direction::Ingress => {
                "add a NetworkPolicy for these pods with an ingress rule for TCP 15008, and say who may call what in an \
                 AuthorizationPolicy"
            }
            Direction::Egress => "add a NetworkPolicy for these pods with an egress rule for TCP 15008",
        },
    );
    found.push(if sure {
        finding
    } else {
        finding.rated(Severity::Info)
    });
}
