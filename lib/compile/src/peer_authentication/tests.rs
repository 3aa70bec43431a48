//! The table of cases, every combination against an oracle, the bytes, and the choice between several policies.

use proto::security::{Action, Authorization, Scope};

use crate::testing::{accepts, compiled, pod, puts, workload};
use crate::{Compiler, Settings};

mod closing;

const MODES: [Option<&str>; 5] = [
    None,
    Some("UNSET"),
    Some("DISABLE"),
    Some("PERMISSIVE"),
    Some("STRICT"),
];
const POD: &str = "Kubernetes//Pod/demo/web";
const STATIC: &str = "istio-system/istio_converted_static_strict";
const CONVERTED: &str = "demo/converted_peer_authentication_own";

/// One PeerAuthentication; `spec` in YAML.
fn peer(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

fn wide(namespace: &str, mode: Option<&str>) -> String {
    mode.map_or(String::new(), |mode| {
        peer(namespace, "wide", &format!("{{mtls: {{mode: {mode}}}}}"))
    })
}

fn own(mode: Option<&str>, ports: [Option<&str>; 2]) -> String {
    let Some(mode) = mode else { return String::new() };
    let each = [9090, 8080].into_iter().zip(ports);
    let each = each.filter_map(|(port, mode)| Some(format!("{port}: {{mode: {}}}", mode?)));
    let each = each.collect::<Vec<_>>().join(", ");
    let ports = if each.is_empty() {
        String::new()
    } else {
        format!(", portLevelMtls: {{{each}}}")
    };
    peer(
        "demo",
        "own",
        &format!("{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {mode}}}{ports}}}"),
    )
}

fn mesh(
    root: Option<&str>,
    namespace: Option<&str>,
    mode: Option<&str>,
    ports: [Option<&str>; 2],
) -> Compiler {
    let web = pod("demo", "web", "{app: web}", "");
    let text = [
        web,
        wide("istio-system", root),
        wide("demo", namespace),
        own(mode, ports),
    ]
    .concat();
    compiled(&text)
}

/// Which of 9090, 8080 and any other port accept plaintext.
fn verdicts(compiler: &Compiler) -> [bool; 3] {
    [9090, 8080, 7000].map(|port| accepts(compiler, workload(compiler, POD), port, None))
}

/// The same from the function that others ask.
fn effective(compiler: &Compiler) -> [bool; 3] {
    let object = puts(&pod("demo", "web", "{app: web}", ""))
        .remove(0)
        .1
        .expect("a pod");
    [Some(9090), Some(8080), None].map(|port| {
        let effective = compiler.effective_mtls(&object, port);
        assert_ne!(effective.mode, objects::MtlsMode::Unset);
        // Nobody decides only where nobody says anything.
        assert!(effective.decided_by.is_some() || effective.mode == objects::MtlsMode::Permissive);
        effective.mode != objects::MtlsMode::Strict
    })
}

#[test]
fn the_table() {
    let (u, d, p, s) = (Some("UNSET"), Some("DISABLE"), Some("PERMISSIVE"), Some("STRICT"));
    let none = [None, None];
    let (open, closed) = ([true; 3], [false; 3]);
    let cases = [
        ("1", None, None, None, none, open, None),
        ("2", p, None, None, none, open, None),
        ("3", s, None, None, none, closed, Some(STATIC)),
        ("4", d, None, None, none, open, None),
        ("5", None, p, None, none, open, None),
        ("6", None, s, None, none, closed, Some(STATIC)),
        ("7", p, s, None, none, closed, Some(STATIC)),
        ("8", s, p, None, none, open, None),
        ("9", s, d, None, none, open, None),
        ("10", s, u, None, none, closed, Some(STATIC)),
        ("11", p, u, None, none, open, None),
        ("12", None, None, s, none, closed, Some(STATIC)),
        ("13", p, s, p, none, open, None),
        ("14", s, None, d, none, open, None),
        ("15", p, p, s, none, closed, Some(STATIC)),
        ("16", s, None, u, none, closed, Some(STATIC)),
        (
            "17",
            None,
            None,
            s,
            [p, None],
            [true, false, false],
            Some(CONVERTED),
        ),
        (
            "18",
            None,
            None,
            s,
            [d, None],
            [true, false, false],
            Some(CONVERTED),
        ),
        ("19", None, None, s, [None, s], closed, Some(STATIC)),
        ("33b", p, None, u, [s, s], [false, false, true], Some(CONVERTED)),
        // What the reference gets wrong.
        ("B1", s, None, p, [s, None], [false, true, true], Some(CONVERTED)),
        (
            "B1, DISABLE",
            s,
            u,
            d,
            [s, None],
            [false, true, true],
            Some(CONVERTED),
        ),
        ("B2", s, u, u, [p, None], [true, false, false], Some(CONVERTED)),
        ("B3", None, s, u, [d, None], [true, false, false], Some(CONVERTED)),
    ];
    for (number, root, namespace, mode, ports, expected, listed) in cases {
        let compiler = mesh(root, namespace, mode, ports);
        assert_eq!(verdicts(&compiler), expected, "row {number}");
        assert_eq!(
            workload(&compiler, POD).authorization_policies,
            Vec::from_iter(listed),
            "row {number}"
        );
    }
}

/// The documented precedence, in other words: the narrowest mode that is set; nothing set accepts plaintext.
fn oracle(root: Option<&str>, namespace: Option<&str>, mode: Option<&str>, port: Option<&str>) -> bool {
    let mut strict = false;
    for level in [root, namespace, mode, port] {
        match level {
            Some("STRICT") => strict = true,
            Some("PERMISSIVE" | "DISABLE") => strict = false,
            _ => {}
        }
    }
    !strict
}

#[test]
fn every_combination_against_the_oracle() {
    let mut combinations = 0;
    for root in MODES {
        for namespace in MODES {
            for mode in MODES {
                for first in MODES {
                    for second in MODES {
                        if mode.is_none() && (first.is_some() || second.is_some()) {
                            continue;
                        }
                        combinations += 1;
                        let case = (root, namespace, mode, first, second);
                        let compiler = mesh(root, namespace, mode, [first, second]);
                        let expected = [first, second, None].map(|port| oracle(root, namespace, mode, port));
                        assert_eq!(verdicts(&compiler), expected, "{case:?}");
                        assert_eq!(effective(&compiler), expected, "{case:?}");
                        let workload = workload(&compiler, POD);
                        let identity = Some("cluster.local/ns/demo/sa/other");
                        assert!(
                            [9090, 8080, 7000]
                                .iter()
                                .all(|port| accepts(&compiler, workload, *port, identity))
                        );
                        // What is not listed is not published either, but for the static policy.
                        let listed = workload.authorization_policies.contains(&CONVERTED.to_owned());
                        assert_eq!(compiler.policies().contains_key(CONVERTED), listed, "{case:?}");
                        let any = root.or(namespace).or(mode).is_some();
                        assert_eq!(compiler.policies().contains_key(STATIC), any, "{case:?}");
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 25 * (1 + 4 * 25));
}

/// A policy in words: each rule is its clauses joined by `&`.
fn words(policy: &Authorization) -> Vec<String> {
    let clause = |clause: &proto::security::Clause| {
        let each = clause.matches.iter().map(|part| {
            let mut words = String::new();
            for port in &part.destination_ports {
                words += &format!("port={port} ");
            }
            for port in &part.not_destination_ports {
                words += &format!("port!={port} ");
            }
            words
                + if part.not_principals.is_empty() {
                    ""
                } else {
                    "no-identity"
                }
        });
        each.collect::<Vec<_>>().join("|").trim().to_owned()
    };
    policy
        .rules
        .iter()
        .map(|rule| rule.clauses.iter().map(clause).collect::<Vec<_>>().join(" & "))
        .collect()
}

#[test]
fn the_policies_are_written_as_the_reference_writes_them() {
    let (p, s, u) = (Some("PERMISSIVE"), Some("STRICT"), Some("UNSET"));
    let cases = [
        (
            mesh(None, None, s, [p, p]),
            vec!["no-identity & port!=8080 & port!=9090"],
        ),
        (
            mesh(s, None, u, [p, p]),
            vec!["port!=8080 & port!=9090 & no-identity"],
        ),
        (mesh(None, None, s, [p, s]), vec!["no-identity & port!=9090"]),
        (
            mesh(p, None, u, [s, s]),
            vec!["port=8080 no-identity", "port=9090 no-identity"],
        ),
        (mesh(None, None, p, [s, p]), vec!["port=9090 no-identity"]),
    ];
    for (compiler, expected) in cases {
        let policy = &compiler.policies()[CONVERTED];
        assert_eq!(words(policy), expected);
        assert_eq!(
            (policy.scope(), policy.action()),
            (Scope::WorkloadSelector, Action::Deny)
        );
        assert_eq!(
            (policy.namespace.as_str(), policy.name.as_str()),
            ("demo", "converted_peer_authentication_own")
        );
        let fixed = &compiler.policies()[STATIC];
        assert_eq!(words(fixed), ["no-identity"]);
        assert_eq!(
            (fixed.scope(), fixed.action()),
            (Scope::WorkloadSelector, Action::Deny)
        );
        assert_eq!(
            (fixed.namespace.as_str(), fixed.name.as_str()),
            ("istio-system", "istio_converted_static_strict")
        );
    }
}

#[test]
fn keys_come_after_those_of_authorization_policies() {
    let text = [
        pod("demo", "web", "{app: web}", ""),
        peer("aaa", "wide", "{mtls: {mode: STRICT}}"),
        wide("demo", Some("STRICT")),
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: demo, name: z}\n\
         spec: {selector: {matchLabels: {app: web}}}\n"
            .to_owned(),
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: istio-system, name: r}\n\
         spec: {selector: {matchLabels: {app: web}}}\n"
            .to_owned(),
    ];
    let compiler = compiled(&text.concat());
    assert_eq!(
        workload(&compiler, POD).authorization_policies,
        ["demo/z", "istio-system/r", STATIC]
    );
}

#[test]
fn an_empty_selector_is_none() {
    let web = pod("demo", "web", "{app: web}", "");
    for spec in [
        "{selector: {}, mtls: {mode: STRICT}}",
        "{selector: {matchLabels: {}}, mtls: {mode: STRICT}}",
    ] {
        for namespace in ["demo", "istio-system"] {
            let compiler = compiled(&[web.clone(), peer(namespace, "wide", spec)].concat());
            assert_eq!(verdicts(&compiler), [false; 3], "{namespace} {spec}");
        }
    }
}

#[test]
fn selectors_count_only_in_their_own_namespace_and_not_in_the_root() {
    let strict = "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}";
    let web = pod("demo", "web", "{app: web}", "");
    for namespace in ["other", "istio-system"] {
        let compiler = compiled(&[web.clone(), peer(namespace, "own", strict)].concat());
        assert_eq!(verdicts(&compiler), [true; 3], "{namespace}");
    }
    let in_root = pod("istio-system", "web", "{app: web}", "");
    let compiler = compiled(&[in_root, peer("istio-system", "own", strict)].concat());
    let uid = "Kubernetes//Pod/istio-system/web";
    assert!(accepts(&compiler, workload(&compiler, uid), 80, None));
    // What nobody lists is not sent either.
    let by_port = "{selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}}}";
    let compiler = compiled(&peer("istio-system", "own", by_port));
    let sent: Vec<&String> = compiler.policies().keys().collect();
    assert_eq!(sent, [STATIC]);
    let bare = pod("demo", "web", "{}", "");
    let compiler = compiled(&[bare, own(Some("STRICT"), [None, None])].concat());
    assert_eq!(verdicts(&compiler), [true; 3]);
}

#[test]
fn the_oldest_policy_of_a_level_decides() {
    let aged = |name: &str, second: u32, spec: &str| {
        peer("demo", name, spec).replace(
            &format!("name: {name}}}"),
            &format!("name: {name}, creationTimestamp: \"2026-08-01T00:00:0{second}Z\"}}"),
        )
    };
    let web = pod("demo", "web", "{app: web}", "");
    let selected =
        |mode: &str| format!("{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {mode}}}}}");
    for (first, second, expected) in [(1, 2, false), (2, 1, true), (1, 1, false)] {
        let strict = "{mtls: {mode: STRICT}}";
        let wide = [
            web.clone(),
            aged("a", first, strict),
            aged("b", second, "{mtls: {mode: DISABLE}}"),
        ];
        assert_eq!(
            verdicts(&compiled(&wide.concat())),
            [expected; 3],
            "{first} {second}"
        );
        let own = [
            web.clone(),
            aged("a", first, &selected("STRICT")),
            aged("b", second, &selected("DISABLE")),
        ];
        assert_eq!(
            verdicts(&compiled(&own.concat())),
            [expected; 3],
            "{first} {second}"
        );
    }
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(&[web, aged("a", 1, "{}"), aged("b", 2, "{}")].concat()));
    assert_eq!(output.warnings.len(), 1);
    assert!(
        output.warnings[0]
            .to_string()
            .contains("PeerAuthentication demo/b: spec: the older policy a")
    );
}

#[test]
fn the_flow_of_objects() {
    let mut compiler = Compiler::new(Settings::default());
    compiler.apply(puts(&pod("demo", "web", "{app: web}", "")));
    // The first policy publishes the static one and, being permissive, touches no workload.
    let output = compiler.apply(puts(&wide("demo", Some("PERMISSIVE"))));
    assert_eq!(output.policies.keys().collect::<Vec<_>>(), [STATIC]);
    assert!(output.addresses.is_empty() && output.removed_policies.is_empty());
    let output = compiler.apply(puts(&wide("demo", Some("STRICT"))));
    assert!(output.policies.is_empty());
    assert_eq!(output.addresses.keys().collect::<Vec<_>>(), [POD]);
    let output = compiler.apply(puts(&own(Some("PERMISSIVE"), [Some("STRICT"), None])));
    assert_eq!(output.policies.keys().collect::<Vec<_>>(), [CONVERTED]);
    assert_eq!(output.addresses.keys().collect::<Vec<_>>(), [POD]);
    // The same again, and a pod elsewhere: nothing about policies.
    assert!(
        compiler
            .apply(puts(&own(Some("PERMISSIVE"), [Some("STRICT"), None])))
            .is_empty()
    );
    let output = compiler.apply(puts(&pod("other", "web", "{app: web}", "")));
    assert!(output.policies.is_empty() && output.addresses.len() == 1);
    // Row 44: without its own policy the workload falls back to the namespace's.
    let gone = |text: &str| {
        puts(text)
            .into_iter()
            .map(|(key, _)| (key, None))
            .collect::<Vec<_>>()
    };
    let output = compiler.apply(gone(&own(Some("PERMISSIVE"), [None, None])));
    assert_eq!(output.removed_policies.iter().collect::<Vec<_>>(), [CONVERTED]);
    assert_eq!(workload(&compiler, POD).authorization_policies, [STATIC]);
    // Row 45: with the last one the static policy goes.
    let output = compiler.apply(gone(&wide("demo", Some("STRICT"))));
    assert_eq!(output.removed_policies.iter().collect::<Vec<_>>(), [STATIC]);
    assert!(workload(&compiler, POD).authorization_policies.is_empty());
}
