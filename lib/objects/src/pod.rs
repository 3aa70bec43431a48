//! Pods.

use std::collections::BTreeMap;

use crate::read::{Field, Fields};
use crate::syntax;

mod container;
mod status;

use container::containers;
pub use container::{Container, ContainerPort, EnvSource, EnvVar, FieldRef};
pub use status::{Phase, PodCondition, PodStatus};

/// A pod: what it runs and how it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// What it runs.
    pub spec: PodSpec,
    /// How it is.
    pub status: PodStatus,
}

/// What a pod runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// The containers; at least one.
    pub containers: Vec<Container>,
    /// The containers that run before the others, or beside them when they restart always.
    pub init_containers: Vec<Container>,
    /// The service account; `default` when the manifest names none.
    pub service_account_name: String,
    /// The node it runs on; empty until it is placed.
    pub node_name: String,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Whether it uses the node's own network.
    pub host_network: bool,
    /// What happens when a process ends.
    pub restart_policy: RestartPolicy,
}

/// What happens when a process of a pod ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again.
    #[default]
    Always,
    /// It is started again unless it ended well.
    OnFailure,
    /// Nothing.
    Never,
}

impl Pod {
    /// Whether the condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Pod {
        let spec = fields
            .require("spec", "a Pod needs a spec")
            .and_then(|field| PodSpec::read(&field));
        let status = fields.get("status").and_then(|field| PodStatus::read(&field));
        Pod {
            spec: spec.unwrap_or_default(),
            status: status.unwrap_or_default(),
        }
    }
}

impl PodSpec {
    pub(crate) fn read(field: &Field<'_>) -> Option<PodSpec> {
        const POLICIES: [(&str, RestartPolicy); 3] = [
            ("Always", RestartPolicy::Always),
            ("OnFailure", RestartPolicy::OnFailure),
            ("Never", RestartPolicy::Never),
        ];
        let mut fields = field.fields()?;
        let mut spec = PodSpec::default();
        if let Some(field) = fields.require("containers", "a Pod needs at least one container") {
            spec.containers = containers(&field);
            if field.items().is_empty() {
                field.error("a Pod needs at least one container");
            }
        }
        if let Some(field) = fields.get("initContainers") {
            spec.init_containers = containers(&field);
        }
        let older = fields.get("serviceAccount");
        let account = fields.get("serviceAccountName").or(older);
        spec.service_account_name = account
            .and_then(|field| field.checked(syntax::dns_subdomain))
            .map_or_else(|| "default".to_owned(), str::to_owned);
        if let Some(name) = fields
            .get("nodeName")
            .and_then(|field| field.checked(syntax::dns_subdomain))
        {
            spec.node_name = name.to_owned();
        }
        if let Some(field) = fields.get("nodeSelector") {
            spec.node_selector = field.text_map(syntax::label);
        }
        spec.host_network = fields
            .get("hostNetwork")
            .and_then(|field| field.boolean())
            .unwrap_or(false);
        spec.restart_policy = fields
            .get("restartPolicy")
            .and_then(|field| field.choice(&POLICIES))
            .unwrap_or_default();
        fields.keep(&KEPT_SPEC);
        fields.finish();
        Some(spec)
    }

    /// The containers that run for the pod's whole life: the ordinary ones, then restartable init containers.
    pub fn containers_and_sidecars(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain(
            self.init_containers
                .iter()
                .filter(|container| container.restart_always),
        )
    }
}

/// The other fields of a PodSpec.
const KEPT_SPEC: [&str; 35] = [
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "securityContext",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];
