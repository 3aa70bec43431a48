//! The table of cases, in words.

use proto::security::string_match::MatchType;
use proto::security::{Action, Authorization, Match, Scope, StringMatch};

use crate::testing::{compiled, pod, puts, workload};
use crate::{Compiler, Settings};

fn policy(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: {namespace}, name: p}}\nspec: {spec}\n"
    )
}

mod closing;
mod conditions;

/// The policy that is sent, and the remarks.
fn convert(spec: &str) -> (Option<Authorization>, Vec<String>) {
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(&policy("demo", spec)));
    let remarks = output
        .warnings
        .iter()
        .map(|warning| warning.message.clone())
        .collect();
    (output.policies.get("demo/p").cloned(), remarks)
}

/// The rules in words: alternatives of a clause joined by `|`, clauses by `&`; an empty match is `never`.
fn rules(spec: &str) -> Vec<String> {
    let (policy, _) = convert(spec);
    rule_words(&policy.expect("sent"))
}

fn rule_words(policy: &Authorization) -> Vec<String> {
    let clause =
        |clause: &proto::security::Clause| clause.matches.iter().map(words).collect::<Vec<_>>().join(" | ");
    policy
        .rules
        .iter()
        .map(|rule| rule.clauses.iter().map(clause).collect::<Vec<_>>().join(" & "))
        .collect()
}

fn words(part: &Match) -> String {
    let text = |text: &StringMatch| match text.match_type.as_ref().expect("set") {
        MatchType::Exact(text) => text.clone(),
        MatchType::Prefix(text) => format!("{text}…"),
        MatchType::Suffix(text) => format!("…{text}"),
        MatchType::Presence(()) => "any".to_owned(),
    };
    let texts =
        |name: &str, list: &[StringMatch]| list.iter().map(|item| format!("{name}{}", text(item))).collect();
    let addresses = |name: &str, list: &[proto::security::Address]| {
        list.iter()
            .map(|block| format!("{name}{:?}/{}", block.address.to_vec(), block.length))
            .collect()
    };
    let accounts = |name: &str, list: &[proto::security::ServiceAccountMatch]| {
        list.iter()
            .map(|account| format!("{name}{}/{}", account.namespace, account.service_account))
            .collect()
    };
    let ports = |name: &str, list: &[u32]| list.iter().map(|port| format!("{name}{port}")).collect();
    let all: [Vec<String>; 12] = [
        texts("ns=", &part.namespaces),
        texts("ns!=", &part.not_namespaces),
        accounts("sa=", &part.service_accounts),
        accounts("sa!=", &part.not_service_accounts),
        texts("id=", &part.principals),
        texts("id!=", &part.not_principals),
        addresses("from=", &part.source_ips),
        addresses("from!=", &part.not_source_ips),
        addresses("to=", &part.destination_ips),
        addresses("to!=", &part.not_destination_ips),
        ports("port=", &part.destination_ports),
        ports("port!=", &part.not_destination_ports),
    ];
    let all = all.concat();
    if all.is_empty() {
        "never".to_owned()
    } else {
        all.join(",")
    }
}

#[test]
fn scopes() {
    let selector = "{selector: {matchLabels: {app: web}}}";
    let cases = [
        ("demo", "{}", Scope::Namespace),
        ("demo", "{selector: {}}", Scope::Namespace),
        ("demo", "{selector: {matchLabels: {}}}", Scope::Namespace),
        ("istio-system", "{}", Scope::Global),
        ("istio-system", "{selector: {}}", Scope::Global),
        ("demo", selector, Scope::WorkloadSelector),
        ("istio-system", selector, Scope::WorkloadSelector),
    ];
    for (namespace, spec, scope) in cases {
        let compiler = compiled(&policy(namespace, spec));
        let sent = &compiler.policies()[&format!("{namespace}/p")];
        assert_eq!(
            (sent.scope(), sent.action(), sent.dry_run),
            (scope, Action::Allow, false),
            "{namespace} {spec}"
        );
        assert_eq!((sent.namespace.as_str(), sent.name.as_str()), (namespace, "p"));
    }
}

