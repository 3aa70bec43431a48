//! What of a stored policy cannot be read: it can only close.

use objects::Kind;
use proptest::prelude::*;
use proto::origin::{Effect, Origin};

use super::{policy, rule_words};
use crate::Compiler;
use crate::testing::{Probes, compiled, pod, stored, verdicts};

fn with(spec: &str) -> Compiler {
    let mut compiler = compiled(&pod("demo", "web", "{app: web}", ""));
    compiler.apply([stored(
        Kind::AuthorizationPolicy,
        "demo",
        "p",
        &policy("demo", spec),
    )]);
    compiler
}

/// The rules that are sent, and of each rule of the object what is not enforced.
fn sent(spec: &str) -> (Vec<String>, Vec<(u32, String, Effect)>) {
    let compiler = with(spec);
    let sent = &compiler.policies()["demo/p"];
    let config = sent.extensions[0].config.as_ref().expect("an origin");
    let origin: Origin = prost::Message::decode(&*config.value).expect("an origin");
    assert_eq!(origin.rules.len(), sent.rules.len());
    let lost = origin.not_enforced.iter();
    let lost = lost.map(|part| (part.rule, part.attributes.join(","), part.effect()));
    (rule_words(sent), lost.collect())
}

/// What no connection fails to match.
const ALWAYS: &str = "to!=[0, 0, 0, 0]/32";

#[test]
fn in_a_deny_rule_it_counts_as_matching() {
    let cases = [
        ("to: [{operation: {ports: [http]}}]", ALWAYS, "ports"),
        ("to: [{operation: {ports: [http, \"80\"]}}]", ALWAYS, "ports"),
        ("to: [{operation: {notPorts: [http]}}]", ALWAYS, "notPorts"),
        (
            "to: [{operation: {notPorts: [http, \"80\"]}}]",
            "port!=80",
            "notPorts",
        ),
        (
            "to: [{operation: {ports: [\"1\"], notPorts: [http]}}]",
            "port=1",
            "notPorts",
        ),
        (
            "to: [{operation: {ports: [http]}}, {operation: {ports: [\"80\"]}}]",
            "to!=[0, 0, 0, 0]/32 | port=80",
            "ports",
        ),
        (
            "to: [{operation: {ports: [http], methods: [GET]}}]",
            ALWAYS,
            "methods,ports",
        ),
        (
            "from: [{source: {principals: [a], ipBlocks: [x]}}]",
            "id=a",
            "ipBlocks",
        ),
        (
            "from: [{source: {principals: [a, spiffe://b]}}]",
            ALWAYS,
            "principals",
        ),
        (
            "from: [{source: {namespaces: [a], notNamespaces: [\"*b*\"]}}]",
            "ns=a",
            "notNamespaces",
        ),
        (
            "from: [{source: {serviceAccounts: [\"*\"]}}]",
            ALWAYS,
            "serviceAccounts",
        ),
        ("from: [{source: {trustDomains: [a]}}]", ALWAYS, "trustDomains"),
        (
            "from: [{source: {notTrustDomains: [a]}}]",
            ALWAYS,
            "notTrustDomains",
        ),
        (
            "from: [{source: {principals: [a], trustDomains: [b]}}]",
            "id=a",
            "trustDomains",
        ),
        (
            "when: [{key: destination.port, values: [x]}]",
            ALWAYS,
            "destination.port",
        ),
        ("when: [{key: source.ip, values: [x]}]", ALWAYS, "source.ip"),
        (
            "when: [{key: destination.ip, notValues: [x]}]",
            ALWAYS,
            "destination.ip",
        ),
        (
            "when: [{key: source.namespace, values: [\"*x*\"]}]",
            ALWAYS,
            "source.namespace",
        ),
        (
            "when: [{key: source.principal, values: [\"*x*\"]}]",
            ALWAYS,
            "source.principal",
        ),
        (
            "when: [{key: source.serviceAccount, values: [\"*\"]}]",
            ALWAYS,
            "source.serviceAccount",
        ),
        ("form: []", "", "the whole rule"),
    ];
    for (rule, expected, attributes) in cases {
        let (rules, lost) = sent(&format!("{{action: DENY, rules: [{{{rule}}}]}}"));
        assert_eq!(rules, [expected], "{rule}");
        assert_eq!(
            lost,
            [(0, attributes.to_owned(), Effect::EnforcedWithout)],
            "{rule}"
        );
    }
}

