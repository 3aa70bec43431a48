//! State as JSON. Names follow the reference's `config_dump` where it has the thing.

use crate::connections::Subject;
use crate::context::Context;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Everything known.
pub(super) fn config_dump(context: &Context) -> Value {
    let snapshot = context.state.snapshot();
    let workloads: Vec<Value> = snapshot
        .workloads()
        .map(|workload| {
            json!({
                "uid": &*workload.uid,
                "name": &*workload.name,
                "namespace": &*workload.namespace,
                "workloadIps": workload.addresses,
                "identity": workload.identity().to_string(),
                "node": &*workload.node,
                "protocol": format!("{:?}", workload.tunnel).to_uppercase(),
                "status": if workload.healthy { "Healthy" } else { "Unhealthy" },
                "services": workload.services.keys().map(|key| &**key).collect::<Vec<_>>(),
                "authorizationPolicies": workload.authorization_policies.iter().map(|name| &**name).collect::<Vec<_>>(),
            })
        })
        .collect();
    let services: Vec<Value> = snapshot
        .services()
        .map(|service| {
            json!({
                "name": &*service.name,
                "namespace": &*service.namespace,
                "hostname": &*service.hostname,
                "vips": service.addresses.iter().map(|address| address.prefix.to_string()).collect::<Vec<_>>(),
                "endpoints": snapshot.endpoints(service.key()).map(|endpoint| endpoint.uid.to_string()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let policies: Vec<Value> = snapshot
        .policies()
        .map(|policy| {
            json!({
                "name": &*policy.name,
                "namespace": &*policy.namespace,
                "scope": format!("{:?}", policy.scope),
                "action": format!("{:?}", policy.action),
                "rules": policy.rules.len(),
                "dryRun": policy.dry_run,
            })
        })
        .collect();
    let certificates: Vec<Value> = context
        .identities
        .list()
        .into_iter()
        .map(|(identity, state)| {
            json!({
                "identity": identity.to_string(),
                "state": match (&state.certificate, &state.failure) {
                    (Some(certificate), _) if certificate.not_after() > SystemTime::now() => "Available",
                    (Some(_), _) => "Expired",
                    (None, Some(_)) => "Unavailable",
                    (None, None) => "Initializing",
                },
                "serialNumber": state.certificate.as_ref().map(|certificate| certificate.serial().to_string()),
                "validFrom": state.certificate.as_ref().map(|certificate| seconds(certificate.not_before())),
                "expirationTime": state.certificate.as_ref().map(|certificate| seconds(certificate.not_after())),
                "failure": state.failure,
            })
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": context.config.node_name,
        "revision": snapshot.revision(),
        "workloads": workloads,
        "services": services,
        "policies": policies,
        "certificates": certificates,
        "pods": context.pods.list().iter().map(|pod| pod.full_name()).collect::<Vec<_>>(),
        "connections": connections(context),
    })
}

/// What is open now.
pub(super) fn connections(context: &Context) -> Value {
    let now = Instant::now();
    context
        .connections
        .list()
        .into_iter()
        .map(|open| {
            let (direction, peer) = match &open.subject {
                Subject::Outbound(_) => ("outbound", None),
                Subject::Inbound(subject) => ("inbound", subject.peer.as_ref().map(ToString::to_string)),
            };
            json!({
                "id": open.id,
                "pod": open.pod.full_name(),
                "direction": direction,
                "source": open.source.to_string(),
                "destination": open.destination.to_string(),
                "peer": peer,
                "ageSeconds": now.duration_since(open.since).as_secs(),
            })
        })
        .collect()
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
