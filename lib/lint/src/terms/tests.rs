//! `covers` and "can never match" against a naive reading of rules on many connections.

use std::net::IpAddr;

use objects::{Action, IpBlock, Matches, Object, Rule, ServiceAccountRef, Source, Spec, Test};
use proptest::prelude::*;

use super::{Cube, all_covered, all_empty, cubes, may_meet};

fn rule(text: &str) -> Rule {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: \
         {{rules: [{text}]}}\n"
    );
    let objects = objects::parse("m.yaml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    match objects.first().map(|object: &Object| object.spec.clone()) {
        Some(Spec::AuthorizationPolicy(policy)) => policy.rules[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn of(text: &str) -> Vec<Cube> {
    cubes(&rule(text), Action::Allow, "shop", &own()).expect("small")
}

fn own() -> [String; 1] {
    ["cluster.local".to_owned()]
}

fn from(source: &str) -> String {
    format!("{{from: [{{source: {source}}}]}}")
}

#[test]
fn what_covers_what() {
    let everything = "{}".to_owned();
    let port = "{to: [{operation: {ports: [\"80\", \"81\"]}}]}".to_owned();
    let web = from("{principals: [cluster.local/ns/shop/sa/web]}");
    let cases = [
        (&everything, &port, true),
        (&port, &everything, false),
        (&port, &"{to: [{operation: {ports: [\"81\"]}}]}".to_owned(), true),
        (
            &port,
            &"{when: [{key: destination.port, values: [\"80\"]}]}".to_owned(),
            true,
        ),
        (&port, &"{to: [{operation: {ports: [\"82\"]}}]}".to_owned(), false),
        (
            &"{to: [{operation: {notPorts: [\"80\"]}}]}".to_owned(),
            &"{to: [{operation: {ports: [\"82\"]}}]}".to_owned(),
            true,
        ),
        (&from("{namespaces: [shop]}"), &web, true),
        (&from("{namespaces: [\"s*\"]}"), &web, true),
        (&from("{serviceAccounts: [web]}"), &web, true),
        (&from("{serviceAccounts: [other/web]}"), &web, false),
        (&from("{principals: [\"*\"]}"), &web, true),
        (
            &from("{principals: [\"*\"]}"),
            &from("{namespaces: [shop]}"),
            true,
        ),
        (&from("{principals: [\"*/sa/web\"]}"), &web, true),
        (
            &from("{namespaces: [shop]}"),
            &from("{principals: [\"cluster.local/ns/shop/*\"]}"),
            true,
        ),
        (
            &from("{namespaces: [shop]}"),
            &from("{principals: [\"cluster.local/ns/shop*\"]}"),
            false,
        ),
        (&from("{notNamespaces: [shop]}"), &web, false),
        (&from("{notNamespaces: [other]}"), &web, true),
        (
            &from("{ipBlocks: [10.0.0.0/8]}"),
            &from("{ipBlocks: [10.1.0.0/16, 10.2.0.1]}"),
            true,
        ),
        (
            &from("{ipBlocks: [10.1.0.0/16]}"),
            &from("{ipBlocks: [10.0.0.0/8]}"),
            false,
        ),
        (
            &from("{notIpBlocks: [10.1.0.0/16]}"),
            &from("{ipBlocks: [10.2.0.0/16]}"),
            true,
        ),
        (
            &from("{ipBlocks: [\"::/0\"]}"),
            &from("{ipBlocks: [0.0.0.0/0]}"),
            false,
        ),
    ];
    for (outer, inner, covered) in cases {
        assert_eq!(all_covered(&of(outer), &of(inner)), covered, "{outer} of {inner}");
    }
}

#[test]
fn what_can_never_match() {
    let cases = [
        (
            from("{principals: [cluster.local/ns/shop/sa/web], namespaces: [other]}"),
            true,
        ),
        (
            from("{principals: [cluster.local/ns/shop/sa/web], namespaces: [shop]}"),
            false,
        ),
        (from("{principals: [shop/web]}"), true),
        (from("{namespaces: [shop], notPrincipals: [\"*\"]}"), true),
        (from("{serviceAccounts: [web], notServiceAccounts: [web]}"), true),
        (from("{ipBlocks: [10.1.0.0/16], notIpBlocks: [10.0.0.0/8]}"), true),
        (
            from("{ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}"),
            false,
        ),
        (from("{notIpBlocks: [0.0.0.0/0, \"::/0\"]}"), true),
        (
            "{to: [{operation: {ports: [\"80\"], notPorts: [\"80\"]}}]}".to_owned(),
            true,
        ),
        (
            "{to: [{operation: {ports: [\"80\"]}}], when: [{key: destination.port, values: [\"81\"]}]}"
                .to_owned(),
            true,
        ),
        (
            "{to: [{operation: {ports: [\"80\"], methods: [GET]}}]}".to_owned(),
            true,
        ),
        ("{}".to_owned(), false),
    ];
    for (text, never) in cases {
        assert_eq!(all_empty(&of(&text)), never, "{text}");
    }
}

#[test]
fn http_is_erased_from_a_deny() {
    let deny = |text: &str| cubes(&rule(text), Action::Deny, "shop", &own()).expect("small");
    assert!(
        deny("{to: [{operation: {methods: [GET], ports: [\"80\"]}}]}")[0]
            .covers(&of("{to: [{operation: {ports: [\"80\"]}}]}")[0])
    );
    assert!(deny("{to: [{operation: {methods: [GET]}}]}").is_empty());
    assert!(deny("{when: [{key: \"request.headers[a]\", values: [b]}]}").is_empty());
    assert_eq!(
        deny("{to: [{operation: {methods: [GET]}}, {operation: {ports: [\"80\"]}}]}").len(),
        1
    );
}

/// A connection, as rules see it.
#[derive(Clone, Debug)]
struct Connection {
    principal: Option<(&'static str, &'static str, &'static str)>,
    ip: IpAddr,
    port: u16,
}

/// Whether a rule matches, read naively.
fn matches(rule: &Rule, connection: &Connection) -> bool {
    let principal = connection
        .principal
        .map(|(domain, namespace, account)| format!("{domain}/ns/{namespace}/sa/{account}"));
    let namespace = connection.principal.map_or("", |(_, namespace, _)| namespace);
    let text = |pattern: &str, value: &str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !value.is_empty(),
        (Some(suffix), _) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => value == pattern,
    };
    let account = |account: &ServiceAccountRef| {
        connection.principal.is_some_and(|(_, namespace, name)| {
            account.namespace.as_deref().unwrap_or("shop") == namespace && account.name == name
        })
    };
    fn both<T>(lists: &Matches<T>, holds: impl Fn(&T) -> bool) -> bool {
        (lists.any.is_empty() || lists.any.iter().any(&holds)) && !lists.none.iter().any(&holds)
    }
    let principals = |lists: &Matches<String>| {
        both(lists, |pattern| {
            text(pattern, principal.as_deref().unwrap_or_default())
        })
    };
    let namespaces = |lists: &Matches<String>| both(lists, |pattern| text(pattern, namespace));
    let addresses = |lists: &Matches<IpBlock>| both(lists, |block| block.contains(connection.ip));
    let ports = |lists: &Matches<u16>| both(lists, |port| *port == connection.port);
    let source = |source: &Source| {
        principals(&source.principals)
            && namespaces(&source.namespaces)
            && both(&source.service_accounts, account)
            && addresses(&source.ip_blocks)
    };
    (rule.from.is_empty() || rule.from.iter().any(source))
        && (rule.to.is_empty() || rule.to.iter().any(|operation| ports(&operation.ports)))
        && rule.when.iter().all(|condition| match &condition.test {
            Test::SourceIp(lists) => addresses(lists),
            Test::SourceNamespace(lists) => namespaces(lists),
            Test::SourcePrincipal(lists) => principals(lists),
            Test::SourceServiceAccount(lists) => both(lists, account),
            Test::DestinationPort(lists) => ports(lists),
            _ => false,
        })
}

fn connections() -> Vec<Connection> {
    let mut found = Vec::new();
    let names = ["a", "ab", "b"];
    let mut principals = vec![None];
    for domain in ["d", "e"] {
        for namespace in names {
            principals.extend(names.map(|account| Some((domain, namespace, account))));
        }
    }
    for principal in principals {
        for ip in ["10.1.0.1", "10.2.0.1", "11.0.0.1", "fd00::1"] {
            for port in [80, 81, 82] {
                found.push(Connection {
                    principal,
                    ip: ip.parse().expect("an address"),
                    port,
                });
            }
        }
    }
    found
}

fn lists<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Matches<T>> {
    let some = prop::collection::vec(prop::sample::select(values), 0..3);
    (some.clone(), some).prop_map(|(any, none)| Matches {
        any,
        none,
        ..Matches::default()
    })
}

fn texts(values: &[&str]) -> impl Strategy<Value = Matches<String>> + use<> {
    lists(values.iter().map(|text| (*text).to_owned()).collect())
}

const PRINCIPALS: [&str; 9] = [
    "*",
    "d/ns/a/sa/a",
    "d/ns/ab/sa/b",
    "d/*",
    "d/ns/a*",
    "d/ns/a/*",
    "*/sa/a",
    "*b",
    "d/a",
];
const NAMESPACES: [&str; 6] = ["*", "a", "ab", "a*", "*b", "c"];

fn accounts() -> impl Strategy<Value = Matches<ServiceAccountRef>> {
    let account = |namespace: Option<&str>, name: &str| ServiceAccountRef {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    lists(vec![
        account(Some("a"), "a"),
        account(Some("ab"), "b"),
        account(None, "a"),
    ])
}

fn blocks() -> impl Strategy<Value = Matches<IpBlock>> {
    let block = |address: &str, length| IpBlock {
        address: address.parse().expect("an address"),
        length,
    };
    lists(vec![
        block("10.0.0.0", 8),
        block("10.1.0.0", 16),
        block("0.0.0.0", 0),
        block("::", 0),
        block("11.0.0.1", 32),
    ])
}

fn rules() -> impl Strategy<Value = Rule> {
    let source = (texts(&PRINCIPALS), texts(&NAMESPACES), accounts(), blocks()).prop_map(
        |(principals, namespaces, service_accounts, ip_blocks)| Source {
            principals,
            namespaces,
            service_accounts,
            ip_blocks,
            ..Source::default()
        },
    );
    // An entry that asks for nothing cannot be written.
    let source = source.prop_filter("empty", super::has_layer_4);
    let operation = lists(vec![80, 81, 82]).prop_map(|ports| objects::Operation {
        ports,
        ..objects::Operation::default()
    });
    let operation = operation.prop_filter("empty", |operation| !operation.ports.is_empty());
    let condition = prop_oneof![
        lists(vec![80, 81, 82]).prop_map(Test::DestinationPort),
        texts(&NAMESPACES).prop_map(Test::SourceNamespace),
        texts(&PRINCIPALS).prop_map(Test::SourcePrincipal),
        accounts().prop_map(Test::SourceServiceAccount),
        blocks().prop_map(Test::SourceIp),
    ];
    let condition = condition.prop_map(|test| objects::Condition {
        key: "k".to_owned(),
        test,
    });
    (
        prop::collection::vec(source, 0..3),
        prop::collection::vec(operation, 0..2),
        prop::collection::vec(condition, 0..2),
    )
        .prop_map(|(from, to, when)| Rule {
            from,
            to,
            when,
            ..Rule::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The seed of a failure is printed with it.
    #[test]
    fn it_is_never_wrong(outer in rules(), inner in rules()) {
        let of = |rule: &Rule| cubes(rule, Action::Allow, "shop", &own()).expect("small");
        let (wide, narrow) = (of(&outer), of(&inner));
        let covered = all_covered(&wide, &narrow);
        let empty = all_empty(&narrow);
        for connection in connections() {
            let hit = matches(&inner, &connection);
            prop_assert!(!(covered && hit) || matches(&outer, &connection), "{:?}", connection);
            prop_assert!(!(empty && hit), "{:?}", connection);
            let caller = match connection.principal {
                Some((domain, namespace, account)) =>
                    Cube::identified(&format!("{domain}/ns/{namespace}/sa/{account}"), Some(connection.port)),
                None => Cube::plaintext(Some(connection.port)),
            };
            prop_assert!(!hit || may_meet(&narrow, &caller), "{:?}", connection);
            let surely = narrow.iter().any(|cube| cube.covers(&caller));
            prop_assert!(!surely || hit, "{:?}", connection);
        }
        prop_assert!(all_covered(&narrow, &narrow));
    }
}

#[test]
fn the_generator_finds_both_answers() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut covered, mut empty) = (0, 0);
    for _ in 0..2000 {
        let mut rule = || rules().new_tree(&mut runner).expect("a rule").current();
        let (outer, inner) = (rule(), rule());
        let of = |rule: &Rule| cubes(rule, Action::Allow, "shop", &own()).expect("small");
        let narrow = of(&inner);
        empty += usize::from(all_empty(&narrow));
        covered += usize::from(!all_empty(&narrow) && all_covered(&of(&outer), &narrow));
    }
    assert!(covered > 50 && empty > 50, "{covered} {empty}");
}
