//! For each code a manifest that has it, and the same once the fix was done.

use super::{codes, in_mesh, listed};
use crate::{Code, Settings};

pub(super) struct Case {
    pub(super) code: Code,
    pub(super) bad: &'static str,
    pub(super) good: &'static str,
}

const fn case(code: Code, bad: &'static str, good: &'static str) -> Case {
    Case { code, bad, good }
}

/// An AuthorizationPolicy of namespace shop.
macro_rules! policy {
    ($name:literal, $spec:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: ",
            $name,
            "}\nspec: ",
            $spec,
            "\n"
        )
    };
}

/// A PeerAuthentication.
macro_rules! peers {
    ($metadata:literal, $spec:literal) => {
        concat!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {",
            $metadata,
            "}\nspec: ",
            $spec,
            "\n"
        )
    };
}

/// A NetworkPolicy of namespace shop.
macro_rules! network {
    ($name:literal, $spec:literal) => {
        concat!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop, name: ",
            $name,
            "}\nspec: ",
            $spec,
            "\n"
        )
    };
}

/// A pod outside of the mesh.
const OUTSIDE: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: legacy}\n---\napiVersion: v1\nkind: Pod\n\
                       metadata: {name: batch, namespace: legacy}\nspec: {containers: [{name: a}]}\n";

