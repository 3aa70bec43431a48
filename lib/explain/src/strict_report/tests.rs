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
    let report = mesh.strict_report(None);
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
    assert!(mesh.strict_report(Some("outside")).breaking.is_empty());
    assert_eq!(mesh.strict_report(None), report, "trying leaves no trace");
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
    let report = mesh.strict_report(Some("shop"));
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
    let report = mesh.strict_report(None);
    assert!(
        report.breaking.is_empty() && report.stays_open.is_empty(),
        "{report}"
    );
}
