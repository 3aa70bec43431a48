//! NetworkPolicies together: what passes is what any of them lets through.

use super::{codes, in_mesh, input, listed};
use crate::{Code, Settings, Severity, lint};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
         {spec}\n"
    )
}

const DENY_ALL: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
const TUNNELS: &str = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: 15008}]}], egress: \
                       [{ports: [{port: 15008}, {port: 53, protocol: UDP}, {port: 53}]}]}";

#[test]
fn policies_add_up() {
    let settings = Settings {
        network_policy_enforced: true,
        ..Settings::default()
    };
    let alone = codes(&in_mesh(&policy("deny", DENY_ALL), &settings));
    assert!(alone.contains(&Code::HboneBlocked) && alone.contains(&Code::DnsEgressMissing));
    assert!(alone.contains(&Code::LocksOutMonitoring));
    let both = in_mesh(
        &(policy("deny", DENY_ALL) + &policy("tunnels", TUNNELS)),
        &settings,
    );
    let left: Vec<Code> = both.iter().map(|finding| finding.code).collect();
    assert_eq!(left, [Code::DefaultDeny], "{}", listed(&both));
}

#[test]
fn a_port_rule_says_what_holds_now() {
    let settings = Settings::default();
    let rule = "{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], \
                ports: [{port: 8080}]}]}";
    let why = |text: &str| {
        let found = in_mesh(text, &settings);
        let finding = found
            .iter()
            .find(|finding| finding.code == Code::ApplicationPortAssumed);
        finding
            .map(|finding| finding.why.clone())
            .unwrap_or_else(|| panic!("{}", listed(&found)))
    };
    let closed = why(&policy("rule", rule));
    assert!(
        closed.contains("15008 is closed here, so the rule for 8080 admits none of that"),
        "{closed}"
    );
    assert!(
        closed.contains("once 15008 is open, it restricts nothing"),
        "{closed}"
    );
    let open = why(&(policy("rule", rule) + &policy("tunnels", TUNNELS)));
    assert!(
        open.contains("15008 is open to Deployment shop/backend, so the rule restricts nothing there"),
        "{open}"
    );
}

#[test]
fn a_namespace_that_is_not_there_makes_it_a_supposition() {
    let text = policy("rule", "{podSelector: {}, policyTypes: [Egress]}");
    let found = lint(&input(&text), &Settings::default());
    let blocked = found
        .iter()
        .find(|finding| finding.code == Code::HboneBlocked)
        .expect("found");
    assert_eq!(blocked.severity, Severity::Info);
    assert!(
        blocked.why.starts_with("if these pods are in the mesh"),
        "{blocked}"
    );
    // That DNS is shut off does not depend on the mesh.
    let dns = found
        .iter()
        .find(|finding| finding.code == Code::DnsEgressMissing)
        .expect("found");
    assert_eq!(dns.severity, Severity::Error);
    let outside = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{text}");
    assert!(!codes(&lint(&input(&outside), &Settings::default())).contains(&Code::HboneBlocked));
}

#[test]
fn the_address_of_probes_must_pass_where_they_have_one() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {app: p}}\nspec: {containers: \
               [{name: a, readinessProbe: {tcpSocket: {port: 8080}}}]}\n";
    let settings = Settings {
        probes_exempt: true,
        network_policy_enforced: true,
        ..Settings::default()
    };
    let tunnels = "{podSelector: {matchLabels: {app: p}}, ingress: [{ports: [{port: 15008}]}]}";
    let found = in_mesh(&(pod.to_owned() + &policy("tunnels", tunnels)), &settings);
    assert!(
        codes(&found).contains(&Code::LocksOutProbes),
        "{}",
        listed(&found)
    );
    let probes =
        "{podSelector: {matchLabels: {app: p}}, ingress: [{from: [{ipBlock: {cidr: 169.254.7.127/32}}]}]}";
    let mended = pod.to_owned() + &policy("tunnels", tunnels) + &policy("probes", probes);
    let found = in_mesh(&mended, &settings);
    assert!(found.is_empty(), "{}", listed(&found));
}