#[test]
fn in_an_allow_rule_it_counts_as_not_matching() {
    let omitted = [
        "to: [{operation: {ports: [http]}}]",
        "to: [{operation: {notPorts: [http, \"80\"]}}]",
        "to: [{operation: {ports: [\"1\"], notPorts: [http]}}]",
        "from: [{source: {principals: [a], ipBlocks: [x]}}]",
        "from: [{source: {principals: [a], trustDomains: [b]}}]",
        "from: [{source: {principals: [a], notTrustDomains: [b]}}]",
        "to: [{operation: {ports: [\"1\"]}}], from: [{source: {ipBlocks: [x]}}]",
        "to: [{operation: {ports: [\"1\"]}}], when: [{key: source.ip, values: [x]}]",
        "when: [{key: destination.port, notValues: [x]}]",
        "from: [{source: {ipBlocks: [x], requestPrincipals: [a]}}]",
        "form: []",
    ];
    for rule in omitted {
        let (rules, lost) = sent(&format!(
            "{{rules: [{{{rule}}}, {{to: [{{operation: {{ports: [\"9\"]}}}}]}}]}}"
        ));
        assert_eq!(rules, ["port=9"], "{rule}");
        assert_eq!(
            (lost.len(), lost[0].0, lost[0].2),
            (1, 0, Effect::RuleOmitted),
            "{rule}"
        );
    }
    let narrowed = [
        ("to: [{operation: {ports: [http, \"80\"]}}]", "port=80"),
        (
            "to: [{operation: {ports: [http]}}, {operation: {ports: [\"80\"]}}]",
            "port=80",
        ),
        (
            "from: [{source: {trustDomains: [a]}}, {source: {namespaces: [b]}}]",
            "ns=b",
        ),
        ("when: [{key: source.namespace, values: [a, \"*x*\"]}]", "ns=a"),
    ];
    for (rule, expected) in narrowed {
        let (rules, lost) = sent(&format!("{{rules: [{{{rule}}}]}}"));
        assert_eq!(rules, [expected], "{rule}");
        assert_eq!((lost.len(), lost[0].2), (1, Effect::EnforcedWithout), "{rule}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_refuses_everything_in_its_scope() {
    let probes = probes();
    let admitted = |namespace: &str, spec: &str| {
        let pods = [
            ("demo", "web", "{app: web}"),
            ("demo", "bare", "{}"),
            ("other", "web", "{app: web}"),
        ];
        let pods: String = pods
            .iter()
            .map(|(space, name, labels)| pod(space, name, labels, ""))
            .collect();
        let mut compiler = compiled(&pods);
        compiler.apply([stored(
            Kind::AuthorizationPolicy,
            namespace,
            "p",
            &policy(namespace, spec),
        )]);
        let verdicts = verdicts(&compiler, &probes);
        let each =
            ["demo/web", "demo/bare", "other/web"].map(|pod| &verdicts[&format!("Kubernetes//Pod/{pod}")]);
        each.map(|verdicts| {
            assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]));
            verdicts[0]
        })
    };
    let selecting = "{selector: {matchLabels: {app: web}}, rulez: []}";
    assert_eq!(admitted("demo", selecting), [false, true, true]);
    assert_eq!(admitted("istio-system", selecting), [false, true, false]);
    let unknown = "{selector: {matchlabels: {app: web}}, rules: [{}]}";
    assert_eq!(admitted("demo", unknown), [false, false, true]);
    assert_eq!(admitted("istio-system", unknown), [false, false, false]);
    // What node proxies are not asked closes nothing.
    for spec in [
        "{action: AUDIT, rules: [{}]}",
        "{targetRefs: [{kind: Serviec, name: a}]}",
    ] {
        assert_eq!(admitted("demo", spec), [true, true, true], "{spec}");
    }
    // Nor does a dry run.
    let dry = policy("demo", "{rulez: []}")
        .replace("name: p}", "name: p, annotations: {istio.io/dry-run: \"true\"}}");
    let mut compiler = compiled(&pod("demo", "web", "{}", ""));
    compiler.apply([stored(Kind::AuthorizationPolicy, "demo", "p", &dry)]);
    assert!(compiler.policies()["demo/p"].dry_run);
    assert!(verdicts(&compiler, &probes)["Kubernetes//Pod/demo/web"][0]);
}

#[test]
fn the_placeholder_of_what_is_no_text_refuses_everything() {
    let key = objects::ObjectKey::new(Kind::AuthorizationPolicy, "demo", "p");
    let object = objects::Object::closed(&key, "it is no YAML").expect("a policy");
    let mut compiler = compiled(&pod("demo", "web", "{}", ""));
    compiler.apply([(key, Some(std::sync::Arc::new(object)))]);
    assert!(
        verdicts(&compiler, &probes())["Kubernetes//Pod/demo/web"]
            .iter()
            .all(|admitted| !admitted)
    );
}

fn probes() -> Probes {
    Probes {
        callers: vec![None, Some(("a", "s")), Some(("a", "t")), Some(("b", "s"))],
        sources: vec!["10.0.0.1", "10.0.0.2"],
        ports: vec![1, 2, 3, 4],
    }
}

