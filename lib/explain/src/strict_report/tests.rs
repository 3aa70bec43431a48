use super::{CANNOT_KNOW, StaysOpen};
use crate::testing::{SHOP, world};

const MORE: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: kube-system, name: dns, labels: {istio.io/dataplane-mode: ambient}}
spec: {containers: [{name: a}]}
status: {podIP: 10.9.0.2}
---
apiVersion: v1
kind: Pod
metadata: {namespace: istio-system, name: ztunnel-x}
spec: {serviceAccountName: ztunnel, containers: [{name: a}]}
status: {podIP: 10.9.0.3}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {selector: {app: web}, ports: [{name: a, port: 80, targetPort: http}, {name: b, port: 81, targetPort: 7070}]}
---
";

fn pods(report: &super::StrictReport) -> Vec<String> {
    let shown = |breaking: &super::Breaking| format!("{} {:?}", breaking.pod, breaking.callers);
    report.breaking.iter().map(shown).collect()
}

#[test]
fn whoever_is_let_in_now_and_not_then_is_named_with_the_ports() {
    let mut mesh = world(&format!("{SHOP}{MORE}"));
    let report = mesh.strict_report(None, false);
    assert_eq!(
        pods(&report),
        [
            r#"shop/client {"kube-system/dns": [], "outside/legacy": []}"#,
            r#"shop/web {"kube-system/dns": [7070, 8080, 9090], "outside/legacy": [7070, 8080, 9090]}"#,
        ]
    );
    assert_eq!(report.looked_at, 2);
    let callers: Vec<String> = report
        .callers
        .iter()
        .map(|caller| format!("{} {}", caller.pod, caller.why))
        .collect();
    assert_eq!(
        callers,
        [
            "kube-system/dns is not in the mesh: its namespace is excluded",
            "outside/legacy is not in the mesh: neither it nor its namespace is labelled istio.io/dataplane-mode=ambient",
        ]
    );
    assert!(mesh.strict_report(Some("outside"), false).breaking.is_empty());
    assert_eq!(mesh.strict_report(None, false), report, "trying leaves no trace");
    let text = report.to_string();
    assert!(
        text.starts_with("2 of 2 pods in the mesh would refuse under STRICT a caller that they let in now."),
        "{text}"
    );
    assert!(
        text.contains("shop/web would refuse kube-system/dns (ports 7070, 8080, 9090), outside/legacy ("),
        "{text}"
    );
    assert!(CANNOT_KNOW.iter().all(|sentence| text.contains(sentence)));
    assert_eq!(
        report.to_json()["breaking"][1]["callers"][0]["ports"],
        serde_json::json!([7070, 8080, 9090])
    );
}

#[test]
fn who_is_refused_already_loses_nothing_and_exceptions_stay_open() {
    let policies = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: shop, name: web}
spec:
  selector: {matchLabels: {app: web}}
  portLevelMtls: {9090: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: no-dns}
spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [10.9.0.2]}}]}]}
";
    let mut mesh = world(&format!("{SHOP}{MORE}{policies}"));
    let report = mesh.strict_report(Some("shop"), false);
    assert_eq!(
        pods(&report),
        [
            r#"shop/client {"outside/legacy": []}"#,
            r#"shop/web {"outside/legacy": [7070, 8080]}"#
        ]
    );
    let by = Some("shop/web".to_owned());
    assert_eq!(
        report.stays_open,
        [StaysOpen {
            pod: "shop/web".to_owned(),
            port: Some(9090),
            by
        }]
    );
    let strict = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: istio-system, name: default}
spec: {mtls: {mode: STRICT}}
";
    let mut mesh = world(&format!("{SHOP}{MORE}{strict}"));
    let report = mesh.strict_report(None, false);
    assert!(
        report.breaking.is_empty() && report.stays_open.is_empty(),
        "{report}"
    );
}

/// Lets `outside/legacy` in on the port named http, and nobody else in; and lets `kube-system/dns` out to nobody of shop.
const NETWORK_POLICIES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: nobody}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: legacy}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: outside}}}]
    ports: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: kube-system, name: out}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.2/32]}}]}]
---
";

