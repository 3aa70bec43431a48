//! Decisions name the objects that users wrote.

use proto::origin;

use super::*;
use crate::policy::{Effect, ObjectKind};

fn object(kind: &str, name: &str, generation: i64) -> origin::Origin {
    origin::Origin {
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        generation,
        ..Default::default()
    }
}

fn extension(name: &str, type_url: &str, value: Vec<u8>) -> proto::workload::Extension {
    proto::workload::Extension {
        name: name.to_owned(),
        config: Some(prost_types::Any {
            type_url: type_url.to_owned(),
            value,
        }),
    }
}

fn with_origin(mut policy: message::Authorization, origin: &origin::Origin) -> message::Authorization {
    policy.extensions.push(extension(
        origin::ORIGIN_EXTENSION,
        origin::ORIGIN_TYPE_URL,
        origin.encode_to_vec(),
    ));
    policy
}

/// Asks about a connection to a port of a workload with these `PeerAuthentication`s.
fn ask_with(
    snapshot: &Snapshot,
    listed: &[&str],
    peer_authentication: &origin::PeerAuthenticationOrigin,
    port: u16,
) -> Decision {
    let mut raw = pod("shop", "cart", &["10.0.0.1"]);
    raw.authorization_policies = listed.iter().map(|key| (*key).to_owned()).collect();
    raw.extensions.push(extension(
        origin::PEER_AUTHENTICATION_EXTENSION,
        origin::PEER_AUTHENTICATION_TYPE_URL,
        peer_authentication.encode_to_vec(),
    ));
    let connection = Connection {
        peer: None,
        source_ip: ip("10.0.1.7"),
        workload: &read_pod(raw),
        destination: SocketAddr::new(ip("10.0.0.1"), port),
    };
    authorize(&connection, snapshot)
}

#[test]
fn a_policy_is_named_by_its_object_generation_and_rule() {
    let nothing = || rule(&[&[message::Match::default()]]);
    let origin = origin::Origin {
        rules: vec![2, 5],
        ..object("AuthorizationPolicy", "written", 7)
    };
    for (action, sentence) in [
        (
            Action::Deny,
            "denied by rule 5 of DENY policy shop/written (generation 7)",
        ),
        (
            Action::Allow,
            "allowed by rule 5 of ALLOW policy shop/written (generation 7)",
        ),
    ] {
        let sent = policy("shop/sent", Scope::Namespace, action, vec![nothing(), rule(&[])]);
        let reason = ask(&synced(&[with_origin(sent, &origin)]), &[], Some(CLIENT)).reason;
        assert_eq!(reason.to_string(), sentence);
        let named = reason.policy().unwrap();
        assert_eq!(
            (&*named.key, named.name().as_str()),
            ("shop/sent", "shop/written")
        );
        assert_eq!(
            (named.kind(), reason.rule()),
            (Some(ObjectKind::AuthorizationPolicy), Some(5))
        );
    }
    // A rule that the origin does not tell keeps the policy's number; no generation, no remark.
    let origin = object("AuthorizationPolicy", "written", 0);
    let sent = policy(
        "shop/sent",
        Scope::Namespace,
        Action::Deny,
        vec![nothing(), rule(&[])],
    );
    assert_eq!(
        ask(&synced(&[with_origin(sent, &origin)]), &[], Some(CLIENT))
            .reason
            .to_string(),
        "denied by rule 1 of DENY policy shop/written"
    );
}

