use proptest::prelude::*;
use prost::Message;
use proto::security as message;
use proto::security::string_match::MatchType;

use super::*;
use crate::testing::raw_ip;

fn text(match_type: MatchType) -> message::StringMatch {
    message::StringMatch {
        match_type: Some(match_type),
    }
}

fn address(ip: &str, length: u32) -> message::Address {
    message::Address {
        address: raw_ip(ip).into(),
        length,
    }
}

/// A policy that uses every field.
fn full() -> message::Authorization {
    let account = || message::ServiceAccountMatch {
        namespace: "ns".into(),
        service_account: "sa".into(),
    };
    let one = message::Match {
        namespaces: vec![text(MatchType::Exact("a".into()))],
        not_namespaces: vec![text(MatchType::Prefix("b".into()))],
        service_accounts: vec![account()],
        not_service_accounts: vec![account()],
        principals: vec![text(MatchType::Suffix("c".into()))],
        not_principals: vec![text(MatchType::Presence(()))],
        source_ips: vec![address("10.0.0.1", 8)],
        not_source_ips: vec![address("fd00::1", 64)],
        destination_ips: vec![address("10.0.0.1", 32)],
        not_destination_ips: vec![address("0.0.0.0", 0)],
        destination_ports: vec![1, 80],
        not_destination_ports: vec![65_535],
        extensions: vec![],
    };
    message::Authorization {
        name: "p".into(),
        namespace: "shop".into(),
        scope: message::Scope::WorkloadSelector.into(),
        action: message::Action::Deny.into(),
        rules: vec![message::Rule {
            clauses: vec![message::Clause { matches: vec![one] }],
        }],
        dry_run: true,
        extensions: vec![proto::workload::Extension {
            name: "x".into(),
            config: None,
        }],
    }
}

fn refused(change: impl FnOnce(&mut message::Authorization)) -> Rejected {
    let mut raw = full();
    change(&mut raw);
    Policy::decode(&raw.encode_to_vec()).unwrap_err()
}

fn refused_match(change: impl FnOnce(&mut message::Match)) -> String {
    refused(|policy| change(&mut policy.rules[0].clauses[0].matches[0])).reason
}

