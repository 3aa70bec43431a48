//! Two of ours: who accepts whom, and what both sides say.

use std::time::{Duration, SystemTime};

use ca::Authority;
use mesh::Identity;
use tls::{Blame, CertificateError, ConfigCache, HandshakeError, KeyAndRequest, WorkloadCertificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::{Forger, HOUR, authority, certificate, certificate_trusting, id, shake};

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let authority = authority();
    let (a, b) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("b")),
    );
    let (client, server) = shake(duplex(1 << 16), &a, &[id("other"), id("b")], &b).await;
    let ((mut client, seen_by_client), (mut server, seen_by_server)) = (client.unwrap(), server.unwrap());
    assert_eq!(seen_by_client.identity, id("b"));
    assert_eq!(seen_by_client.serial, b.serial());
    assert_eq!(seen_by_client.not_after, b.not_after());
    assert_eq!(seen_by_server.identity, id("a"));
    assert_eq!(seen_by_server.serial, a.serial());
    assert_eq!(client.alpn(), Some(&b"h2"[..]));
    assert_eq!(
        client.cipher().unwrap(),
        "X25519MLKEM768 TLS13_AES_256_GCM_SHA384"
    );

    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    // The other direction is still open.
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    text.clear();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bye");
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let (a, b) = (certificate(&ours, &id("a")), certificate(&theirs, &id("b")));
    let (client, server) = shake(duplex(1 << 16), &a, &[id("b")], &b).await;
    let (client, server) = (client.err().unwrap(), server.err().unwrap());
    assert_eq!(client, HandshakeError::UntrustedIssuer);
    assert_eq!(client.code(), "untrusted_issuer");
    assert_eq!(client.blame(), Blame::Peer);
    assert_eq!(server.code(), "peer_alert_unknown_ca");
}

#[tokio::test]
async fn a_root_of_the_same_name_is_not_the_same_root() {
    let (ours, theirs) = (Forger::new(), Forger::new());
    let (a, b) = (ours.honest(&id("a")), theirs.honest(&id("b")));
    let (client, server) = shake(duplex(1 << 16), &a, &[id("b")], &b).await;
    assert_eq!(client.err().unwrap().code(), "untrusted_issuer");
    assert_eq!(server.err().unwrap().code(), "peer_alert_unknown_ca");
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_and_hears_why() {
    let (ours, theirs) = (authority(), authority());
    let a = certificate_trusting(&theirs, &id("a"), &ours.root_pem());
    let b = certificate(&ours, &id("b"));
    let (client, server) = shake(duplex(1 << 16), &a, &[id("b")], &b).await;
    assert_eq!(server.err().unwrap(), HandshakeError::UntrustedIssuer);
    // The client's handshake was over before the server had judged: it hears it when it reads.
    let (mut client, _) = client.unwrap();
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(
        HandshakeError::from_io(&error).unwrap().code(),
        "peer_alert_unknown_ca"
    );
    assert!(
        error.to_string().contains("does not trust the authority"),
        "{error}"
    );
    // And again, rather than a silent end.
    assert!(client.read(&mut [0; 8]).await.is_err());
    assert!(client.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_server_that_is_somebody_else_is_refused() {
    let authority = authority();
    let (a, b) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("b")),
    );
    for accepted in [&[id("c"), id("d")][..], &[]] {
        let (client, server) = shake(duplex(1 << 16), &a, accepted, &b).await;
        let client = client.err().unwrap();
        let expected = HandshakeError::WrongIdentity {
            expected: accepted.to_vec(),
            got: id("b"),
        };
        assert_eq!(client, expected);
        assert_eq!(client.code(), "wrong_identity");
        assert_eq!(server.err().unwrap().code(), "peer_alert_certificate_unknown");
    }
}

#[tokio::test]
async fn the_trust_domains_must_be_equal() {
    let authority = authority();
    let other = Identity::new("other.domain", "demo", "b");
    let (a, b) = (certificate(&authority, &id("a")), certificate(&authority, &other));

    // Even where the very identity is accepted.
    let (client, server) = shake(duplex(1 << 16), &a, std::slice::from_ref(&other), &b).await;
    let expected = "cluster.local".to_owned();
    assert_eq!(
        client.err().unwrap(),
        HandshakeError::WrongTrustDomain {
            expected,
            got: other.clone()
        }
    );
    assert_eq!(server.err().unwrap().code(), "peer_alert_certificate_unknown");
}

#[tokio::test]
async fn our_own_expired_certificate_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let then = SystemTime::now() - 48 * HOUR;
    let authority = Authority::load_or_create(directory.path(), then).unwrap();
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&id("a")).unwrap();
    let issued = authority.sign(&request_pem, &id("a"), HOUR, then).unwrap();
    let expired = WorkloadCertificate::from_pem(&issued.chain, &key, &id("a")).unwrap();
    assert!(expired.is_valid_at(then));
    assert!(!expired.is_valid_at(SystemTime::now()));
    let good = certificate(&authority, &id("b"));
    let cache = ConfigCache::new();
    let (io, _other) = duplex(1 << 16);
    let error = tls::connect(io, &cache.client(&expired, &[id("b")]))
        .await
        .err()
        .unwrap();
    assert_eq!(error, HandshakeError::OwnCertificateInvalid { identity: id("a") });
    assert_eq!(error.blame(), Blame::Configuration);
    let (io, _other) = duplex(1 << 16);
    let error = tls::accept(io, &cache.server(&expired)).await.err().unwrap();
    assert_eq!(error.code(), "own_certificate_invalid");
    let (client, _) = shake(duplex(1 << 16), &good, &[id("b")], &good).await;
    assert!(client.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let authority = authority();
    let a = certificate(&authority, &id("a"));
    let (io, _silent) = duplex(1 << 16);
    let error = tls::connect(io, &ConfigCache::new().client(&a, &[id("b")]))
        .await
        .err()
        .unwrap();
    assert_eq!(error, HandshakeError::Timeout(tls::HANDSHAKE_TIMEOUT));
    let (io, _silent) = duplex(1 << 16);
    let error = tls::accept(io, &ConfigCache::new().server(&a))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "timeout");
}