#[test]
fn unread_origins_are_as_if_they_were_not_there() {
    let sent = policy("shop/sent", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    let good = object("AuthorizationPolicy", "written", 7);
    let of_kind = |kind: &str| object(kind, "written", 7);
    let nameless = object("AuthorizationPolicy", "", 7);
    let placeless = origin::Origin {
        namespace: String::new(),
        ..good.clone()
    };
    let mut unread = vec![
        with_origin(sent.clone(), &of_kind("Gateway")),
        with_origin(sent.clone(), &nameless),
        with_origin(sent.clone(), &placeless),
    ];
    let (name, type_url) = (origin::ORIGIN_EXTENSION, origin::ORIGIN_TYPE_URL);
    for other in [
        extension("somebody.else/origin", type_url, good.encode_to_vec()),
        extension(name, "type.googleapis.com/other", good.encode_to_vec()),
        extension(name, type_url, vec![0xff]),
        proto::workload::Extension {
            name: name.to_owned(),
            config: None,
        },
    ] {
        let mut sent = sent.clone();
        sent.extensions.push(other);
        unread.push(sent);
    }
    for sent in unread {
        let reason = ask(&synced(&[sent]), &[], Some(CLIENT)).reason;
        assert_eq!(reason.to_string(), "denied by rule 0 of DENY policy shop/sent");
        assert_eq!(reason.policy().unwrap().kind(), None);
    }
}

#[test]
fn strict_names_the_peer_authentication_of_the_port() {
    let peer_authentication = origin::PeerAuthenticationOrigin {
        base: Some(object("PeerAuthentication", "default", 2)),
        by_port: Some(object("PeerAuthentication", "ports", 3)),
        ports: vec![9090, 8080, 70_000, 9090],
    };
    let snapshot = synced(&[strict()]);
    let ask =
        |snapshot: &Snapshot, port| ask_with(snapshot, &[STRICT], &peer_authentication, port).to_string();
    let sentence = |name: &str, generation: u32, remark: &str| {
        format!(
            "PeerAuthentication requires mTLS (shop/{name}, generation {generation}{remark}); the caller presented \
             no identity; would be allowed if the caller used mTLS (PeerAuthentication shop/{name} (generation \
             {generation}))"
        )
    };
    assert_eq!(ask(&snapshot, 80), sentence("default", 2, ""));
    assert_eq!(ask(&snapshot, 8080), sentence("ports", 3, ""));
    assert_eq!(ask(&snapshot, 9090), sentence("ports", 3, ""));
    // The policy itself has not come, but whose it is was told.
    assert_eq!(
        ask(&synced(&[]), 80),
        sentence("default", 2, ", not received yet")
    );
    let reason = ask_with(&snapshot, &[STRICT], &peer_authentication, 80).reason;
    let named = reason.policy().unwrap();
    assert_eq!(
        (&*named.key, named.kind()),
        (STRICT, Some(ObjectKind::PeerAuthentication))
    );
    assert_eq!(reason.rule(), None);
    let kinds =
        [ObjectKind::AuthorizationPolicy, ObjectKind::PeerAuthentication].map(|kind| kind.to_string());
    assert_eq!(kinds, ["AuthorizationPolicy", "PeerAuthentication"]);
}

#[test]
fn a_policy_made_of_one_peer_authentication_names_it_where_the_workload_does_not() {
    let key = "shop/converted_peer_authentication_cart";
    let mut converted = strict();
    (converted.namespace, converted.name) = ("shop".into(), "converted_peer_authentication_cart".into());
    let converted = with_origin(converted, &object("PeerAuthentication", "cart", 1));
    let reason = ask(&synced(&[converted]), &[key], None).reason;
    assert_eq!(
        reason.to_string(),
        "PeerAuthentication requires mTLS (shop/cart, generation 1); the caller presented no identity"
    );
}

#[test]
fn what_is_not_enforced_is_said_of_every_decision_in_scope() {
    let part = |rule, effect: origin::Effect, attributes: &[&str]| origin::NotEnforced {
        rule,
        attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
        effect: effect.into(),
    };
    let origin = origin::Origin {
        not_enforced: vec![
            part(0, origin::Effect::EnforcedWithout, &["methods", "paths"]),
            part(1, origin::Effect::NoEffect, &["hosts"]),
            part(2, origin::Effect::RuleOmitted, &["request.headers[x]"]),
            part(3, origin::Effect::Unspecified, &["unread"]),
        ],
        ..object("AuthorizationPolicy", "http", 4)
    };
    let http = policy("shop/http", Scope::WorkloadSelector, Action::Deny, vec![]);
    let snapshot = synced(&[with_origin(http, &origin)]);
    let decision = ask(&snapshot, &["shop/http"], Some(CLIENT));
    assert!(decision.is_allowed());
    let said: Vec<String> = decision.not_enforced.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "methods, paths of rule 0 of shop/http (generation 4) is not enforced: the rule is enforced without it and \
             may deny more than it says",
            "hosts of rule 1 of shop/http (generation 4) is not enforced: nothing of the rule is left and it denies \
             nothing",
            "request.headers[x] of rule 2 of shop/http (generation 4) is not enforced: the rule is left out and allows \
             nothing",
        ]
    );
    assert_eq!(decision.not_enforced[1].effect, Effect::NoEffect);
    assert!(
        ask(&snapshot, &[], Some(CLIENT)).not_enforced.is_empty(),
        "only in its scope"
    );
    // However much is not enforced, a decision says a bounded part of it.
    let many = origin::Origin {
        not_enforced: vec![part(0, origin::Effect::NoEffect, &["paths"; 99]); 999],
        ..origin
    };
    let http = policy("shop/http", Scope::Namespace, Action::Deny, vec![]);
    let decision = ask(&synced(&[with_origin(http, &many)]), &[], Some(CLIENT));
    assert_eq!(decision.not_enforced.len(), MAX_NOT_ENFORCED);
    let attributes = &decision.not_enforced[0].attributes;
    assert_eq!(attributes.len(), crate::policy::MAX_NOT_ENFORCED_ATTRIBUTES);
}

