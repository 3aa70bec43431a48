//! Whether pods can still ask for names.

use objects::{NetworkPolicy, Protocol, ReadObject};

use super::{Code, Direction, Finding, Subject, World, passes, some};

const DNS_PORT: u16 = 53;

pub(super) fn check(
    world: &World<'_>,
    read: &ReadObject,
    policy: &NetworkPolicy,
    subjects: &[Subject<'_>],
    found: &mut Vec<Finding>,
) {
    let direction = Direction::Egress;
    if direction.rules(policy).is_none() {
        return;
    }
    let passes = |subject: &&&Subject<'_>, protocol| passes(world, subject, direction, protocol, DNS_PORT);
    let all: Vec<&Subject<'_>> = subjects.iter().collect();
    let (asking, mute): (Vec<_>, Vec<_>) = all.iter().partition(|subject| passes(subject, Protocol::Udp));
    if !mute.is_empty() {
        found.push(Finding::about(
            read,
            Code::DnsEgressMissing,
            direction.field(),
            format!(
                "no policy lets questions of DNS (UDP 53) out of these pods, so that no name is resolved and hardly anything \
                 works: {}",
                some(mute.iter().map(|subject: &&Subject<'_>| subject.name.as_str()))
            ),
            "add a NetworkPolicy for these pods with an egress rule for UDP and TCP 53 to the namespace of the DNS servers \
             (kubernetes.io/metadata.name: kube-system)",
        ));
    }
    let short: Vec<&str> = asking
        .iter()
        .filter(|subject| !passes(subject, Protocol::Tcp))
        .map(|subject| subject.name.as_str())
        .collect();
    if !short.is_empty() {
        found.push(Finding::about(
            read,
            Code::DnsOverTcpBlocked,
            direction.field(),
            format!(
                "DNS passes over UDP and not over TCP, which long answers need: {}",
                some(short.iter().copied())
            ),
            "add protocol: TCP, port: 53 beside the UDP one",
        ));
    }
}
