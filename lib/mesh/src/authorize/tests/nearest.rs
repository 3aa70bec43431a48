//! The nearest miss: what it says, and that it is true.

use super::*;

fn principals(values: &[&str]) -> message::Match {
    let exact = |value: &&str| text(MatchType::Exact((*value).to_owned()));
    message::Match {
        principals: values.iter().map(exact).collect(),
        ..Default::default()
    }
}

fn ports(values: &[u32]) -> message::Match {
    message::Match {
        destination_ports: values.to_vec(),
        ..Default::default()
    }
}

fn of_namespace(action: Action, rules: Vec<message::Rule>) -> message::Authorization {
    policy("shop/p", Scope::Namespace, action, rules)
}

/// What is said to a caller of `shop/cart:8080` under these policies.
fn said(policies: &[message::Authorization], peer: Option<&str>) -> String {
    let decision = ask(&synced(policies), &[STRICT], peer);
    assert!(!decision.is_allowed());
    decision
        .nearest_miss
        .map_or_else(|| "nothing".to_owned(), |miss| miss.to_string())
}

#[test]
fn the_rule_with_the_fewest_failing_attributes_is_named() {
    let far = rule(&[&[principals(&["cluster.local/ns/a/sa/b"])], &[ports(&[9090])]]);
    let near = rule(&[
        &[principals(&["cluster.local/ns/web/sa/client"])],
        &[ports(&[9090, 9091])],
    ]);
    let allow = of_namespace(Action::Allow, vec![far.clone(), near]);
    let policies = [strict(), allow];
    assert_eq!(
        said(&policies, Some(CLIENT)),
        "would be allowed if the port were 9090 or 9091 (ALLOW policy shop/p, rule 1)"
    );
    let policies = [strict(), of_namespace(Action::Allow, vec![far])];
    assert_eq!(
        said(&policies, Some(CLIENT)),
        "would be allowed if the source were cluster.local/ns/a/sa/b and the port were 9090 (ALLOW policy shop/p, \
         rule 0)"
    );
}

/// Of several changes that are needed together, none is named with which another condition of the same match fails.
#[test]
fn a_value_that_the_match_itself_refuses_is_not_named() {
    let one = message::Match {
        not_namespaces: vec![text(MatchType::Exact("a".into()))],
        ..principals(&["cluster.local/ns/a/sa/b", "cluster.local/ns/c/sa/d"])
    };
    let policies = [
        strict(),
        of_namespace(Action::Allow, vec![rule(&[&[one], &[ports(&[9090])]])]),
    ];
    let said = said(&policies, Some(CLIENT));
    assert!(
        said.starts_with("would be allowed if the source were cluster.local/ns/c/sa/d")
            && said.contains("and the port were 9090"),
        "{said}"
    );
}