#[test]
fn every_field_is_read() {
    let policy = Policy::decode(&full().encode_to_vec()).unwrap();
    assert_eq!(
        (&**policy.key(), &*policy.name, &*policy.namespace),
        ("shop/p", "p", "shop")
    );
    assert_eq!(
        (policy.scope, policy.action, policy.dry_run),
        (Scope::WorkloadSelector, Action::Deny, true)
    );
    let says: Vec<_> = policy.rules()[0].clauses[0].matches()[0]
        .conditions()
        .iter()
        .map(|condition| {
            (
                condition.attribute(),
                condition.negated,
                condition.values.texts(9).join(" "),
            )
        })
        .collect();
    let says: Vec<_> = says
        .iter()
        .map(|(attribute, negated, values)| (*attribute, *negated, values.as_str()))
        .collect();
    let expected = [
        (Attribute::Namespace, false, "a"),
        (Attribute::Namespace, true, "b*"),
        (Attribute::ServiceAccount, false, "ns/sa"),
        (Attribute::ServiceAccount, true, "ns/sa"),
        (Attribute::Principal, false, "*c"),
        (Attribute::Principal, true, "*"),
        (Attribute::SourceIp, false, "10.0.0.0/8"),
        (Attribute::SourceIp, true, "fd00::/64"),
        (Attribute::DestinationIp, false, "10.0.0.1/32"),
        (Attribute::DestinationIp, true, "0.0.0.0/0"),
        (Attribute::DestinationPort, false, "1 80"),
        (Attribute::DestinationPort, true, "65535"),
    ];
    assert_eq!(says, expected);
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let has = |parts: &[&str], reason: String| {
        assert!(
            parts.iter().all(|part| reason.contains(part)),
            "{reason:?} lacks one of {parts:?}"
        );
    };
    has(&["name"], refused(|p| p.name.clear()).reason);
    has(&["namespace"], refused(|p| p.namespace = "a/b".into()).reason);
    has(&["scope 3"], refused(|p| p.scope = 3).reason);
    has(&["action 2"], refused(|p| p.action = 2).reason);
    let place = "rules[0]: clauses[0]: matches[0]";
    let unset = message::StringMatch { match_type: None };
    has(
        &[place, "namespaces[1]", "neither exact"],
        refused_match(|m| m.namespaces.push(unset.clone())),
    );
    has(
        &["not_namespaces[1]"],
        refused_match(|m| m.not_namespaces.push(unset.clone())),
    );
    has(
        &["principals[1]"],
        refused_match(|m| m.principals.push(unset.clone())),
    );
    has(
        &["not_principals[1]"],
        refused_match(|m| m.not_principals.push(unset)),
    );
    has(
        &[place, "source_ips[1]", "4 or 16"],
        refused_match(|m| m.source_ips.push(message::Address::default())),
    );
    has(
        &["not_source_ips[1]", "32 bits"],
        refused_match(|m| m.not_source_ips.push(address("1.1.1.1", 33))),
    );
    has(
        &["destination_ips[1]", "128 bits"],
        refused_match(|m| m.destination_ips.push(address("::1", 129))),
    );
    // A narrowing cast would make /8 of it.
    has(
        &["not_destination_ips[1]"],
        refused_match(|m| m.not_destination_ips.push(address("1.1.1.1", 264))),
    );
    has(
        &["destination_ports[2]", "above 65535"],
        refused_match(|m| m.destination_ports.push(65_536 + 80)),
    );
    has(
        &["not_destination_ports[1]", "no port"],
        refused_match(|m| m.not_destination_ports.push(0)),
    );
    // Half a name is none.
    let account = |namespace: &str, name: &str| message::ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: name.into(),
    };
    for nobody in [account("", ""), account("ns", ""), account("", "sa")] {
        has(
            &["service_accounts[1]"],
            refused_match(|m| m.service_accounts.push(nobody.clone())),
        );
        has(
            &["not_service_accounts[1]"],
            refused_match(|m| m.not_service_accounts.push(nobody.clone())),
        );
    }
    let extension = proto::workload::Extension {
        name: "future".into(),
        config: None,
    };
    has(
        &[place, "\"future\""],
        refused_match(|m| m.extensions.push(extension)),
    );
}

#[test]
fn a_rejection_says_what_of_the_scope_is_certain() {
    let rejected = refused(|policy| policy.action = 9);
    assert_eq!(
        (rejected.name.as_str(), rejected.scope),
        ("shop/p", Some(Scope::WorkloadSelector))
    );
    assert!(rejected.dry_run);
    assert_eq!(refused(|policy| policy.scope = 9).scope, None);
    // A field beside the scope may change what the scope means; one in a rule may not.
    let mut bytes = full().encode_to_vec();
    bytes.extend(field(99, b"x"));
    let rejected = Policy::decode(&bytes).unwrap_err();
    assert_eq!((rejected.scope, rejected.dry_run), (None, false));
    let mut bytes = full().encode_to_vec();
    bytes.extend(nested(&[5, 1, 2], &field(99, b"x")));
    let rejected = Policy::decode(&bytes).unwrap_err();
    assert_eq!(
        (rejected.scope, rejected.dry_run),
        (Some(Scope::WorkloadSelector), true)
    );
    // Both: the outer one counts, though it comes last.
    bytes.extend(field(99, b"x"));
    assert_eq!(Policy::decode(&bytes).unwrap_err().scope, None);
    let rejected = Policy::decode(&[0xff]).unwrap_err();
    assert_eq!((rejected.name.as_str(), rejected.scope), ("", None));
}

