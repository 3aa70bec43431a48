//! The headers of a tunnel request: who the two ends are, where the client really is, and a trace id.
//!
//! What a peer writes here is believed for metrics and logs only, never for a decision.

use mesh::inbound::Authority;
use mesh::{Workload, WorkloadType};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Name of the header that describes a workload.
pub(crate) const BAGGAGE: &str = "baggage";
/// Name of the header with the client's address (RFC 7239).
pub(crate) const FORWARDED: &str = "forwarded";
/// Name of the W3C trace context header.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Name of the header that says, inside a tunnel through a gateway, which network the connection comes from.
pub(crate) const FORWARDED_NETWORK: &str = "x-forwarded-network";

/// Longest `baggage` that is read; more is ignored as a whole.
const MAX_BAGGAGE: usize = 8 * 1024;

/// Describes `workload` for the other end. Empty values are left out; nothing is escaped, as existing peers
/// expect it.
pub(crate) fn baggage(workload: &Workload) -> String {
    let kind = match workload.workload_type {
        WorkloadType::Deployment => "k8s.deployment.name",
        WorkloadType::CronJob => "k8s.cronjob.name",
        WorkloadType::Pod => "k8s.pod.name",
        WorkloadType::Job => "k8s.job.name",
    };
    let mut text = String::with_capacity(160);
    for (key, value) in [
        ("k8s.cluster.name", &*workload.cluster_id),
        ("k8s.namespace.name", &*workload.namespace),
        (kind, &*workload.workload_name),
        ("service.name", &*workload.canonical_name),
        ("service.version", &*workload.canonical_revision),
        ("cloud.region", &*workload.locality.region),
        ("cloud.availability_zone", &*workload.locality.zone),
    ] {
        // What would break the header or pass for another member is left out, not escaped: peers do not unescape.
        if !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'=')
        {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(key);
            text.push('=');
            text.push_str(value);
        }
    }
    text
}

/// What a peer says about its workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerDescription {
    /// Cluster.
    pub(crate) cluster: Option<String>,
    /// Namespace.
    pub(crate) namespace: Option<String>,
    /// Name of the owner.
    pub(crate) workload: Option<String>,
    /// Canonical service.
    pub(crate) service: Option<String>,
    /// Canonical revision.
    pub(crate) revision: Option<String>,
    /// Region.
    pub(crate) region: Option<String>,
    /// Zone.
    pub(crate) zone: Option<String>,
}

/// Reads `baggage`: unknown keys are ignored, an empty value counts as unset, anything but printable ASCII
/// discards the whole.
pub(crate) fn parse_baggage(text: &str) -> PeerDescription {
    let mut peer = PeerDescription::default();
    if text.len() > MAX_BAGGAGE || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return peer;
    }
    for (key, value) in text.split(',').filter_map(|member| member.split_once('=')) {
        let field = match key.trim() {
            "k8s.cluster.name" => &mut peer.cluster,
            "k8s.namespace.name" => &mut peer.namespace,
            "k8s.deployment.name" | "k8s.cronjob.name" | "k8s.pod.name" | "k8s.job.name" => {
                &mut peer.workload
            }
            "service.name" => &mut peer.service,
            "service.version" => &mut peer.revision,
            "cloud.region" => &mut peer.region,
            "cloud.availability_zone" => &mut peer.zone,
            _ => continue,
        };
        *field = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
    }
    peer
}

/// `for="client"` and, when a service was addressed, its host name.
pub(crate) fn forwarded(client: SocketAddr, service_host: Option<&str>) -> String {
    let mut text = format!("for=\"{client}\"");
    if let Some(host) = service_host {
        // Writing to a String cannot fail.
        let _ = write!(text, ";host={host}");
    }
    text
}

/// A W3C `traceparent` with fresh ids, not sampled.
pub(crate) fn traceparent(entropy: [u64; 3]) -> String {
    format!(
        "00-{:016x}{:016x}-{:016x}-00",
        entropy[0],
        entropy[1].max(1),
        entropy[2].max(1)
    )
}

/// Reads `host:port`; both are required (RFC 9113 §8.5).
pub(crate) fn parse_authority(text: &str) -> Option<Authority> {
    const MAX_AUTHORITY: usize = 300;
    if text.len() > MAX_AUTHORITY {
        return None;
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        // A scope id is no part of an address that another host could mean.
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        return (address.port() != 0 && !text.contains('%')).then_some(Authority::Address(plain));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let name = host.strip_suffix('.').unwrap_or(host);
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.parse::<IpAddr>().is_err()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    valid.then(|| Authority::Hostname(name.to_ascii_lowercase().into(), port))
}

#[cfg(test)]
mod tests;
