//! Aliases of the trust domain, and policies about algorithms.

use mesh::Identity;
use tls::{CompliancePolicy, ConfigCache, HandshakeError, Trust, WorkloadCertificate};
use tokio::io::duplex;

use crate::support::{authority, certificate, id};

async fn meet(
    client: (&WorkloadCertificate, &ConfigCache),
    accepted: &[Identity],
    server: (&WorkloadCertificate, &ConfigCache),
) -> Result<(Identity, Identity, String), HandshakeError> {
    let from = client.1.client(client.0, accepted);
    let to = server.1.server(server.0);
    let (a, b) = duplex(1 << 16);
    let (one, other) = tokio::join!(tls::connect(a, &from), tls::accept(b, &to));
    let (stream, seen_by_client) = one?;
    let (_, seen_by_server) = other?;
    let cipher = stream.cipher().unwrap_or_default();
    Ok((seen_by_client.identity, seen_by_server.identity, cipher))
}

#[tokio::test]
async fn peers_of_an_alias_are_accepted_under_their_own_name() {
    let authority = authority();
    let own = certificate(&authority, &id("a"));
    let renamed = Identity::new("old.domain", "demo", "b");
    let alias = certificate(&authority, &renamed);
    let foreign = certificate(&authority, &Identity::new("foreign.domain", "demo", "b"));
    let plain = ConfigCache::new();
    let here = ConfigCache::with(Trust::new(["old.domain".to_owned()]), CompliancePolicy::None);
    let there = ConfigCache::with(Trust::new(["cluster.local".to_owned()]), CompliancePolicy::None);

    // As a client, and as a server; discovery names it by the current trust domain, or by the old one.
    for named in [id("b"), renamed.clone()] {
        let (server, client, _) = meet((&own, &here), &[named], (&alias, &there)).await.unwrap();
        assert_eq!((server, client), (renamed.clone(), id("a")));
    }
    let (_, client, _) = meet((&alias, &there), &[id("a")], (&own, &here)).await.unwrap();
    assert_eq!(client, renamed, "it is not renamed");

    // Another account of the alias is not the one that was asked for, and another trust domain is none of ours.
    let error = meet((&own, &here), &[id("c")], (&alias, &there))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "wrong_identity");
    let foreign_trusts = ConfigCache::with(Trust::new(["cluster.local".to_owned()]), CompliancePolicy::None);
    let error = meet((&own, &here), &[id("b")], (&foreign, &foreign_trusts))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "wrong_trust_domain");
    let error = meet((&own, &plain), &[id("b")], (&alias, &there))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "wrong_trust_domain");
}

#[tokio::test]
async fn a_policy_selects_the_key_exchange() {
    let authority = authority();
    let (a, b) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("b")),
    );
    let with = |policy| ConfigCache::with(Trust::default(), policy);
    let any = with(CompliancePolicy::None);
    let (quantum, fips) = (with(CompliancePolicy::PostQuantum), with(CompliancePolicy::Fips));
    for (client, server, expected) in [
        (&any, &any, "X25519MLKEM768"),
        (&quantum, &any, "X25519MLKEM768"),
        (&any, &quantum, "X25519MLKEM768"),
        (&fips, &fips, "secp256r1"),
        // A hello retry: the first key share is not the one.
        (&any, &fips, "secp256r1"),
        (&fips, &any, "secp256r1"),
    ] {
        let (_, _, cipher) = meet((&a, client), &[id("b")], (&b, server)).await.unwrap();
        assert_eq!(cipher, format!("{expected} TLS13_AES_256_GCM_SHA384"));
    }
    for (client, server) in [(&quantum, &fips), (&fips, &quantum)] {
        let error = meet((&a, client), &[id("b")], (&b, server)).await.unwrap_err();
        assert!(
            matches!(error.code(), "incompatible" | "peer_alert_handshake_failure"),
            "{error}"
        );
    }
}

#[test]
fn policies_have_names() {
    for (text, policy) in [
        ("", CompliancePolicy::None),
        ("pqc", CompliancePolicy::PostQuantum),
        ("fips", CompliancePolicy::Fips),
    ] {
        assert_eq!(text.parse(), Ok(policy));
    }
    let error = "fips140".parse::<CompliancePolicy>().unwrap_err();
    assert_eq!(error.to_string(), "`pqc`, `fips`, or nothing");
}

#[test]
fn a_configuration_is_made_once_for_a_certificate_and_again_for_the_next() {
    let authority = authority();
    let (first, renewed) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("a")),
    );
    let cache = ConfigCache::with(Trust::default(), CompliancePolicy::None);
    let server = cache.server(&first);
    let client = cache.client(&first, &[id("b")]);
    assert!(server.is_same(&cache.server(&first)));
    assert!(client.is_same(&cache.client(&first, &[id("b")])));
    // Trust that changes is looked up, not built in.
    cache.trust().set_roots(first.roots().clone());
    assert!(server.is_same(&cache.server(&first)));
    assert!(!server.is_same(&cache.server(&renewed)));
    assert_eq!(cache.server(&renewed).certificate().serial(), renewed.serial());
    cache.forget(&first);
    assert_eq!(cache.len(), 1);
}