#[test]
fn who_lists_a_policy() {
    let labelled = pod("demo", "web", "{app: web}", "");
    let bare = pod("demo", "bare", "{}", "");
    let elsewhere = pod("other", "web", "{app: web}", "");
    let pods = [labelled, bare, elsewhere].concat();
    let listed = |text: String| {
        let compiler = compiled(&(pods.clone() + &text));
        ["demo/web", "demo/bare", "other/web"].map(|pod| {
            workload(&compiler, &format!("Kubernetes//Pod/{pod}"))
                .authorization_policies
                .len()
        })
    };
    let selector = "{selector: {matchLabels: {app: web}}}";
    // Rows 31 and 32, and the faults B5 and B6 of the reference.
    assert_eq!(listed(policy("demo", selector)), [1, 0, 0]);
    assert_eq!(listed(policy("istio-system", selector)), [1, 0, 1]);
    assert_eq!(listed(policy("demo", "{}")), [0, 0, 0]);
    assert_eq!(listed(policy("demo", "{selector: {}}")), [0, 0, 0]);
    assert_eq!(listed(policy("istio-system", "{}")), [0, 0, 0]);
    // A dry run is listed apart.
    let dry =
        policy("demo", selector).replace("name: p}", "name: p, annotations: {istio.io/dry-run: \"true\"}}");
    assert_eq!(listed(dry), [0, 0, 0]);
}

#[test]
fn every_matcher() {
    // Rows 5, 7, 8 and 11.
    let all = r#"{rules: [{
        from: [{source: {principals: [a, "p-*", "*-s", "*"], notPrincipals: [b], namespaces: ["n*"], notNamespaces: ["*m"],
                         ipBlocks: [1.2.3.4, 5.6.0.0/16], notIpBlocks: ["::1"]}},
               {source: {serviceAccounts: [x, other/y], notServiceAccounts: [z]}}],
        to: [{operation: {ports: ["80", "90"], notPorts: ["91"]}}, {operation: {ports: ["1"]}}]}]}"#;
    let from = "ns=n…,ns!=…m,id=a,id=p-…,id=…-s,id=any,id!=b,from=[1, 2, 3, 4]/32,from=[5, 6, 0, 0]/16,\
                from!=[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]/128 | sa=demo/x,sa=other/y,sa!=demo/z";
    assert_eq!(
        rules(all),
        [format!("port=80,port=90,port!=91 | port=1 & {from}")]
    );
    let when = r#"{rules: [{when: [
        {key: source.ip, values: [10.0.0.0/8], notValues: [10.1.1.1]}, {key: destination.ip, values: [1.1.1.1], notValues: [2.2.2.2]},
        {key: source.namespace, values: [a], notValues: ["b*"]}, {key: source.principal, values: ["*"], notValues: [c]},
        {key: source.serviceAccount, values: [d], notValues: [e/f]}, {key: destination.port, values: ["1"], notValues: ["2"]}]}]}"#;
    let expected = "from=[10, 0, 0, 0]/8,from!=[10, 1, 1, 1]/32 & to=[1, 1, 1, 1]/32,to!=[2, 2, 2, 2]/32 & \
                    ns=a,ns!=b… & id=any,id!=c & sa=demo/d,sa!=e/f & port=1,port!=2";
    assert_eq!(rules(when), [expected]);
    assert_eq!(rules("{rules: [{}]}"), [""]);
    assert!(rules("{}").is_empty());
}

const PRINCIPAL: &str = "from: [{source: {principals: [a], namespaces: [b]}}]";
const HTTP_FROM: &str = "from: [{source: {principals: [a], namespaces: [b], requestPrincipals: [c]}}]";

