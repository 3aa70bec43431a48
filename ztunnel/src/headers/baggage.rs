//! `baggage`: the two proxies describe their workloads to each other.

use mesh::{Workload, WorkloadType};

/// Longest `baggage` that is read, in bytes; a longer one is ignored as a whole.
pub const MAX_BAGGAGE: usize = 8 * 1024;

/// Describes `workload` for the other end. Empty values are left out; nothing is escaped, as existing peers
/// expect it.
pub fn baggage(workload: &Workload) -> String {
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
pub struct PeerDescription {
    /// Cluster.
    pub cluster: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name of the owner.
    pub workload: Option<String>,
    /// Canonical service.
    pub service: Option<String>,
    /// Canonical revision.
    pub revision: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Zone.
    pub zone: Option<String>,
}

/// Reads `baggage`: unknown keys are ignored, an empty value counts as unset, anything but printable ASCII
/// discards the whole.
pub fn parse_baggage(text: &str) -> PeerDescription {
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