/// An attribute: the names of its lists, a value that cannot be read, and some that can.
type Attribute = ([&'static str; 2], &'static str, [&'static str; 3]);

const SOURCE: [Attribute; 3] = [
    (["namespaces", "notNamespaces"], "*x*", ["a", "b", "*"]),
    (
        ["principals", "notPrincipals"],
        "spiffe://x",
        ["cluster.local/ns/a/sa/s", "*/sa/t", "*"],
    ),
    (
        ["ipBlocks", "notIpBlocks"],
        "x",
        ["10.0.0.1", "10.0.0.2/31", "0.0.0.0/0"],
    ),
];
const PORTS: Attribute = (["ports", "notPorts"], "http", ["1", "2", "3"]);
const WHEN: Attribute = (["values", "notValues"], "http", ["1", "2", "3"]);

/// A value that cannot be read now and might be mended to any good one, or a good one.
type Value = (bool, usize);
/// The values of both lists of an attribute.
type Lists = [Vec<Value>; 2];

#[derive(Clone, Debug)]
struct Rule {
    from: Vec<[Lists; 3]>,
    to: Vec<(Lists, bool)>,
    when: Option<Lists>,
    broken: bool,
}

fn lists() -> impl Strategy<Value = Lists> {
    let list = || prop::collection::vec((prop::bool::weighted(0.3), 0usize..3), 0..3);
    [list(), list()]
}

fn rule() -> impl Strategy<Value = Rule> {
    let from = prop::collection::vec([lists(), lists(), lists()], 0..3);
    let to = prop::collection::vec((lists(), prop::bool::weighted(0.2)), 0..3);
    (from, to, prop::option::of(lists()), prop::bool::weighted(0.1)).prop_map(|(from, to, when, broken)| {
        Rule {
            from,
            to,
            when,
            broken,
        }
    })
}

/// An attribute as text: mended, or with what cannot be read.
fn attribute((names, wrong, good): Attribute, lists: &Lists, mended: bool) -> Vec<String> {
    let value = |(unreadable, number): &Value| {
        let text = if *unreadable && !mended {
            wrong
        } else {
            good[*number]
        };
        format!("\"{text}\"")
    };
    let list = |(name, values): (&str, &Vec<Value>)| {
        let values: Vec<String> = values.iter().map(value).collect();
        (!values.is_empty()).then(|| format!("{name}: [{}]", values.join(", ")))
    };
    names.into_iter().zip(lists).filter_map(list).collect()
}

fn text(rule: &Rule, mended: bool) -> String {
    let mut parts = Vec::new();
    let source = |lists: &[Lists; 3]| {
        let fields = SOURCE.into_iter().zip(lists);
        let fields: Vec<String> = fields
            .flat_map(|(kind, lists)| attribute(kind, lists, mended))
            .collect();
        let fields = if fields.is_empty() {
            vec!["namespaces: [a]".to_owned()]
        } else {
            fields
        };
        format!("{{source: {{{}}}}}", fields.join(", "))
    };
    if !rule.from.is_empty() {
        parts.push(format!(
            "from: [{}]",
            rule.from.iter().map(source).collect::<Vec<_>>().join(", ")
        ));
    }
    let operation = |(lists, http): &(Lists, bool)| {
        let mut fields = attribute(PORTS, lists, mended);
        if *http || fields.is_empty() {
            fields.push("methods: [GET]".to_owned());
        }
        format!("{{operation: {{{}}}}}", fields.join(", "))
    };
    if !rule.to.is_empty() {
        parts.push(format!(
            "to: [{}]",
            rule.to.iter().map(operation).collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(lists) = &rule.when {
        let fields = attribute(WHEN, lists, mended);
        if !fields.is_empty() {
            parts.push(format!(
                "when: [{{key: destination.port, {}}}]",
                fields.join(", ")
            ));
        }
    }
    if rule.broken && !mended {
        parts.push("form: []".to_owned());
    }
    format!("{{{}}}", parts.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever is meant by the values that cannot be read: nothing is let in that the mended policy would refuse.
    /// The seed of a failure is printed with it.
    #[test]
    fn nothing_is_let_in_that_any_mending_would_refuse(
        rules in prop::collection::vec(rule(), 1..4),
        deny in any::<bool>(),
    ) {
        let admitted = |mended: bool| {
            let rules: Vec<String> = rules.iter().map(|rule| text(rule, mended)).collect();
            let action = if deny { "DENY" } else { "ALLOW" };
            let spec = format!("{{action: {action}, rules: [{}]}}", rules.join(", "));
            let compiler = with(&spec);
            (spec, verdicts(&compiler, &probes()).remove("Kubernetes//Pod/demo/web").unwrap_or_default())
        };
        let (spec, closed) = admitted(false);
        let (_, mended) = admitted(true);
        prop_assert_eq!((closed.len(), mended.len()), (32, 32));
        // Without anything unreadable nothing is lost.
        let unreadable = rules.iter().any(|rule| text(rule, false) != text(rule, true));
        prop_assert!(unreadable || closed == mended, "{}", spec);
        for (closed, mended) in closed.into_iter().zip(mended) {
            prop_assert!(mended || !closed, "{}", spec);
        }
    }
}