/// Tunnels that are open to one peer are not open to another.
#[test]
fn a_tunnel_port_that_is_open_to_others_is_closed_to_the_peers_of_a_rule() {
    let settings = Settings {
        network_policy_enforced: true,
        ..Settings::default()
    };
    const SCRAPER: &str = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}";
    let set = |tunnels: &str| {
        let app = "{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], \
                   ports: [{port: 8080}]}]}";
        let scrape = format!(
            "{{podSelector: {{matchLabels: {{app: backend}}}}, ingress: [{{from: [{tunnels}], ports: [{{port: 15008}}]}}]}}"
        );
        let egress = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
        policy(
            "deny",
            "{podSelector: {matchLabels: {app: backend}}, policyTypes: [Ingress]}",
        ) + &policy("app", app)
            + &policy("scrape", &scrape)
            + &policy("out", egress)
    };
    let said = |text: &str| -> Vec<String> {
        let found = in_mesh(text, &settings);
        let blocked = found
            .iter()
            .filter(|finding| [Code::HboneBlocked, Code::ApplicationPortAssumed].contains(&finding.code));
        blocked.map(ToString::to_string).collect()
    };
    let text = said(&set(&format!("{{{SCRAPER}}}"))).join("\n");
    assert!(
        text.contains("hbone-blocked") && text.contains("Pod shop/web (Deployment shop/backend)"),
        "{text}"
    );
    assert!(
        text.contains("closed between these and open to others alone"),
        "{text}"
    );
    assert!(!text.contains("restricts nothing there"), "{text}");
    let mended = said(&set(&format!(
        "{{{SCRAPER}}}, {{podSelector: {{matchLabels: {{app: web}}}}}}"
    )))
    .join("\n");
    assert!(
        !mended.contains("hbone-blocked") && mended.contains("restricts nothing there"),
        "{mended}"
    );
    // Others whose addresses nobody wrote are no peers of a rule that also names a block.
    let with_block = |cidr: &str, ip: &str| {
        let other = format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: other, namespace: shop, labels: {{app: other}}}}\nspec: \
             {{containers: [{{name: a}}]}}\n{ip}"
        );
        let set = set("{podSelector: {matchLabels: {app: web}}}");
        let named = "from: [{podSelector: {matchLabels: {app: web}}}]";
        let with =
            format!("from: [{{podSelector: {{matchLabels: {{app: web}}}}}}, {{ipBlock: {{cidr: {cidr}}}}}]");
        assert!(set.contains(named));
        other + &set.replacen(named, &with, 1)
    };
    let text = said(&with_block("203.0.113.0/24", "")).join("\n");
    assert!(
        !text.contains("hbone-blocked") && text.contains("restricts nothing there"),
        "{text}"
    );
    let inside = "status: {podIP: 203.0.113.9}\n";
    let text = said(&with_block("203.0.113.0/24", inside)).join("\n");
    assert!(
        text.contains("hbone-blocked") && text.contains("Pod shop/other (Deployment shop/backend)"),
        "{text}"
    );
    // The way out: tunnels to a block in which the peer is not.
    let peer = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: db, namespace: shop, labels: {app: db}}\nspec: {containers: \
                [{name: a}]}\nstatus: {podIP: 10.1.0.9}\n";
    let out = |block: &str| {
        peer.to_owned()
            + &policy(
                "out",
                &format!(
                    "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{{to: [{{podSelector: \
                     {{matchLabels: {{app: db}}}}}}], ports: [{{port: 5432}}]}}, {{to: [{{ipBlock: {{cidr: {block}}}}}], ports: \
                     [{{port: 15008}}]}}]}}"
                ),
            )
    };
    let text = said(&out("10.100.0.0/16")).join("\n");
    assert!(
        text.contains("hbone-blocked") && text.contains("Pod shop/db (Pod shop/web)"),
        "{text}"
    );
    let text = said(&out("10.1.0.0/16")).join("\n");
    assert!(!text.contains("hbone-blocked"), "{text}");
}