pub(super) const CASES: &[Case] = &[
    case(
        Code::Invalid,
        policy!(
            "invalid",
            "{selector: {matchLabels: {app: web}}, rules: [{to: [{operation: {ports: [\"http\"]}}]}]}"
        ),
        policy!(
            "invalid",
            "{selector: {matchLabels: {app: web}}, rules: [{to: [{operation: {ports: [\"80\"]}}]}]}"
        ),
    ),
    case(
        Code::DefinedTwice,
        concat!(
            policy!("twice", "{selector: {matchLabels: {app: web}}}"),
            "---\n",
            policy!("twice", "{selector: {matchLabels: {app: web}}}")
        ),
        policy!("twice", "{selector: {matchLabels: {app: web}}}"),
    ),
    case(
        Code::SpiffePrefix,
        policy!(
            "spiffe",
            "{rules: [{from: [{source: {principals: [\"spiffe://cluster.local/ns/shop/sa/web\"]}}]}]}"
        ),
        policy!(
            "spiffe",
            "{rules: [{from: [{source: {principals: [\"cluster.local/ns/shop/sa/web\"]}}]}]}"
        ),
    ),
    case(
        Code::DenyWithoutEffect,
        policy!(
            "dead-deny",
            "{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}"
        ),
        policy!(
            "dead-deny",
            "{action: DENY, rules: [{to: [{operation: {ports: [\"8080\"]}}]}]}"
        ),
    ),
    case(
        Code::TargetWithoutWaypoint,
        concat!(
            policy!("attached", "{targetRefs: [{kind: Service, name: backend}]}"),
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: backend, namespace: shop}\nspec: {ports: [{port: 80}]}\n"
        ),
        concat!(
            policy!("attached", "{targetRefs: [{kind: Service, name: backend}]}"),
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: backend, namespace: shop, labels: \
             {istio.io/use-waypoint: gate}}\nspec: {ports: [{port: 80}]}\n"
        ),
    ),
    case(
        Code::WaypointNotFound,
        "apiVersion: v1\nkind: Service\nmetadata: {name: labelled, namespace: shop, labels: {istio.io/use-waypoint: \
         gate}}\nspec: {ports: [{port: 80}]}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: labelled, namespace: shop, labels: {istio.io/use-waypoint: \
         gate}}\nspec: {ports: [{port: 80}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: \
         {name: gate, namespace: shop}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, \
         protocol: HBONE}]}\n",
    ),
    case(
        Code::WaypointNotUsable,
        "apiVersion: v1\nkind: Service\nmetadata: {name: labelled, namespace: shop, labels: {istio.io/use-waypoint: \
         gate}}\nspec: {ports: [{port: 80}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: \
         {name: gate, namespace: shop, labels: {istio.io/waypoint-for: workload}}\nspec: {gatewayClassName: \
         istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: labelled, namespace: shop, labels: {istio.io/use-waypoint: \
         gate}}\nspec: {ports: [{port: 80}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: \
         {name: gate, namespace: shop, labels: {istio.io/waypoint-for: all}}\nspec: {gatewayClassName: \
         istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n",
    ),
    case(
        Code::HboneBlocked,
        network!(
            "blocked",
            "{podSelector: {matchLabels: {app: backend}}, ingress: [{ports: [{port: 8080}]}]}"
        ),
        network!(
            "blocked",
            "{podSelector: {matchLabels: {app: backend}}, ingress: [{ports: [{port: 8080}, {port: 15008}]}]}"
        ),
    ),
    case(
        Code::DnsEgressMissing,
        network!(
            "mute",
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 15008}]}]}"
        ),
        network!(
            "mute",
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 15008}]}, {to: [{namespaceSelector: \
             {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], ports: [{port: 53, protocol: UDP}, {port: \
             53}]}]}"
        ),
    ),
    case(
        Code::ForeignPolicy,
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c, namespace: shop}\nspec: \
         {endpointSelector: {matchLabels: {app: backend}}, ingress: [{fromEndpoints: [{}]}]}\n",
        policy!(
            "c",
            "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: [\"*\"]}}]}]}"
        ),
    ),
    case(
        Code::HttpWithoutWaypoint,
        policy!(
            "http",
            "{rules: [{to: [{operation: {paths: [\"/api/*\"], ports: [\"8080\"]}}]}]}"
        ),
        policy!("http", "{rules: [{to: [{operation: {ports: [\"8080\"]}}]}]}"),
    ),
    case(
        Code::TargetNotFound,
        policy!("lost", "{targetRefs: [{kind: Service, name: nowhere}]}"),
        concat!(
            policy!("lost", "{targetRefs: [{kind: Service, name: nowhere}]}"),
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: nowhere, namespace: shop}\nspec: {ports: [{port: 80}]}\n"
        ),
    ),
    case(
        Code::SelectsNothing,
        policy!("nobody", "{selector: {matchLabels: {app: bakcend}}}"),
        policy!("nobody", "{selector: {matchLabels: {app: backend}}, rules: [{}]}"),
    ),
    case(
        Code::NotInMesh,
        concat!(
            policy!("outside", "{selector: {matchLabels: {app: old}}}"),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: old, namespace: shop, labels: {app: old, \
             istio.io/dataplane-mode: none}}\nspec: {containers: [{name: a}]}\n"
        ),
        concat!(
            policy!("outside", "{selector: {matchLabels: {app: old}}}"),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: old, namespace: shop, labels: {app: old, \
             istio.io/dataplane-mode: ambient}}\nspec: {containers: [{name: a}]}\n"
        ),
    ),
    case(
        Code::NeverMatches,
        policy!(
            "never",
            "{rules: [{from: [{source: {principals: [\"cluster.local/ns/shop/sa/web\"], namespaces: [monitoring]}}]}]}"
        ),
        policy!(
            "never",
            "{rules: [{from: [{source: {principals: [\"cluster.local/ns/shop/sa/web\"]}}, {source: {namespaces: \
             [monitoring]}}]}]}"
        ),
    ),
    case(
        Code::MalformedPrincipal,
        policy!(
            "malformed",
            "{rules: [{from: [{source: {principals: [shop/web]}}]}]}"
        ),
        policy!(
            "malformed",
            "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}"
        ),
    ),
    case(
        Code::WrongTrustDomain,
        policy!(
            "domain",
            "{rules: [{from: [{source: {principals: [example.org/ns/shop/sa/web]}}]}]}"
        ),
        policy!(
            "domain",
            "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}"
        ),
    ),
    case(
        Code::RepeatedRule,
        policy!(
            "repeated",
            "{rules: [{to: [{operation: {ports: [\"8080\", \"9090\"]}}]}, {to: [{operation: {ports: [\"9090\"]}}]}]}"
        ),
        policy!(
            "repeated",
            "{rules: [{to: [{operation: {ports: [\"8080\", \"9090\"]}}]}]}"
        ),
    ),
    case(
        Code::CoveredByAllowAll,
        concat!(
            policy!("open", "{rules: [{}]}"),
            "---\n",
            policy!(
                "narrow",
                "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}"
            )
        ),
        policy!(
            "narrow",
            "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}"
        ),
    ),
    case(
        Code::ShadowedByDeny,
        concat!(
            policy!(
                "deny-shop",
                "{action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}"
            ),
            "---\n",
            policy!(
                "allow-web",
                "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: \
                 [cluster.local/ns/shop/sa/web]}}]}]}"
            )
        ),
        concat!(
            policy!(
                "deny-shop",
                "{action: DENY, rules: [{from: [{source: {namespaces: [shop], notPrincipals: \
                 [cluster.local/ns/shop/sa/web]}}]}]}"
            ),
            "---\n",
            policy!(
                "allow-web",
                "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: \
                 [cluster.local/ns/shop/sa/web]}}]}]}"
            )
        ),
    ),
    case(
        Code::AdmitsPlaintext,
        policy!(
            "not-them",
            "{rules: [{from: [{source: {notNamespaces: [monitoring]}}]}]}"
        ),
        policy!(
            "not-them",
            "{rules: [{from: [{source: {notNamespaces: [monitoring], principals: [\"*\"]}}]}]}"
        ),
    ),
    case(
        Code::LocksOutDns,
        concat!(
            policy!(
                "dns-for-web",
                "{selector: {matchLabels: {app: dns}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}"
            ),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: dns, namespace: shop, labels: {app: dns}}\nspec: \
             {containers: [{name: a, ports: [{containerPort: 53}, {containerPort: 53, protocol: UDP}]}]}\n"
        ),
        concat!(
            policy!(
                "dns-for-all",
                "{selector: {matchLabels: {app: dns}}, rules: [{to: [{operation: {ports: [\"53\"]}}]}]}"
            ),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: dns, namespace: shop, labels: {app: dns}}\nspec: \
             {containers: [{name: a, ports: [{containerPort: 53}, {containerPort: 53, protocol: UDP}]}]}\n"
        ),
    ),
    case(
        Code::LocksOutProbes,
        concat!(
            peers!(
                "name: probed, namespace: shop",
                "{selector: {matchLabels: {app: probed}}, mtls: {mode: STRICT}}"
            ),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: probed, namespace: shop, labels: {app: probed}}\nspec: \
             {containers: [{name: a, livenessProbe: {httpGet: {path: /, port: health}}, ports: [{name: health, \
             containerPort: 8081}]}]}\n"
        ),
        concat!(
            peers!(
                "name: probed, namespace: shop",
                "{selector: {matchLabels: {app: probed}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: PERMISSIVE}}}"
            ),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: probed, namespace: shop, labels: {app: probed}}\nspec: \
             {containers: [{name: a, livenessProbe: {httpGet: {path: /, port: health}}, ports: [{name: health, \
             containerPort: 8081}]}]}\n"
        ),
    ),
    case(
        Code::LocksOutMonitoring,
        policy!(
            "web-only",
            "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: \
             [cluster.local/ns/shop/sa/web]}}]}]}"
        ),
        policy!(
            "web-only",
            "{selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: \
             [cluster.local/ns/shop/sa/web]}}]}, {from: [{source: {principals: \
             [cluster.local/ns/monitoring/sa/prometheus]}}], to: [{operation: {ports: [\"9090\"]}}]}]}"
        ),
    ),
    case(
        Code::PlaintextCallers,
        concat!(
            peers!("name: strict, namespace: shop", "{mtls: {mode: STRICT}}"),
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: jobs}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: \
             nightly, namespace: jobs}\nspec: {containers: [{name: a}]}\n"
        ),
        concat!(
            peers!("name: strict, namespace: shop", "{mtls: {mode: STRICT}}"),
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: jobs, labels: {istio.io/dataplane-mode: \
             ambient}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: nightly, namespace: jobs}\nspec: {containers: \
             [{name: a}]}\n"
        ),
    ),
    case(
        Code::DisableIsPermissive,
        peers!("name: disabled, namespace: shop", "{mtls: {mode: DISABLE}}"),
        peers!("name: disabled, namespace: shop", "{mtls: {mode: PERMISSIVE}}"),
    ),
    case(
        Code::OlderPolicyDecides,
        concat!(
            peers!("name: first, namespace: shop", "{mtls: {mode: STRICT}}"),
            "---\n",
            peers!("name: second, namespace: shop", "{mtls: {mode: PERMISSIVE}}")
        ),
        peers!("name: second, namespace: shop", "{mtls: {mode: PERMISSIVE}}"),
    ),
    case(
        Code::SelectorInRootNamespace,
        peers!(
            "name: root, namespace: istio-system",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"
        ),
        peers!(
            "name: root, namespace: shop",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"
        ),
    ),
    case(
        Code::UnknownDataplaneMode,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: typo, labels: {istio.io/dataplane-mode: ambiant}}\n",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: typo, labels: {istio.io/dataplane-mode: ambient}}\n",
    ),
    case(
        Code::HostNetworkNotEnrolled,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: shop, labels: {istio.io/dataplane-mode: \
         ambient}}\nspec: {hostNetwork: true, containers: [{name: a}]}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: shop, labels: {istio.io/dataplane-mode: \
         ambient}}\nspec: {containers: [{name: a}]}\n",
    ),
    case(
        Code::ApplicationPortAssumed,
        network!(
            "web-to-backend",
            "{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], \
             ports: [{port: 8080}]}]}"
        ),
        network!(
            "web-to-backend",
            "{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], \
             ports: [{port: 15008}]}]}"
        ),
    ),
    case(
        Code::NetworkPolicyNotEnforced,
        network!("nobody-cares", "{podSelector: {}, ingress: [{}]}"),
        concat!(
            network!("nobody-cares", "{podSelector: {}, ingress: [{}]}"),
            "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: calico-node, namespace: kube-system}\nspec: \
             {template: {metadata: {labels: {k8s-app: calico-node}}, spec: {hostNetwork: true, containers: [{name: \
             a}]}}}\n"
        ),
    ),
    case(
        Code::KindNotRead,
        "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: shop}\n",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: c, namespace: shop}\n",
    ),
    case(
        Code::EnforcedByWaypoint,
        concat!(
            policy!(
                "at-gate",
                "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}]}"
            ),
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: \
             shop}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n"
        ),
        policy!("at-gate", "{selector: {matchLabels: {app: backend}}}"),
    ),
    case(
        Code::SelectorNotChecked,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: far, namespace: far}\nspec: \
         {selector: {matchLabels: {app: web}}}\n",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: far, namespace: far}\nspec: \
         {selector: {matchLabels: {app: web}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: far, \
         labels: {app: web}}\nspec: {containers: [{name: a}]}\n",
    ),
    case(
        Code::UnknownIdentity,
        policy!(
            "stranger",
            "{rules: [{from: [{source: {serviceAccounts: [shop/wbe]}}]}]}"
        ),
        policy!(
            "stranger",
            "{rules: [{from: [{source: {serviceAccounts: [shop/web]}}]}]}"
        ),
    ),
    case(
        Code::EmptySelector,
        policy!(
            "empty",
            "{selector: {}, rules: [{to: [{operation: {ports: [\"1\"]}}]}]}"
        ),
        policy!("empty", "{rules: [{to: [{operation: {ports: [\"1\"]}}]}]}"),
    ),
    case(
        Code::DryRun,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: dry, namespace: shop, annotations: \
         {istio.io/dry-run: \"true\"}}\nspec: {selector: {matchLabels: {app: web}}}\n",
        policy!("dry", "{selector: {matchLabels: {app: web}}}"),
    ),
    case(
        Code::DefaultDeny,
        network!("nothing", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        network!(
            "nothing",
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 15008}]}]}"
        ),
    ),
    case(
        Code::DnsOverTcpBlocked,
        network!(
            "short",
            "{podSelector: {}, egress: [{ports: [{port: 15008}, {port: 53, protocol: UDP}]}]}"
        ),
        network!(
            "short",
            "{podSelector: {}, egress: [{ports: [{port: 15008}, {port: 53, protocol: UDP}, {port: 53}]}]}"
        ),
    ),
];