#[test]
fn a_certificate_is_checked_when_it_arrives() {
    let authority = authority();
    let stranger = self::authority();
    let now = SystemTime::now();
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&id("a")).unwrap();
    let other_key = KeyAndRequest::generate(&id("a")).unwrap().key;
    let chain = authority.sign(&request_pem, &id("a"), HOUR, now).unwrap().chain;
    let made = WorkloadCertificate::from_pem(&chain, &key, &id("a")).unwrap();
    assert_eq!(made.identity(), &id("a"));
    assert_eq!(made.chain_pem().len(), 1);
    assert_eq!(made.roots_pem().len(), 1);
    assert!(made.not_after() <= now + HOUR);
    assert!(!format!("{made:?}").to_lowercase().contains("key"));

    let with = |chain: &[String]| {
        WorkloadCertificate::from_pem(chain, &key, &id("a"))
            .err()
            .unwrap()
    };
    assert!(matches!(
        WorkloadCertificate::from_pem(&chain, &key, &id("b")),
        Err(CertificateError::WrongIdentity { .. })
    ));
    assert!(matches!(
        WorkloadCertificate::from_pem(&chain, &other_key, &id("a")),
        Err(CertificateError::WrongKey)
    ));
    assert!(matches!(with(&[]), CertificateError::Incomplete));
    assert!(matches!(with(&chain[..1]), CertificateError::Incomplete));
    assert!(matches!(
        with(&[chain[0].clone(), "x".into()]),
        CertificateError::Pem(_)
    ));
    assert!(matches!(
        with(&[chain[0].clone(), stranger.root_pem()]),
        CertificateError::Chain(_)
    ));
    assert!(matches!(
        with(&[chain[1].clone(), chain[1].clone()]),
        CertificateError::Identity(_)
    ));
    assert!(matches!(
        with(&["x".repeat(2 << 20), chain[1].clone()]),
        CertificateError::Pem(_)
    ));
}

#[test]
fn several_roots_in_the_last_element_are_all_trusted() {
    let (one, two) = (authority(), authority());
    let made = certificate_trusting(&one, &id("a"), &two.root_pem());
    assert_eq!(made.roots_pem().len(), 2);
}

#[test]
fn configurations_are_kept_by_certificate_and_accepted_set() {
    let authority = authority();
    let (a, b) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("a")),
    );
    let cache = ConfigCache::new();
    let same = |x: &tls::ClientConfig, y: &tls::ClientConfig| {
        // The verifier and all else sit behind one pointer.
        x.is_same(y)
    };
    let one = cache.client(&a, &[id("x"), id("y")]);
    assert!(same(&one, &cache.client(&a, &[id("y"), id("x"), id("y")])));
    assert!(!same(&one, &cache.client(&a, &[id("x")])));
    assert!(!same(&one, &cache.client(&b, &[id("x"), id("y")])));
    cache.forget(&a);
    assert!(!same(&one, &cache.client(&a, &[id("x"), id("y")])));
}

#[test]
fn the_cache_is_bounded() {
    let authority = authority();
    let a = certificate(&authority, &id("a"));
    let cache = ConfigCache::new();
    let kept = cache.client(&a, &[id("kept")]);
    for number in 0..ConfigCache::CAPACITY + 10 {
        let _ = cache.client(&a, &[id(&format!("n{number}"))]);
        assert!(
            kept.is_same(&cache.client(&a, &[id("kept")])),
            "the one in use was evicted"
        );
    }
    assert_eq!(cache.len(), ConfigCache::CAPACITY);
}

#[test]
fn certificates_know_their_time() {
    let authority = authority();
    let a = certificate(&authority, &id("a"));
    assert!(a.is_valid_at(a.not_before()));
    assert!(!a.is_valid_at(a.not_after()));
    assert!(!a.is_valid_at(a.not_before() - Duration::from_secs(1)));
}
