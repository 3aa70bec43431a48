//! The kinds of objects, their API groups, and the names people type for them.

use std::fmt;
use std::str::FromStr;

/// A kind of object that this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` Pod.
    Pod,
    /// `apps/v1` Deployment.
    Deployment,
    /// `v1` Service.
    Service,
    /// `v1` Node.
    Node,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `security.istio.io/v1` PeerAuthentication.
    PeerAuthentication,
    /// `security.istio.io/v1` AuthorizationPolicy.
    AuthorizationPolicy,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io/v1` GatewayClass.
    GatewayClass,
    /// `networking.istio.io/v1` ServiceEntry.
    ServiceEntry,
    /// `networking.istio.io/v1` WorkloadEntry.
    WorkloadEntry,
    /// `networking.istio.io/v1` WorkloadGroup.
    WorkloadGroup,
    /// `v1` ConfigMap.
    ConfigMap,
}

impl Kind {
    /// Every kind, in the order in which a reader wants them: what others refer to comes first.
    pub const ALL: [Kind; 16] = [
        Kind::Namespace,
        Kind::Node,
        Kind::ServiceAccount,
        Kind::Service,
        Kind::Deployment,
        Kind::Pod,
        Kind::EndpointSlice,
        Kind::PeerAuthentication,
        Kind::AuthorizationPolicy,
        Kind::NetworkPolicy,
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::ServiceEntry,
        Kind::WorkloadEntry,
        Kind::WorkloadGroup,
        Kind::ConfigMap,
    ];

    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Pod => "Pod",
            Kind::Deployment => "Deployment",
            Kind::Service => "Service",
            Kind::Node => "Node",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::PeerAuthentication => "PeerAuthentication",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::Gateway => "Gateway",
            Kind::GatewayClass => "GatewayClass",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::WorkloadGroup => "WorkloadGroup",
            Kind::ConfigMap => "ConfigMap",
        }
    }

    /// The resource name in API paths.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Namespace => "namespaces",
            Kind::ServiceAccount => "serviceaccounts",
            Kind::Pod => "pods",
            Kind::Deployment => "deployments",
            Kind::Service => "services",
            Kind::Node => "nodes",
            Kind::EndpointSlice => "endpointslices",
            Kind::PeerAuthentication => "peerauthentications",
            Kind::AuthorizationPolicy => "authorizationpolicies",
            Kind::NetworkPolicy => "networkpolicies",
            Kind::Gateway => "gateways",
            Kind::GatewayClass => "gatewayclasses",
            Kind::ServiceEntry => "serviceentries",
            Kind::WorkloadEntry => "workloadentries",
            Kind::WorkloadGroup => "workloadgroups",
            Kind::ConfigMap => "configmaps",
        }
    }

    /// The short names of kubectl.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Kind::Namespace => &["ns"],
            Kind::ServiceAccount => &["sa"],
            Kind::Pod => &["po"],
            Kind::Deployment => &["deploy"],
            Kind::Service => &["svc"],
            Kind::Node => &["no"],
            Kind::EndpointSlice => &[],
            Kind::PeerAuthentication => &["pa"],
            Kind::AuthorizationPolicy => &["ap"],
            Kind::NetworkPolicy => &["netpol"],
            Kind::Gateway => &["gtw"],
            Kind::GatewayClass => &["gc"],
            Kind::ServiceEntry => &["se"],
            Kind::WorkloadEntry => &["we"],
            Kind::WorkloadGroup => &["wg"],
            Kind::ConfigMap => &["cm"],
        }
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::Pod
            | Kind::Service
            | Kind::Node
            | Kind::ConfigMap => "",
            Kind::Deployment => "apps",
            Kind::EndpointSlice => "discovery.k8s.io",
            Kind::PeerAuthentication | Kind::AuthorizationPolicy => "security.istio.io",
            Kind::NetworkPolicy => "networking.k8s.io",
            Kind::Gateway | Kind::GatewayClass => "gateway.networking.k8s.io",
            Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup => "networking.istio.io",
        }
    }

    /// The accepted values of `apiVersion`, the preferred one first.
    pub fn api_versions(self) -> &'static [&'static str] {
        match self {
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::Pod
            | Kind::Service
            | Kind::Node
            | Kind::ConfigMap => &["v1"],
            Kind::Deployment => &["apps/v1"],
            Kind::EndpointSlice => &["discovery.k8s.io/v1"],
            Kind::PeerAuthentication | Kind::AuthorizationPolicy => {
                &["security.istio.io/v1", "security.istio.io/v1beta1"]
            }
            Kind::NetworkPolicy => &["networking.k8s.io/v1"],
            Kind::Gateway | Kind::GatewayClass => &[
                "gateway.networking.k8s.io/v1",
                "gateway.networking.k8s.io/v1beta1",
            ],
            Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup => &[
                "networking.istio.io/v1",
                "networking.istio.io/v1beta1",
                "networking.istio.io/v1alpha3",
            ],
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node | Kind::GatewayClass)
    }

    /// The kind with exactly this spelling, as manifests demand it.
    pub(crate) fn from_manifest(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind {0:?}; known are {known}", known = known_kinds())]
pub struct UnknownKind(pub String);

/// Reads what kubectl accepts: kind, singular, plural or short name in any case, optionally followed by the
/// version and API group (`pods`, `po`, `Deployment.apps`, `deployments.v1.apps`).
impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Kind, UnknownKind> {
        let unknown = || UnknownKind(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let (word, qualifier) = match lower.split_once('.') {
            Some((word, qualifier)) => (word, Some(qualifier)),
            None => (lower.as_str(), None),
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| {
                word == kind.as_str().to_ascii_lowercase()
                    || word == kind.plural()
                    || kind.short_names().contains(&word)
            })
            .ok_or_else(unknown)?;
        match qualifier {
            None => Ok(kind),
            Some(qualifier) if qualifier == kind.group() => Ok(kind),
            Some(qualifier) => {
                let versions = kind
                    .api_versions()
                    .iter()
                    .map(|version| match version.split_once('/') {
                        Some((group, version)) => format!("{version}.{group}"),
                        None => format!("{version}."),
                    });
                let mut spelled =
                    versions.map(|version| version == qualifier || version == format!("{qualifier}."));
                if spelled.any(|same| same) {
                    Ok(kind)
                } else {
                    Err(unknown())
                }
            }
        }
    }
}

fn known_kinds() -> String {
    Kind::ALL.map(Kind::plural).join(", ")
}

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds that have none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key; the namespace is dropped for kinds that have none.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        ObjectKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether an API server can have an object of this key: what it names, it names as segments of a path (Kubernetes:
    /// "Object Names and IDs", path segment names), and a kind with namespaces is never without.
    pub fn can_exist(&self) -> bool {
        let is_segment = |text: &str| !matches!(text, "" | "." | "..") && !text.contains(['/', '%']);
        is_segment(&self.name) && (!self.kind.is_namespaced() || is_segment(&self.namespace))
    }
}

/// `Pod demo/web`, or `Node node-a` where there is no namespace.
impl fmt::Display for ObjectKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(out, "{} {}", self.kind, self.name)
        } else {
            write!(out, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