#[test]
fn a_dry_run_is_named_by_its_object_and_rule() {
    let origin = origin::Origin {
        rules: vec![3],
        ..object("AuthorizationPolicy", "written", 2)
    };
    let mut tried = policy("shop/sent", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    tried.dry_run = true;
    let decision = ask(&synced(&[with_origin(tried, &origin)]), &[], Some(CLIENT));
    let [dry_run] = &decision.dry_run[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(
        (dry_run.policy.name().as_str(), dry_run.rule, dry_run.verdict),
        ("shop/written", Some(3), Verdict::Deny)
    );
}

#[test]
fn many_allow_policies_are_counted_and_the_first_are_named() {
    let nobody = |number| {
        policy(
            &format!("shop/p{number:02}"),
            Scope::Namespace,
            Action::Allow,
            vec![],
        )
    };
    let sentence = |count| {
        let policies: Vec<_> = (0..count).map(nobody).collect();
        ask(&synced(&policies), &[], Some(CLIENT)).reason.to_string()
    };
    assert_eq!(
        sentence(3),
        "three ALLOW policies select this workload and none matched: shop/p00, shop/p01, shop/p02"
    );
    let names =
        "shop/p00, shop/p01, shop/p02, shop/p03, shop/p04, shop/p05, shop/p06, shop/p07, shop/p08, shop/p09";
    assert_eq!(
        sentence(10),
        format!("ten ALLOW policies select this workload and none matched: {names}")
    );
    assert_eq!(
        sentence(12),
        format!("12 ALLOW policies select this workload and none matched: {names} and 2 more")
    );
}

#[test]
fn a_policy_that_the_control_plane_closed_says_why() {
    let closed = |kind: &str, name: &str| origin::Origin {
        closed_because: "spec.selector.matchLabels.a: must be a string".to_owned(),
        ..object(kind, name, 4)
    };
    let everything = |name: &str, origin: &origin::Origin| {
        let deny = policy(name, Scope::Namespace, Action::Deny, vec![rule(&[])]);
        with_origin(deny, origin)
    };
    let old = closed("AuthorizationPolicy", "old");
    let snapshot = synced(&[everything("shop/old", &old)]);
    let decision = ask(&snapshot, &[], Some(CLIENT));
    assert_eq!(decision.reason.code(), "policy_not_understood");
    assert_eq!(decision.reason.rule(), None, "none of what its author wrote");
    assert_eq!(
        decision.reason.to_string(),
        "policy shop/old (generation 4) applies here but was not understood, so everything is refused: \
         spec.selector.matchLabels.a: must be a string"
    );
    // None of its rules is told as one that the author wrote. A closed PeerAuthentication only demands mTLS.
    let strict_of = |closed: origin::Origin| everything("shop/converted_peer_authentication_old", &closed);
    let snapshot = synced(&[
        everything("shop/old", &old),
        strict_of(closed("PeerAuthentication", "old")),
    ]);
    let connection = Connection {
        peer: None,
        source_ip: ip("10.0.1.7"),
        workload: &read_pod(pod("shop", "cart", &["10.0.0.1"])),
        destination: "10.0.0.1:8080".parse().unwrap(),
    };
    let explanation = explain(&connection, &snapshot);
    let [mtls, other] = &explanation.policies[..] else {
        panic!("{explanation:?}");
    };
    assert!(
        matches!(&mtls.outcome, PolicyOutcome::Tried { matched: Some(0), .. }),
        "{mtls:?}"
    );
    assert!(
        matches!(&other.outcome, PolicyOutcome::NotUnderstood { reason } if reason.contains("must be a string")),
        "{other:?}"
    );
    // Tried only, it says the same.
    let mut tried = policy("shop/old", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    tried.dry_run = true;
    let decision = ask(&synced(&[with_origin(tried, &old)]), &[], Some(CLIENT));
    let [dry_run] = &decision.dry_run[..] else {
        panic!("{decision:?}");
    };
    assert_eq!((dry_run.verdict, dry_run.rule), (Verdict::Deny, None));
    assert!(
        dry_run
            .not_understood
            .as_ref()
            .is_some_and(|why| why.contains("must be a string"))
    );
    // However much it says, a bounded part of it is kept.
    let endless = origin::Origin {
        closed_because: "ü".repeat(99_999),
        ..old
    };
    let decision = ask(&synced(&[everything("shop/old", &endless)]), &[], Some(CLIENT));
    assert!(decision.reason.to_string().chars().count() < crate::policy::MAX_CLOSED_BECAUSE + 100);
}
