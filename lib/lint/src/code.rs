//! The codes of findings. They do not change between releases.

use serde::Serialize;

/// How bad a finding is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is broken, or it is open where its author means it to be closed.
    Error,
    /// It probably does not do what its author means.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// What a finding is about. `docs/lint.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A document that is refused when it is applied.
    Invalid,
    /// The same object in two files.
    DefinedTwice,
    /// A stored policy of which something cannot be read, or whose action nobody enforces.
    Unreadable,
    /// A principal written with `spiffe://`.
    SpiffePrefix,
    /// A DENY policy of which no rule can match.
    DenyWithoutEffect,
    /// A policy attached to a Service that no waypoint stands in front of.
    TargetWithoutWaypoint,
    /// A waypoint that is named and is not there.
    WaypointNotFound,
    /// A waypoint that is named and there, and cannot be used by who names it.
    WaypointNotUsable,
    /// NetworkPolicies that let no tunnel (TCP 15008) through to or from mesh pods.
    HboneBlocked,
    /// NetworkPolicies that let no question of DNS out.
    DnsEgressMissing,
    /// A policy of another system.
    ForeignPolicy,
    /// HTTP attributes that a node proxy cannot decide.
    HttpWithoutWaypoint,
    /// A policy attached to something that is not in the manifests.
    TargetNotFound,
    /// A selector that matches no workload.
    SelectsNothing,
    /// Selected workloads outside of the mesh, where nothing enforces the policy.
    NotInMesh,
    /// A rule that contradicts itself.
    NeverMatches,
    /// A principal that is no identity's.
    MalformedPrincipal,
    /// A principal of a trust domain that is not the mesh's.
    WrongTrustDomain,
    /// A rule that another of the same action covers.
    RepeatedRule,
    /// An ALLOW rule beside one that allows everything.
    CoveredByAllowAll,
    /// An ALLOW rule that a DENY rule covers.
    ShadowedByDeny,
    /// An ALLOW rule that says who may not, and so lets in whoever has no identity.
    AdmitsPlaintext,
    /// A policy that refuses questions to DNS servers in the mesh.
    LocksOutDns,
    /// A policy that refuses the kubelet's probes.
    LocksOutProbes,
    /// A policy that refuses those who scrape metrics.
    LocksOutMonitoring,
    /// STRICT while there are callers that cannot speak mTLS.
    PlaintextCallers,
    /// The mode DISABLE, which does not turn mTLS off.
    DisableIsPermissive,
    /// A PeerAuthentication that an older one of the same scope overrides.
    OlderPolicyDecides,
    /// A PeerAuthentication with a selector in the root namespace, which has no effect.
    SelectorInRootNamespace,
    /// A value of `istio.io/dataplane-mode` that is not known.
    UnknownDataplaneMode,
    /// A pod in the node's network whose label asks for the mesh.
    HostNetworkNotEnrolled,
    /// A NetworkPolicy that names application ports between mesh pods.
    ApplicationPortAssumed,
    /// A NetworkPolicy in a cluster where nothing enforces it.
    NetworkPolicyNotEnforced,
    /// A document of a kind that is not read.
    KindNotRead,
    /// A policy that a waypoint enforces, and node proxies do not.
    EnforcedByWaypoint,
    /// A selector in a namespace of which the manifests hold no workload.
    SelectorNotChecked,
    /// A namespace or service account that the manifests do not hold.
    UnknownIdentity,
    /// `selector: {}`.
    EmptySelector,
    /// A policy that is tried and not enforced.
    DryRun,
    /// A NetworkPolicy that lets nothing through in a direction.
    DefaultDeny,
    /// NetworkPolicies that let DNS out over UDP alone.
    DnsOverTcpBlocked,
    /// More rules than are compared with each other.
    TooManyRules,
}

impl Code {
    /// Every code, the worst first.
    pub const ALL: [Code; 42] = [
        Code::Invalid,
        Code::DefinedTwice,
        Code::Unreadable,
        Code::SpiffePrefix,
        Code::DenyWithoutEffect,
        Code::TargetWithoutWaypoint,
        Code::WaypointNotFound,
        Code::WaypointNotUsable,
        Code::HboneBlocked,
        Code::DnsEgressMissing,
        Code::ForeignPolicy,
        Code::HttpWithoutWaypoint,
        Code::TargetNotFound,
        Code::SelectsNothing,
        Code::NotInMesh,
        Code::NeverMatches,
        Code::MalformedPrincipal,
        Code::WrongTrustDomain,
        Code::RepeatedRule,
        Code::CoveredByAllowAll,
        Code::ShadowedByDeny,
        Code::AdmitsPlaintext,
        Code::LocksOutDns,
        Code::LocksOutProbes,
        Code::LocksOutMonitoring,
        Code::PlaintextCallers,
        Code::DisableIsPermissive,
        Code::OlderPolicyDecides,
        Code::SelectorInRootNamespace,
        Code::UnknownDataplaneMode,
        Code::HostNetworkNotEnrolled,
        Code::ApplicationPortAssumed,
        Code::NetworkPolicyNotEnforced,
        Code::KindNotRead,
        Code::EnforcedByWaypoint,
        Code::SelectorNotChecked,
        Code::UnknownIdentity,
        Code::EmptySelector,
        Code::DryRun,
        Code::DefaultDeny,
        Code::DnsOverTcpBlocked,
        Code::TooManyRules,
    ];