#[test]
fn every_rule_fires_and_is_silent_once_it_was_heeded() {
    for case in CASES {
        let bad = in_mesh(case.bad, &Settings::default());
        assert!(
            codes(&bad).contains(&case.code),
            "{:?}\n{}\n{}",
            case.code,
            case.bad,
            listed(&bad)
        );
        let good = in_mesh(case.good, &Settings::default());
        assert!(
            !codes(&good).contains(&Code::Invalid),
            "{}\n{}",
            case.good,
            listed(&good)
        );
        assert!(
            !codes(&good).contains(&case.code),
            "{:?}\n{}\n{}",
            case.code,
            case.good,
            listed(&good)
        );
    }
}

#[test]
fn every_code_has_a_case() {
    let missing: Vec<Code> = Code::ALL
        .into_iter()
        .filter(|code| !CASES.iter().any(|case| case.code == *code))
        .collect();
    // Held by their own tests: no manifest that is applied has the one, and that of the other is too long to write down.
    assert_eq!(missing, [Code::Unreadable, Code::TooManyRules]);
}

#[test]
fn flags_answer_what_manifests_do_not_show() {
    let enforced = Settings {
        network_policy_enforced: true,
        ..Settings::default()
    };
    let of = |code| CASES.iter().find(|case| case.code == code).expect("a case").bad;
    assert!(
        !codes(&in_mesh(of(Code::NetworkPolicyNotEnforced), &enforced))
            .contains(&Code::NetworkPolicyNotEnforced)
    );
    let exempt = Settings {
        probes_exempt: true,
        ..Settings::default()
    };
    assert!(!codes(&in_mesh(of(Code::LocksOutProbes), &exempt)).contains(&Code::LocksOutProbes));
    let aliased = Settings {
        trust_domains: vec!["cluster.local".to_owned(), "example.org".to_owned()],
        ..Settings::default()
    };
    assert!(!codes(&in_mesh(of(Code::WrongTrustDomain), &aliased)).contains(&Code::WrongTrustDomain));
}

