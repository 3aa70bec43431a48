//! What is accepted but probably not meant.

use crate::authorization_policy::{Action, AuthorizationPolicy, DRY_RUN_ANNOTATION};
use crate::error::Warning;
use crate::object::{Object, Spec};
use crate::peer_authentication::{MtlsMode, PeerAuthentication};
use crate::selector::Labels;
use crate::service_entry::{Resolution, ServiceEntry};
use crate::workload_entry::{EntryAddress, WorkloadEntry};
use crate::{DATAPLANE_MODE_AMBIENT, DATAPLANE_MODE_LABEL, DATAPLANE_MODE_NONE};

/// What is accepted but probably not what the author of the object means.
pub fn warnings(object: &Object) -> Vec<Warning> {
    let mut found = Found {
        object,
        warnings: Vec::new(),
    };
    match &object.spec {
        Spec::Namespace => found.mode("metadata.labels", &object.metadata.labels),
        Spec::Pod(pod) => {
            found.mode("metadata.labels", &object.metadata.labels);
            let asks = object
                .metadata
                .labels
                .get(DATAPLANE_MODE_LABEL)
                .map(String::as_str);
            if pod.spec.host_network && asks == Some(DATAPLANE_MODE_AMBIENT) {
                found.add(
                    "spec.hostNetwork",
                    "the pod uses the node's own network and is not enrolled, although its label asks for it",
                );
            }
        }
        Spec::Deployment(deployment) => {
            found.mode("spec.template.metadata.labels", &deployment.template.labels)
        }
        Spec::PeerAuthentication(policy) => found.peer_authentication(policy),
        Spec::AuthorizationPolicy(policy) => found.authorization_policy(policy),
        Spec::ServiceAccount
        | Spec::Service(_)
        | Spec::Node(_)
        | Spec::EndpointSlice(_)
        | Spec::NetworkPolicy(_)
        | Spec::Gateway(_)
        | Spec::GatewayClass(_)
        | Spec::WorkloadEntry(_)
        | Spec::WorkloadGroup(_)
        | Spec::ConfigMap(_) => {}
        Spec::ServiceEntry(entry) => found.service_entry(entry),
    }
    found.warnings
}

struct Found<'a> {
    object: &'a Object,
    warnings: Vec<Warning>,
}

impl Found<'_> {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        let warning = Warning {
            object: self.object.key(),
            field: field.to_owned(),
            message: message.into(),
        };
        self.warnings.push(warning);
    }

    fn mode(&mut self, field: &str, labels: &Labels) {
        let Some(mode) = labels.get(DATAPLANE_MODE_LABEL) else {
            return;
        };
        if mode != DATAPLANE_MODE_AMBIENT && mode != DATAPLANE_MODE_NONE {
            self.add(
                &format!("{field}[{DATAPLANE_MODE_LABEL:?}]"),
                format!("the mode {mode:?} is not known and counts as no label; use ambient or none"),
            );
        }
    }

    fn service_entry(&mut self, entry: &ServiceEntry) {
        let is_socket = |endpoint: &&WorkloadEntry| matches!(endpoint.address, Some(EntryAddress::Socket(_)));
        if entry.endpoints.iter().any(|endpoint| is_socket(&endpoint)) {
            self.add(
                "spec.endpoints",
                "node proxies reach no Unix sockets: these endpoints are left out",
            );
        }
        let has_pattern = entry.hosts.iter().any(|host| host.starts_with('*'));
        if entry.resolution == Resolution::DynamicDns && has_pattern {
            self.add(
                "spec.hosts",
                "a node proxy cannot tell which name of the pattern is meant, so it refuses connections to it: they \
                 need a waypoint",
            );
        }
        if entry.addresses.is_empty() && entry.resolution == Resolution::None {
            self.add(
                "spec.resolution",
                "with resolution NONE and no addresses, connections cannot be told apart from others: they pass as to \
                 anything that is not of the mesh",
            );
        }
    }

    fn selector(&mut self) {
        let written = self
            .object
            .raw()
            .get("spec")
            .and_then(|spec| spec.get("selector"));
        let labels = written.and_then(|selector| selector.get("matchLabels"));
        let empty = labels.is_none_or(|labels| labels.as_object().is_none_or(serde_json::Map::is_empty));
        if written.is_some_and(|selector| !selector.is_null()) && empty {
            self.add(
                "spec.selector",
                "an empty selector means every workload of the namespace (of the mesh, in the root namespace), as if \
                 there were none",
            );
        }
    }

    fn peer_authentication(&mut self, policy: &PeerAuthentication) {
        self.selector();
        let ports = policy.port_modes.values();
        if ports.chain([&policy.mode]).any(|mode| *mode == MtlsMode::Disable) {
            self.add(
                "spec",
                "DISABLE lets plaintext in and does not turn mTLS off: peers in the mesh still use it, as with \
                 PERMISSIVE",
            );
        }
    }

    fn authorization_policy(&mut self, policy: &AuthorizationPolicy) {
        self.selector();
        if self
            .object
            .metadata
            .annotations
            .get(DRY_RUN_ANNOTATION)
            .is_some_and(|value| value == "true")
        {
            self.add(
                "metadata.annotations",
                "the policy is a dry run: node proxies that know dry runs record what it would decide, and nobody enforces it",
            );
        }
        if !policy.target_refs.is_empty() {
            let field = if self.object.raw()["spec"].get("targetRef").is_some() {
                "targetRef"
            } else {
                "targetRefs"
            };
            self.add(
                &format!("spec.{field}"),
                "the policy is attached to a waypoint's target: node proxies do not enforce it",
            );
            return;
        }
        if self.object.raw()["spec"].get("targetRefs").is_some() {
            self.add(
                "spec.targetRefs",
                "an empty list attaches the policy to nothing: it is enforced on every workload of the namespace, as if the \
                 list were left out",
            );
        }
        let http = policy.http_attributes();
        if !http.is_empty() {
            let effect = match policy.action {
                Action::Allow => "rules that name them allow nothing",
                Action::Audit | Action::Custom => "the action is not enforced at all",
                Action::Deny => {
                    "rules are enforced without them, and deny more than they say or, when nothing is \
                                 left, nothing"
                }
            };
            self.add(
                "spec.rules",
                format!(
                    "a node proxy cannot decide HTTP attributes (found: {}): {effect}; use a waypoint proxy to \
                     enforce HTTP rules",
                    http.join(", ")
                ),
            );
        }
    }
}
