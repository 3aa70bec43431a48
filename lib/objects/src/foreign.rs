//! Policies of other systems: kinds that nothing here reads, though their authors count on them.

/// A kind of another system that decides who may talk to whom, or how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignPolicy {
    /// Who enforces it, and when.
    pub enforced_by: &'static str,
    /// What to write so that it holds in the mesh.
    pub instead: &'static str,
}

/// What a document of a kind that is not read would have meant, if it is known as a policy.
pub fn foreign_policy(api_version: &str, kind: &str) -> Option<ForeignPolicy> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let whole_group = |known: &&(&str, &[&str], ForeignPolicy)| {
        known.0 == group && (known.1.is_empty() || known.1.contains(&kind))
    };
    KNOWN.iter().find(whole_group).map(|(_, _, policy)| *policy)
}

const LAYER_4: &str =
    "write callers and ports into an AuthorizationPolicy (source.principals, operation.ports)";
const LAYER_7: &str = "who may connect goes into an AuthorizationPolicy; what concerns HTTP needs a waypoint, which reads \
                       this kind";

/// API group, kinds (none: every kind of the group), and what they are.
const KNOWN: [(&str, &[&str], ForeignPolicy); 9] = [
    (
        "cilium.io",
        &[
            "CiliumNetworkPolicy",
            "CiliumClusterwideNetworkPolicy",
            "CiliumCIDRGroup",
            "CiliumLocalRedirectPolicy",
        ],
        ForeignPolicy {
            enforced_by: "only Cilium enforces it, where it is the cluster's network plugin, and between mesh pods it \
                          sees encrypted tunnels to port 15008: neither its ports nor its HTTP rules match there",
            instead: "write callers and ports into an AuthorizationPolicy (source.principals, operation.ports); its \
                      HTTP rules need a waypoint",
        },
    ),
    (
        "crd.projectcalico.org",
        &[
            "NetworkPolicy",
            "GlobalNetworkPolicy",
            "StagedNetworkPolicy",
            "StagedGlobalNetworkPolicy",
        ],
        CALICO,
    ),
    (
        "projectcalico.org",
        &[
            "NetworkPolicy",
            "GlobalNetworkPolicy",
            "StagedNetworkPolicy",
            "StagedGlobalNetworkPolicy",
        ],
        CALICO,
    ),
    (
        "policy.networking.k8s.io",
        &[],
        ForeignPolicy {
            enforced_by: "only a network plugin that knows this kind enforces it, and between mesh pods it sees \
                          tunnels to port 15008",
            instead: "write callers and ports into an AuthorizationPolicy in the root namespace",
        },
    ),
    (
        "policy.linkerd.io",
        &[],
        ForeignPolicy {
            enforced_by: "only Linkerd's proxies enforce it",
            instead: LAYER_4,
        },
    ),
    (
        "crd.antrea.io",
        &[],
        ForeignPolicy {
            enforced_by: "only Antrea enforces it, where it is the cluster's network plugin",
            instead: LAYER_4,
        },
    ),
    (
        "security.istio.io",
        &["RequestAuthentication"],
        ForeignPolicy {
            enforced_by: "only a waypoint can check tokens of requests; node proxies do not",
            instead: "attach it to a waypoint by targetRefs",
        },
    ),
    (
        "networking.istio.io",
        &[
            "VirtualService",
            "DestinationRule",
            "Sidecar",
            "EnvoyFilter",
            "Gateway",
        ],
        ForeignPolicy {
            enforced_by: "only waypoints, sidecars and gateways read it; node proxies do not",
            instead: LAYER_7,
        },
    ),
    (
        "gateway.networking.k8s.io",
        &["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"],
        ForeignPolicy {
            enforced_by: "only waypoints and gateways read it; node proxies do not",
            instead: LAYER_7,
        },
    ),
];

const CALICO: ForeignPolicy = ForeignPolicy {
    enforced_by: "only Calico enforces it, where it is the cluster's network plugin, and between mesh pods it sees \
                  tunnels to port 15008",
    instead: LAYER_4,
};