#[test]
fn values_are_bounded_and_counted() {
    let names: Vec<String> = (0..1000).map(|n| format!("cluster.local/ns/a/sa/s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let policies = [
        strict(),
        of_namespace(Action::Allow, vec![rule(&[&[principals(&names)]])]),
    ];
    assert_eq!(
        said(&policies, Some(CLIENT)),
        "would be allowed if the source were cluster.local/ns/a/sa/s0, cluster.local/ns/a/sa/s1 or \
         cluster.local/ns/a/sa/s2 (the rule lists 997 more) (ALLOW policy shop/p, rule 0)"
    );
}

#[test]
fn addresses_that_would_fit_are_named() {
    let from = |address, length| message::Match {
        source_ips: vec![block(address, length)],
        ..Default::default()
    };
    let to = message::Match {
        destination_ips: vec![block("203.9.0.0", 16)],
        ..Default::default()
    };
    for (one, named) in [
        (
            from("192.9.0.0", 16),
            "source address were in 192.9.0.0/16, such as 192.9.0.0",
        ),
        (from("192.9.0.1", 32), "source address were in 192.9.0.1/32"),
        (
            from("fd00::", 8),
            "source address were in fd00::/8, such as fd00::",
        ),
        // The very first address of all means that none is known.
        (
            from("0.0.0.0", 8),
            "source address were in 0.0.0.0/8, such as 0.0.0.1",
        ),
        (from("::", 16), "source address were in ::/16, such as ::1"),
        (to, "destination address were in 203.9.0.0/16, such as 203.9.0.0"),
    ] {
        let policies = [strict(), of_namespace(Action::Allow, vec![rule(&[&[one]])])];
        assert_eq!(
            said(&policies, Some(CLIENT)),
            format!("would be allowed if the {named} (ALLOW policy shop/p, rule 0)")
        );
    }
}

#[test]
fn a_value_that_another_policy_refuses_is_not_named() {
    let allow = of_namespace(
        Action::Allow,
        vec![rule(&[&[principals(&[
            "cluster.local/ns/a/sa/b",
            "cluster.local/ns/a/sa/c",
        ])]])],
    );
    let deny = policy(
        "shop/deny",
        Scope::Namespace,
        Action::Deny,
        vec![rule(&[&[principals(&["cluster.local/ns/a/sa/b"])]])],
    );
    assert_eq!(
        said(&[strict(), allow, deny], Some(CLIENT)),
        "would be allowed if the source were cluster.local/ns/a/sa/c (the rule lists 1 more) (ALLOW policy shop/p, \
         rule 0)"
    );
}

#[test]
fn patterns_come_with_what_was_tried() {
    let one = |match_type| {
        let one = message::Match {
            principals: vec![text(match_type)],
            ..Default::default()
        };
        said(
            &[strict(), of_namespace(Action::Allow, vec![rule(&[&[one]])])],
            Some(CLIENT),
        )
    };
    let at_end = "(ALLOW policy shop/p, rule 0)";
    assert_eq!(
        one(MatchType::Prefix("cluster.local/ns/oth".into())),
        format!(
            "would be allowed if the source were cluster.local/ns/oth*, such as cluster.local/ns/oth/sa/client {at_end}"
        )
    );
    assert_eq!(
        one(MatchType::Suffix("/sa/other".into())),
        format!(
            "would be allowed if the source were */sa/other, such as cluster.local/ns/web/sa/other {at_end}"
        )
    );
    // A part that is begun stays where it fits.
    assert_eq!(
        one(MatchType::Prefix("other.domain/ns/we".into())),
        format!(
            "would be allowed if the source were other.domain/ns/we*, such as other.domain/ns/web/sa/client {at_end}"
        )
    );
    let namespaces = message::Match {
        namespaces: vec![text(MatchType::Prefix("oth".into()))],
        ..Default::default()
    };
    assert_eq!(
        said(
            &[
                strict(),
                of_namespace(Action::Allow, vec![rule(&[&[namespaces]])])
            ],
            Some(CLIENT)
        ),
        format!(
            "would be allowed if the source were in namespace oth*, such as cluster.local/ns/oth/sa/client {at_end}"
        )
    );
    // Nobody can have such a name.
    assert_eq!(one(MatchType::Exact("other".into())), "nothing");
}

#[test]
fn strict_asks_for_mtls() {
    assert_eq!(
        said(&[strict()], None),
        format!("would be allowed if the caller used mTLS (PeerAuthentication {STRICT})")
    );
    // Where policies tell callers apart, it is said for whom it holds.
    let allow = of_namespace(
        Action::Allow,
        vec![rule(&[&[principals(&["cluster.local/ns/shop/sa/default"])]])],
    );
    assert_eq!(
        said(&[strict(), allow], None),
        format!(
            "would be allowed if the caller used mTLS, as cluster.local/ns/shop/sa/default (PeerAuthentication \
             {STRICT})"
        )
    );
    let allow = of_namespace(
        Action::Allow,
        vec![rule(&[&[principals(&["cluster.local/ns/a/sa/b"])]])],
    );
    assert_eq!(
        said(&[strict(), allow], None),
        "would be allowed if the source were cluster.local/ns/a/sa/b (ALLOW policy shop/p, rule 0)"
    );
    // The policy has not come yet, and can mean nothing else.
    assert_eq!(
        said(&[], None),
        format!("would be allowed if the caller used mTLS (PeerAuthentication {STRICT})")
    );
}

#[test]
fn the_caller_in_plaintext_is_who_is_at_its_address() {
    let allow = of_namespace(
        Action::Allow,
        vec![rule(&[&[principals(&["cluster.local/ns/web/sa/default"])]])],
    );
    let mut snapshot = synced(&[strict(), allow]);
    snapshot.apply([Change::Workload(read_pod(pod("web", "caller", &["10.0.1.7"])))]);
    let miss = ask(&snapshot, &[STRICT], None).nearest_miss.unwrap();
    let identity = Some(identity("spiffe://cluster.local/ns/web/sa/default"));
    assert_eq!(miss.differences, [Difference::Mtls { identity }]);
}

#[test]
fn a_deny_names_what_it_refuses() {
    let deny = |one| [strict(), of_namespace(Action::Deny, vec![rule(&[&[one]])])];
    let at_end = "(DENY policy shop/p, rule 0)";
    let principal = principals(&["cluster.local/ns/web/sa/client"]);
    assert_eq!(
        said(&deny(principal), Some(CLIENT)),
        format!(
            "would be allowed if the source were not cluster.local/ns/web/sa/client but \
             cluster.local/ns/web/sa/default {at_end}"
        )
    );
    assert_eq!(
        said(&deny(ports(&[8080, 8081])), Some(CLIENT)),
        format!("would be allowed if the port were not 8080 but 8082 {at_end}")
    );
    let source = message::Match {
        source_ips: vec![block("10.0.1.7", 32), block("10.0.0.0", 8)],
        ..Default::default()
    };
    assert_eq!(
        said(&deny(source), Some(CLIENT)),
        format!("would be allowed if the source address were not in 10.0.0.0/8 but 11.0.1.7 {at_end}")
    );
    let source = message::Match {
        source_ips: vec![block("10.0.1.0", 24)],
        ..Default::default()
    };
    assert_eq!(
        said(&deny(source), Some(CLIENT)),
        format!("would be allowed if the source address were not in 10.0.1.0/24 but 10.0.0.7 {at_end}")
    );
    let source = message::Match {
        source_ips: vec![block("fd00:0:0:1::", 64)],
        ..Default::default()
    };
    let connection = Connection {
        peer: None,
        source_ip: ip("fd00:0:0:1::7"),
        workload: &read_pod(pod("shop", "cart", &["fd00::1"])),
        destination: "[fd00::1]:8080".parse().unwrap(),
    };
    let policies = [of_namespace(Action::Deny, vec![rule(&[&[source]])])];
    let miss = authorize(&connection, &synced(&policies)).nearest_miss.unwrap();
    assert_eq!(
        miss.to_string(),
        format!("would be allowed if the source address were not in fd00:0:0:1::/64 but fd00::7 {at_end}")
    );
    let exact = |name: &str| text(MatchType::Exact(name.into()));
    let namespaces = message::Match {
        namespaces: vec![exact("web"), exact("default")],
        ..Default::default()
    };
    assert_eq!(
        said(&deny(namespaces), Some(CLIENT)),
        format!(
            "would be allowed if the source were not in namespace web but \
             cluster.local/ns/another-namespace/sa/client {at_end}"
        )
    );
    let not_namespace = message::Match {
        not_namespaces: vec![text(MatchType::Exact("shop".into()))],
        ..Default::default()
    };
    assert_eq!(
        said(&deny(not_namespace), Some(CLIENT)),
        format!("would be allowed if the source were in namespace shop {at_end}")
    );
    // Nothing is outside of everything.
    let everywhere = message::Match {
        source_ips: vec![block("0.0.0.0", 0)],
        ..Default::default()
    };
    assert_eq!(said(&deny(everywhere), Some(CLIENT)), "nothing");
    assert_eq!(
        said(&[of_namespace(Action::Deny, vec![rule(&[])])], None),
        "nothing"
    );
}

#[test]
fn what_passes_has_no_nearest_miss() {
    let decision = ask(&synced(&[]), &[], Some(CLIENT));
    assert!(decision.is_allowed() && decision.nearest_miss.is_none());
}
