use std::fmt;

use crate::{
    DATAPLANE_MODE_AMBIENT, DATAPLANE_MODE_LABEL, DATAPLANE_MODE_NONE, Object, SIDECAR_STATUS_ANNOTATION,
    Spec,
};

/// Namespaces whose pods are never enrolled.
pub const EXCLUDED_NAMESPACES: [&str; 1] = ["kube-system"];
/// The service account of the node proxies, as namespace and name: pods that run as it are never enrolled.
pub const NODE_PROXY_ACCOUNT: (&str, &str) = ("istio-system", "ztunnel");

/// Whether a pod is to be enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// Its traffic goes through the mesh.
    Enrolled,
    /// It does not.
    No(Reason),
}

/// Why a pod is not to be enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The object is no Pod.
    NotAPod,
    /// Neither the pod nor its namespace asks for it.
    NotLabelled,
    /// The pod's label opts out.
    OptedOut,
    /// It shares the node's network, which is not its own to capture.
    HostNetwork,
    /// It has a sidecar, which does the same job.
    Sidecar,
    /// Its namespace is excluded.
    ExcludedNamespace,
    /// It is a node proxy itself.
    NodeProxy,
    /// It has ended.
    Finished,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Reason::NotAPod => "it is no Pod",
            Reason::NotLabelled => "neither it nor its namespace is labelled istio.io/dataplane-mode=ambient",
            Reason::OptedOut => "its label istio.io/dataplane-mode=none opts out",
            Reason::HostNetwork => "it uses the node's own network",
            Reason::Sidecar => "it has a sidecar",
            Reason::ExcludedNamespace => "its namespace is excluded",
            Reason::NodeProxy => "it is a node proxy",
            Reason::Finished => "it has ended",
        })
    }
}

/// Whether a pod is to be enrolled, by its own label and that of its namespace. A namespace that is not there has no
/// label. A value that is neither `ambient` nor `none` counts as no label ([`crate::warnings`] tells the user).
pub fn wanted(pod: &Object, namespace: Option<&Object>) -> Enrolment {
    let Spec::Pod(content) = &pod.spec else {
        return Enrolment::No(Reason::NotAPod);
    };
    let own = pod.metadata.labels.get(DATAPLANE_MODE_LABEL).map(String::as_str);
    let inherited = namespace.and_then(|namespace| namespace.metadata.labels.get(DATAPLANE_MODE_LABEL));
    let name = pod.metadata.namespace.as_str();
    // The order gives the reason that a user can least do something about.
    let refused = if EXCLUDED_NAMESPACES.contains(&name) {
        Some(Reason::ExcludedNamespace)
    } else if (name, content.spec.service_account_name.as_str()) == NODE_PROXY_ACCOUNT {
        Some(Reason::NodeProxy)
    } else if content.spec.host_network {
        Some(Reason::HostNetwork)
    } else if pod.metadata.annotations.contains_key(SIDECAR_STATUS_ANNOTATION) {
        Some(Reason::Sidecar)
    } else if content.status.phase.is_terminal() {
        Some(Reason::Finished)
    } else if own == Some(DATAPLANE_MODE_NONE) {
        Some(Reason::OptedOut)
    } else if own == Some(DATAPLANE_MODE_AMBIENT)
        || inherited.is_some_and(|mode| mode == DATAPLANE_MODE_AMBIENT)
    {
        None
    } else {
        Some(Reason::NotLabelled)
    };
    refused.map_or(Enrolment::Enrolled, Enrolment::No)
}

#[cfg(test)]
mod tests;