#[test]
fn whom_network_policies_keep_away_loses_nothing_where_they_are_enforced() {
    let mut mesh = world(&format!("{SHOP}{MORE}{NETWORK_POLICIES}"));
    let report = mesh.strict_report(None, true);
    assert_eq!(
        pods(&report),
        [
            r#"shop/client {"outside/legacy": []}"#,
            r#"shop/web {"outside/legacy": [8080]}"#,
        ]
    );
    let kept: Vec<String> = report
        .kept_away
        .iter()
        .map(|kept| {
            format!(
                "{} {} {:?} {:?}",
                kept.pod, kept.caller, kept.ports, kept.policies
            )
        })
        .collect();
    assert_eq!(
        kept,
        [
            r#"shop/client kube-system/dns [] {"kube-system/out"}"#,
            r#"shop/web kube-system/dns [7070, 8080, 9090] {"shop/legacy", "shop/nobody"}"#,
            r#"shop/web outside/legacy [7070, 9090] {"shop/legacy", "shop/nobody"}"#,
        ]
    );
    // Where nobody enforces them, they are told and change nothing.
    let unenforced = mesh.strict_report(None, false);
    let mut plain = world(&format!("{SHOP}{MORE}"));
    assert_eq!(unenforced.breaking, plain.strict_report(None, false).breaking);
    assert_eq!(unenforced.kept_away, report.kept_away);
    let text = report.to_string();
    assert!(
        text.contains("outside/legacy from shop/web (ports 7070, 9090): shop/legacy, shop/nobody"),
        "{text}"
    );
    let json = report.to_json();
    assert_eq!(
        json["kept_away"][0]["policies"],
        serde_json::json!(["kube-system/out"])
    );
    assert_eq!(json["network_policies_enforced"], true);
}

#[test]
fn where_it_cannot_be_told_whom_a_network_policy_keeps_away_the_caller_counts() {
    // No address is known of the one caller, and the other is on its node's network.
    let callers = "
apiVersion: v1
kind: Pod
metadata: {namespace: outside, name: nowhere}
spec: {containers: [{name: a}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: outside, name: on-node}
spec: {hostNetwork: true, containers: [{name: a}]}
status: {podIP: 10.9.0.9}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: block}
spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.8.0.0/16}}]}]}
---
";
    let mut mesh = world(&format!("{SHOP}{callers}"));
    let report = mesh.strict_report(None, true);
    assert_eq!(
        pods(&report),
        [
            r#"shop/client {"outside/nowhere": [], "outside/on-node": []}"#,
            r#"shop/web {"outside/nowhere": [8080, 9090], "outside/on-node": [8080, 9090]}"#,
        ]
    );
}

/// An address that nobody wrote keeps nobody out: such a caller is let in now for all that is known.
#[test]
fn an_address_that_nobody_wrote_does_not_speak_against_a_caller() {
    let text = format!(
        "{SHOP}{}",
        POLICY.replace("SPEC", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}")
    );
    let without = text.replace("status: {podIP: 10.9.0.1}", "");
    let report = world(&without).strict_report(None, false);
    let breaks = [
        r#"shop/client {"outside/legacy": []}"#,
        r#"shop/web {"outside/legacy": [8080, 9090]}"#,
    ];
    assert_eq!(pods(&report), breaks);
    assert_eq!(report.unknown_addresses, ["outside/legacy".to_owned()].into());
    assert!(
        report
            .to_string()
            .contains("(give them status.podIP):\n  outside/legacy"),
        "{report}"
    );
    assert_eq!(
        report.to_json()["unknown_addresses"],
        serde_json::json!(["outside/legacy"])
    );
    // So it is with the address, and with one that is written and outside of the block nobody breaks.
    let report = world(&text).strict_report(None, false);
    assert_eq!(
        (pods(&report), report.unknown_addresses.len()),
        (breaks.map(str::to_owned).to_vec(), 0)
    );
    let far = text.replace("status: {podIP: 10.9.0.1}", "status: {podIP: 172.16.0.1}");
    assert!(pods(&world(&far).strict_report(None, false)).is_empty());
    // A DENY of the block for documentation, which no pod has.
    let deny = format!(
        "{SHOP}{}",
        POLICY.replace(
            "SPEC",
            "{action: DENY, rules: [{from: [{source: {ipBlocks: [192.0.2.0/24]}}]}]}"
        )
    );
    let deny = deny.replace("status: {podIP: 10.9.0.1}", "");
    assert_eq!(pods(&world(&deny).strict_report(None, false)), breaks);
}

/// Where the address makes no difference, the caller is refused now, and loses nothing.
#[test]
fn who_is_refused_at_any_address_loses_nothing() {
    let without = SHOP.replace("status: {podIP: 10.9.0.1}", "");
    for spec in [
        "{rules: [{from: [{source: {namespaces: [shop]}}]}]}",
        "{action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}",
    ] {
        let report = world(&format!("{without}{}", POLICY.replace("SPEC", spec))).strict_report(None, false);
        assert_eq!(
            (pods(&report), report.unknown_addresses.len()),
            (Vec::new(), 0),
            "{spec}"
        );
    }
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: shop, name: strict}\n\
                  spec: {mtls: {mode: STRICT}}\n";
    let both = format!(
        "{without}{}{strict}",
        POLICY.replace("SPEC", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}")
    );
    assert!(pods(&world(&both).strict_report(None, false)).is_empty());
}

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: p}
spec: SPEC
";
