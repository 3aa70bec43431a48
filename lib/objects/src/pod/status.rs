//! How a pod is.

use std::net::IpAddr;

use crate::metadata::{own, time};
use crate::read::Field;
use crate::syntax;

/// How a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatus {
    /// Where it stands in its life.
    pub phase: Phase,
    /// Its addresses, the primary one first: `podIPs`, or `podIP` where that is missing.
    pub pod_ips: Vec<IpAddr>,
    /// Its conditions.
    pub conditions: Vec<PodCondition>,
    /// When its node took it on (RFC 3339, UTC).
    pub start_time: Option<String>,
}

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not everything of it runs yet.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// Its node is silent.
    Unknown,
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCondition {
    /// The type, such as `Ready`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

impl Phase {
    /// Whether the pod runs nothing any more and never will.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

impl PodStatus {
    pub(super) fn read(field: &Field<'_>) -> Option<PodStatus> {
        const PHASES: [(&str, Phase); 5] = [
            ("Pending", Phase::Pending),
            ("Running", Phase::Running),
            ("Succeeded", Phase::Succeeded),
            ("Failed", Phase::Failed),
            ("Unknown", Phase::Unknown),
        ];
        let mut fields = field.fields()?;
        let phase = fields
            .get("phase")
            .and_then(|field| field.choice(&PHASES))
            .unwrap_or_default();
        let address = fields
            .get("podIP")
            .and_then(|field| field.parsed(syntax::address));
        let mut pod_ips = Vec::new();
        for item in fields
            .get("podIPs")
            .map(|field| field.items())
            .unwrap_or_default()
        {
            let Some(mut entry) = item.fields() else { continue };
            pod_ips.extend(
                entry
                    .require("ip", "the address")
                    .and_then(|field| field.parsed(syntax::address)),
            );
            entry.finish();
        }
        if pod_ips.is_empty() {
            pod_ips.extend(address);
        }
        let conditions = fields
            .get("conditions")
            .map(|field| field.items())
            .unwrap_or_default();
        let conditions = conditions.iter().filter_map(PodCondition::read).collect();
        let start_time = time(fields.get("startTime"));
        fields.keep(&[
            "allocatedResources",
            "containerStatuses",
            "ephemeralContainerStatuses",
            "extendedResourceClaimStatus",
            "hostIP",
            "hostIPs",
            "initContainerStatuses",
            "message",
            "nominatedNodeName",
            "observedGeneration",
            "qosClass",
            "reason",
            "resize",
            "resourceClaimStatuses",
            "resources",
        ]);
        fields.finish();
        Some(PodStatus {
            phase,
            pod_ips,
            conditions,
            start_time,
        })
    }
}

impl PodCondition {
    fn read(field: &Field<'_>) -> Option<PodCondition> {
        let mut fields = field.fields()?;
        let kind = own(fields.require("type", "the condition's type"));
        let status = own(fields.require("status", "True, False or Unknown"));
        fields.keep(&[
            "lastProbeTime",
            "lastTransitionTime",
            "message",
            "observedGeneration",
            "reason",
        ]);
        fields.finish();
        Some(PodCondition { kind, status })
    }
}