#[test]
fn who_is_outside_counts_for_strict_only_where_it_holds() {
    let of = |code| CASES.iter().find(|case| case.code == code).expect("a case").bad;
    let permissive = concat!(
        peers!("name: strict, namespace: shop", "{mtls: {mode: PERMISSIVE}}"),
        "---\n",
        peers!("name: strict, namespace: istio-system", "{mtls: {mode: STRICT}}")
    );
    // The mesh's STRICT still holds in the other namespace.
    let found = in_mesh(&format!("{permissive}{OUTSIDE}"), &Settings::default());
    let strict: Vec<&str> = found
        .iter()
        .filter(|finding| finding.code == Code::PlaintextCallers)
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(strict, ["PeerAuthentication istio-system/strict"]);
    let found = in_mesh(of(Code::PlaintextCallers), &Settings::default());
    let finding = found
        .iter()
        .find(|finding| finding.code == Code::PlaintextCallers)
        .expect("found");
    assert!(
        finding
            .why
            .contains("Pod jobs/nightly (neither it nor its namespace is labelled"),
        "{finding}"
    );
}

/// STRICT with an exception for a port takes plaintext there.
#[test]
fn a_permissive_port_admits_plaintext() {
    let text = |port: &str, rest: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: strict, namespace: shop}}\nspec: \
             {{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: {port}}}}}}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: \
             {{selector: {{matchLabels: {{app: web}}}}, rules: [{{from: [{{source: {{notNamespaces: [monitoring]}}}}]{rest}}}]}}\n"
        )
    };
    let admits = |text: &str| {
        let found = in_mesh(text, &Settings::default());
        let mut told = found
            .iter()
            .filter(|finding| finding.code == Code::AdmitsPlaintext);
        told.next().map(|finding| finding.why.clone())
    };
    let why = admits(&text("PERMISSIVE", "")).unwrap_or_default();
    assert!(
        why.contains("on what PeerAuthentications leave open, port 80"),
        "{why}"
    );
    assert_eq!(admits(&text("STRICT", "")), None);
    assert_eq!(
        admits(&text("PERMISSIVE", ", to: [{operation: {ports: [\"81\"]}}]")),
        None
    );
}