#[test]
fn fields_without_a_meaning_are_found_at_every_depth() {
    let table: [(&[u32], u32, &str); 12] = [
        (&[], 8, "field 8 of Authorization"),
        (&[5], 2, "rules: field 2 of Rule"),
        (&[5, 1], 1, "rules.clauses: field 1 of Clause"),
        (&[5, 1, 2], 14, "rules.clauses.matches: field 14 of Match"),
        (
            &[5, 1, 2, 1],
            5,
            "rules.clauses.matches.namespaces: field 5 of StringMatch",
        ),
        (&[5, 1, 2, 2], 5, "not_namespaces: field 5"),
        (&[5, 1, 2, 3], 5, "principals: field 5"),
        (&[5, 1, 2, 4], 500, "not_principals: field 500"),
        (&[5, 1, 2, 5], 3, "source_ips: field 3 of Address"),
        (&[5, 1, 2, 8], 3, "not_destination_ips: field 3 of Address"),
        (
            &[5, 1, 2, 12],
            3,
            "not_service_accounts: field 3 of ServiceAccountMatch",
        ),
        (&[5, 1, 2, 4, 4], 1, "presence: field 1 of Empty"),
    ];
    for (path, number, expected) in table {
        // Of every wire type: varint, 64 bits, length-delimited, 32 bits.
        for content in [
            [tag(number, 0), vec![1]].concat(),
            [tag(number, 1), vec![0; 8]].concat(),
            field(number, b"abc"),
            [tag(number, 5), vec![0; 4]].concat(),
        ] {
            let bytes = [full().encode_to_vec(), nested(path, &content)].concat();
            let reason = Policy::decode(&bytes).unwrap_err().reason;
            assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
        }
    }
}

#[test]
fn policies_differ_when_their_rules_do() {
    let decoded = |change: fn(&mut message::Match)| {
        let mut raw = full();
        change(&mut raw.rules[0].clauses[0].matches[0]);
        Policy::decode(&raw.encode_to_vec()).unwrap()
    };
    let long = |one: &mut message::Match| one.principals = vec![text(MatchType::Exact("x".into())); 20];
    let longer = |one: &mut message::Match| one.principals = vec![text(MatchType::Exact("x".into())); 21];
    assert_eq!(decoded(|_| {}), decoded(|_| {}));
    assert_eq!(decoded(long), decoded(long));
    assert_ne!(decoded(long), decoded(longer));
    assert_ne!(
        decoded(|_| {}),
        decoded(|one| one.service_accounts[0].namespace = "other".into())
    );
}

#[test]
fn ignored_extensions_may_hold_anything() {
    let bytes = [full().encode_to_vec(), nested(&[7], &field(99, b"x"))].concat();
    assert!(Policy::decode(&bytes).is_ok());
}

#[test]
fn a_policy_too_large_is_refused() {
    let rejected = refused(|policy| policy.namespace = "x".repeat(MAX_POLICY_SIZE));
    assert!(rejected.reason.contains("at most"), "{}", rejected.reason);
}

#[test]
fn a_policy_of_the_largest_size_is_read() {
    let mut policy = full();
    policy.namespace = "x".repeat(MAX_POLICY_SIZE / 2);
    let missing = MAX_POLICY_SIZE - policy.encoded_len();
    policy.namespace += &"x".repeat(missing);
    assert_eq!(policy.encoded_len(), MAX_POLICY_SIZE);
    assert!(Policy::decode(&policy.encode_to_vec()).is_ok());
}

#[test]
fn policies_made_of_peer_authentication_are_known_by_name() {
    assert!(is_mtls_policy("istio-system/istio_converted_static_strict"));
    assert!(is_mtls_policy("shop/converted_peer_authentication_cart"));
    for other in [
        "shop/strict",
        "istio_converted_static_strict/p",
        "shop/x_istio_converted_static_strict",
        "",
    ] {
        assert!(!is_mtls_policy(other), "{other}");
    }
}

fn tag(number: u32, wire_type: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut bytes);
    bytes
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = tag(number, 2);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn nested(path: &[u32], content: &[u8]) -> Vec<u8> {
    path.iter()
        .rev()
        .fold(content.to_vec(), |inner, number| field(*number, &inner))
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Policy::decode(&bytes);
        let _ = wire::check(&bytes);
    }

    /// Damage anywhere gives another policy or a rejection, never a panic.
    #[test]
    fn damaged_bytes_are_survived(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = full().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = Policy::decode(&bytes);
    }
}