#[test]
fn allow_rules_with_http_attributes_are_left_out() {
    // Rows 10, 13, 14, 16 and 17.
    let vanish = [
        "to: [{operation: {methods: [GET]}}]",
        "to: [{operation: {hosts: [a]}}]",
        "to: [{operation: {notPaths: [a]}}]",
        "to: [{operation: {ports: [\"80\"]}}, {operation: {paths: [a]}}]",
        "when: [{key: \"request.headers[a]\", values: [b]}]",
        "when: [{key: remote.ip, values: [1.1.1.1]}]",
        "when: [{key: source.namespace, values: [a]}, {key: connection.sni, values: [b]}]",
        "when: [{key: request.auth.principal, values: [b]}]",
        HTTP_FROM,
        "from: [{source: {remoteIpBlocks: [1.1.1.1]}}]",
    ];
    for rule in vanish {
        let spec =
            format!("{{rules: [{{{rule}}}, {{{PRINCIPAL}, to: [{{operation: {{ports: [\"80\"]}}}}]}}]}}");
        assert_eq!(rules(&spec), ["port=80 & ns=b,id=a"], "{rule}");
        let (only, remarks) = convert(&format!("{{rules: [{{{rule}}}]}}"));
        assert!(only.is_some_and(|policy| policy.rules.is_empty()), "{rule}");
        assert_eq!(remarks.len(), 1);
        assert!(
            remarks[0].contains("are left out, so they allow nothing"),
            "{remarks:?}"
        );
    }
}

#[test]
fn http_attributes_are_erased_from_deny_rules() {
    let deny = |inner: &str| format!("{{action: DENY, rules: [{inner}]}}");
    let port = "to: [{operation: {ports: [\"80\"], methods: [GET]}}]";
    // Rows 19, 20, 22, 23, 25 and 26.
    let cases = [
        (
            format!("{{{port}, {HTTP_FROM}}}"),
            vec!["port=80 & ns=b,id=a"],
            "may deny more",
        ),
        (
            "{when: [{key: source.namespace, values: [a]}, {key: connection.sni, values: [b]}]}".to_owned(),
            vec!["ns=a & never"],
            "has no effect",
        ),
        (
            format!("{{{PRINCIPAL}, to: [{{operation: {{methods: [GET]}}}}]}}"),
            vec!["never & ns=b,id=a"],
            "no effect",
        ),
        (
            format!("{{to: [{{operation: {{methods: [GET]}}}}]}}, {{{PRINCIPAL}}}"),
            vec!["never", "ns=b,id=a"],
            "may deny more",
        ),
        (
            "{}, {to: [{operation: {methods: [GET]}}]}".to_owned(),
            vec!["", "never"],
            "may deny more",
        ),
    ];
    for (inner, expected, remark) in cases {
        let spec = deny(&inner);
        assert_eq!(rules(&spec), expected, "{spec}");
        let (policy, remarks) = convert(&spec);
        assert_eq!(policy.map(|policy| policy.action()), Some(Action::Deny));
        assert!(remarks.len() == 1 && remarks[0].contains(remark), "{remarks:?}");
        assert!(
            remarks[0].starts_with("ztunnel does not support HTTP attributes (found: "),
            "{remarks:?}"
        );
    }
    assert!(convert(&deny(&format!("{{{PRINCIPAL}}}"))).1.is_empty());
}

#[test]
fn what_is_for_waypoints_is_not_sent() {
    // Row 28.
    let (policy, remarks) = convert("{targetRefs: [{kind: Service, name: a}]}");
    assert_eq!(policy, None);
    // Its author is told of the waypoint alone: there is no such Service.
    assert!(
        remarks.len() == 1 && remarks[0].starts_with("Service a: "),
        "{remarks:?}"
    );
}

#[test]
fn only_what_changes_is_emitted() {
    let mut compiler = compiled(&pod("demo", "web", "{app: web}", ""));
    let selecting = |rest: &str| {
        policy(
            "demo",
            &format!("{{selector: {{matchLabels: {{app: web}}}}{rest}}}"),
        )
    };
    let output = compiler.apply(puts(&selecting("")));
    assert_eq!((output.addresses.len(), output.policies.len()), (1, 1));
    // Row 35: another content touches no workload.
    let output = compiler.apply(puts(&selecting(", rules: [{}]")));
    assert_eq!((output.addresses.len(), output.policies.len()), (0, 1));
    // Row 34: a pod with other labels lists other policies.
    let output = compiler.apply(puts(&pod("demo", "web", "{app: other}", "")));
    assert_eq!((output.addresses.len(), output.policies.len()), (1, 0));
    assert!(
        workload(&compiler, "Kubernetes//Pod/demo/web")
            .authorization_policies
            .is_empty()
    );
}