    /// The code as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Invalid => "invalid",
            Code::DefinedTwice => "defined-twice",
            Code::Unreadable => "unreadable",
            Code::SpiffePrefix => "spiffe-prefix",
            Code::DenyWithoutEffect => "deny-without-effect",
            Code::TargetWithoutWaypoint => "target-without-waypoint",
            Code::WaypointNotFound => "waypoint-not-found",
            Code::WaypointNotUsable => "waypoint-not-usable",
            Code::HboneBlocked => "hbone-blocked",
            Code::DnsEgressMissing => "dns-egress-missing",
            Code::ForeignPolicy => "foreign-policy",
            Code::HttpWithoutWaypoint => "http-without-waypoint",
            Code::TargetNotFound => "target-not-found",
            Code::SelectsNothing => "selects-nothing",
            Code::NotInMesh => "not-in-mesh",
            Code::NeverMatches => "never-matches",
            Code::MalformedPrincipal => "malformed-principal",
            Code::WrongTrustDomain => "wrong-trust-domain",
            Code::RepeatedRule => "repeated-rule",
            Code::CoveredByAllowAll => "covered-by-allow-all",
            Code::ShadowedByDeny => "shadowed-by-deny",
            Code::AdmitsPlaintext => "admits-plaintext",
            Code::LocksOutDns => "locks-out-dns",
            Code::LocksOutProbes => "locks-out-probes",
            Code::LocksOutMonitoring => "locks-out-monitoring",
            Code::PlaintextCallers => "plaintext-callers",
            Code::DisableIsPermissive => "disable-is-permissive",
            Code::OlderPolicyDecides => "older-policy-decides",
            Code::SelectorInRootNamespace => "selector-in-root-namespace",
            Code::UnknownDataplaneMode => "unknown-dataplane-mode",
            Code::HostNetworkNotEnrolled => "host-network-not-enrolled",
            Code::ApplicationPortAssumed => "application-port-assumed",
            Code::NetworkPolicyNotEnforced => "network-policy-not-enforced",
            Code::KindNotRead => "kind-not-read",
            Code::EnforcedByWaypoint => "enforced-by-waypoint",
            Code::SelectorNotChecked => "selector-not-checked",
            Code::UnknownIdentity => "unknown-identity",
            Code::EmptySelector => "empty-selector",
            Code::DryRun => "dry-run",
            Code::DefaultDeny => "default-deny",
            Code::DnsOverTcpBlocked => "dns-over-tcp-blocked",
            Code::TooManyRules => "too-many-rules",
        }
    }

    /// How bad it is where the manifests show that it is so.
    pub fn severity(self) -> Severity {
        match self {
            Code::Invalid
            | Code::DefinedTwice
            | Code::Unreadable
            | Code::SpiffePrefix
            | Code::DenyWithoutEffect
            | Code::TargetWithoutWaypoint
            | Code::WaypointNotFound
            | Code::WaypointNotUsable
            | Code::HboneBlocked
            | Code::DnsEgressMissing => Severity::Error,
            Code::ForeignPolicy
            | Code::HttpWithoutWaypoint
            | Code::TargetNotFound
            | Code::SelectsNothing
            | Code::NotInMesh
            | Code::NeverMatches
            | Code::MalformedPrincipal
            | Code::WrongTrustDomain
            | Code::RepeatedRule
            | Code::CoveredByAllowAll
            | Code::ShadowedByDeny
            | Code::AdmitsPlaintext
            | Code::LocksOutDns
            | Code::LocksOutProbes
            | Code::LocksOutMonitoring
            | Code::PlaintextCallers
            | Code::DisableIsPermissive
            | Code::OlderPolicyDecides
            | Code::SelectorInRootNamespace
            | Code::UnknownDataplaneMode
            | Code::HostNetworkNotEnrolled
            | Code::ApplicationPortAssumed
            | Code::NetworkPolicyNotEnforced => Severity::Warning,
            Code::KindNotRead
            | Code::EnforcedByWaypoint
            | Code::SelectorNotChecked
            | Code::UnknownIdentity
            | Code::EmptySelector
            | Code::DryRun
            | Code::DefaultDeny
            | Code::DnsOverTcpBlocked
            | Code::TooManyRules => Severity::Info,
        }
    }
}
