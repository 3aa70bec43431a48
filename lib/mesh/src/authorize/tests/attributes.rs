use super::*;

#[test]
fn the_empty_cases() {
    let nothing = message::Match::default;
    let table = [
        ("a policy without rules never matches", vec![], false),
        ("a rule without clauses matches", vec![rule(&[])], true),
        ("a clause without matches matches", vec![rule(&[&[]])], true),
        ("an empty match never matches", vec![rule(&[&[nothing()]])], false),
        (
            "one rule of two is enough",
            vec![rule(&[&[nothing()]]), rule(&[])],
            true,
        ),
        (
            "one clause of two is not",
            vec![rule(&[&[], &[nothing()]])],
            false,
        ),
    ];
    for (what, rules, is_match) in table {
        for peer in [None, Some(CLIENT)] {
            let allowed = verdict(Action::Allow, rules.clone(), peer) == Verdict::Allow;
            let denied = verdict(Action::Deny, rules.clone(), peer) == Verdict::Deny;
            assert_eq!((allowed, denied), (is_match, is_match), "{what}");
        }
    }
}

#[test]
fn every_kind_of_attribute() {
    let m = message::Match::default;
    let principal = |value| message::Match {
        principals: vec![value],
        ..m()
    };
    let not_principal = |value| message::Match {
        not_principals: vec![value],
        ..m()
    };
    let namespace = |value| message::Match {
        namespaces: vec![value],
        ..m()
    };
    let not_namespace = |value| message::Match {
        not_namespaces: vec![value],
        ..m()
    };
    let prefix = |value: &str| text(MatchType::Prefix(value.to_owned()));
    let suffix = |value: &str| text(MatchType::Suffix(value.to_owned()));
    // What it says; whether it holds for the client; whether it holds without identity.
    let table = [
        (principal(exact("cluster.local/ns/web/sa/client")), true, false),
        (
            principal(exact("spiffe://cluster.local/ns/web/sa/client")),
            false,
            false,
        ),
        (principal(exact("cluster.local/ns/web/sa/other")), false, false),
        (principal(prefix("cluster.local/")), true, false),
        (principal(prefix("")), true, false),
        (principal(suffix("/sa/client")), true, false),
        (principal(suffix("/sa/clien")), false, false),
        (principal(presence()), true, false),
        (not_principal(presence()), false, true),
        (
            not_principal(exact("cluster.local/ns/web/sa/client")),
            false,
            true,
        ),
        (not_principal(exact("other")), true, true),
        (namespace(exact("web")), true, false),
        (namespace(exact("")), false, false),
        (namespace(prefix("we")), true, false),
        (namespace(suffix("eb")), true, false),
        (namespace(presence()), true, false),
        (not_namespace(exact("web")), false, true),
        (not_namespace(exact("shop")), true, true),
        (
            message::Match {
                service_accounts: vec![account("web", "client")],
                ..m()
            },
            true,
            false,
        ),
        (
            message::Match {
                service_accounts: vec![account("web", "clien.")],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                service_accounts: vec![account("shop", "client")],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_service_accounts: vec![account("web", "client")],
                ..m()
            },
            false,
            true,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.1.0", 24)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.2.0", 24)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.2.0", 24), block("10.0.1.7", 32)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                not_source_ips: vec![block("10.0.1.7", 32)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_source_ips: vec![block("fd00::", 8)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ips: vec![block("10.0.0.1", 32)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ips: vec![block("10.0.0.2", 32)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_destination_ips: vec![block("0.0.0.0", 0)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                destination_ports: vec![80, 8080],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ports: vec![80],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_destination_ports: vec![80],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                not_destination_ports: vec![80, 8080],
                ..m()
            },
            false,
            false,
        ),
        // Different attributes are AND-ed.
        (
            message::Match {
                destination_ports: vec![8080],
                ..namespace(exact("web"))
            },
            true,
            false,
        ),
        (
            message::Match {
                destination_ports: vec![80],
                ..namespace(exact("web"))
            },
            false,
            false,
        ),
        (
            message::Match {
                not_namespaces: vec![exact("web")],
                ..principal(presence())
            },
            false,
            false,
        ),
    ];
    for (one, with_identity, without) in table {
        let found = (matches(one.clone(), Some(CLIENT)), matches(one.clone(), None));
        assert_eq!(found, (with_identity, without), "{one:?}");
    }
}

#[test]
fn a_source_in_mapped_form_is_the_same_source() {
    let one = message::Match {
        source_ips: vec![block("10.0.1.0", 24)],
        ..Default::default()
    };
    let snapshot = synced(&[policy(
        "shop/p",
        Scope::Namespace,
        Action::Allow,
        vec![rule(&[&[one]])],
    )]);
    let workload = read_pod(pod("shop", "cart", &["10.0.0.1"]));
    let destination = "[::ffff:10.0.0.1]:8080".parse().unwrap();
    let connection = Connection {
        peer: None,
        source_ip: ip("::ffff:10.0.1.7"),
        workload: &workload,
        destination,
    };
    assert!(authorize(&connection, &snapshot).is_allowed());
}

fn exact(value: &str) -> message::StringMatch {
    text(MatchType::Exact(value.to_owned()))
}

/// The verdict of one policy of the workload's namespace with these rules.
fn verdict(action: Action, rules: Vec<message::Rule>, peer: Option<&str>) -> Verdict {
    ask(
        &synced(&[policy("shop/p", Scope::Namespace, action, rules)]),
        &[],
        peer,
    )
    .verdict
}

/// Whether a rule of one match lets the caller in.
fn matches(one: message::Match, peer: Option<&str>) -> bool {
    verdict(Action::Allow, vec![rule(&[&[one]])], peer) == Verdict::Allow
}
