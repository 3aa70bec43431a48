//! Peers that are not ours: forged certificates, none, no TLS at all.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::AlertDescription;
use tls::{Alert, ConfigCache, HandshakeError};

use crate::support::{
    Forged, Forger, HOUR, id, raw_client, raw_client_on, raw_error, raw_server, raw_server_on, sockets,
};

/// What our server says of a client, and which alert the client gets.
async fn judge_client(forger: &Forger, forged: Option<&Forged>) -> (HandshakeError, AlertDescription) {
    let own = forger.honest(&id("server"));
    let shown = forged.map(|forged| forger.sign(forged));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let mut client = raw_client_on(theirs, raw_client(shown));
        client.write_all(b"sent at once").unwrap();
        client.read(&mut [0; 8]).unwrap_err()
    });
    let outcome = tls::accept(ours, &ConfigCache::new().server(&own)).await;
    let error = outcome.err().expect("the client must be refused");
    let alert = match raw_error(&peer.join().unwrap()) {
        Some(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("the client should have got an alert, not {other:?}"),
    };
    (error, alert)
}

/// What our client says of a server, and which alert the server gets.
async fn judge_server(forger: &Forger, forged: &Forged) -> (HandshakeError, AlertDescription) {
    let own = forger.honest(&id("client"));
    let shown = forger.sign(forged);
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let mut server = raw_server_on(theirs, raw_server(shown));
        server.read(&mut [0; 8]).unwrap_err()
    });
    let outcome = tls::connect(ours, &ConfigCache::new().client(&own, &[id("a")])).await;
    let error = outcome.err().expect("the server must be refused");
    let alert = match raw_error(&peer.join().unwrap()) {
        Some(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("the server should have got an alert, not {other:?}"),
    };
    (error, alert)
}

#[tokio::test]
async fn names_that_are_not_exactly_one_identity_are_refused() {
    let forger = Forger::new();
    let a = id("a").to_string();
    let malformed = |name: &str| HandshakeError::MalformedIdentity(name.escape_default().to_string());
    let table: &[(&[&str], HandshakeError)] = &[
        (&[], HandshakeError::NoIdentity),
        (
            &[&a, "spiffe://cluster.local/ns/demo/sa/b"],
            HandshakeError::SeveralIdentities(2),
        ),
        (&[&a, &a], HandshakeError::SeveralIdentities(2)),
        (&[&a, "https://example.com"], HandshakeError::SeveralIdentities(2)),
        (&["https://example.com"], malformed("https://example.com")),
        (
            &["spiffe://cluster.local/ns/demo/sa/a/"],
            malformed("spiffe://cluster.local/ns/demo/sa/a/"),
        ),
        (
            &["spiffe://cluster.local/ns/demo/sa/a\0b"],
            malformed("spiffe://cluster.local/ns/demo/sa/a\0b"),
        ),
        (
            &["spiffe://cluster.local\0.evil/ns/demo/sa/a"],
            malformed("spiffe://cluster.local\0.evil/ns/demo/sa/a"),
        ),
        (
            &["SPIFFE://cluster.local/ns/demo/sa/a"],
            malformed("SPIFFE://cluster.local/ns/demo/sa/a"),
        ),
        (
            &["spiffe://cluster.local/ns//sa/a"],
            malformed("spiffe://cluster.local/ns//sa/a"),
        ),
    ];
    for (names, expected) in table {
        let mut forged = Forged::uris(names);
        // A DNS name beside it is nobody's identity.
        forged.names.push(SanType::DnsName("a.demo".try_into().unwrap()));
        let (error, alert) = judge_client(&forger, Some(&forged)).await;
        assert_eq!(&error, expected, "{names:?} as client");
        assert_eq!(alert, AlertDescription::CertificateUnknown, "{names:?} as client");
        let (error, alert) = judge_server(&forger, &forged).await;
        assert_eq!(&error, expected, "{names:?} as server");
        assert_eq!(alert, AlertDescription::CertificateUnknown, "{names:?} as server");
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let (error, alert) = judge_client(&Forger::new(), None).await;
    assert_eq!(error, HandshakeError::NoCertificate);
    assert_eq!(error.code(), "no_certificate");
    assert_eq!(alert, AlertDescription::CertificateRequired);
}

#[tokio::test]
async fn lives_are_held_against_our_clock() {
    let forger = Forger::new();
    let now = SystemTime::now();
    let mut forged = Forged::uris(&[&id("a").to_string()]);
    (forged.not_before, forged.not_after) = (now - 2 * HOUR, now - HOUR);
    let (error, alert) = judge_client(&forger, Some(&forged)).await;
    assert!(matches!(error, HandshakeError::CertificateExpired { not_after, .. } if not_after < now));
    assert_eq!(error.code(), "certificate_expired");
    assert_eq!(alert, AlertDescription::CertificateExpired);
    let (error, alert) = judge_server(&forger, &forged).await;
    assert_eq!(error.code(), "certificate_expired");
    assert_eq!(alert, AlertDescription::CertificateExpired);

    (forged.not_before, forged.not_after) = (now + HOUR, now + 2 * HOUR);
    let (error, _) = judge_client(&forger, Some(&forged)).await;
    assert_eq!(error.code(), "certificate_not_yet_valid");
}

#[tokio::test]
async fn the_purpose_must_be_written_in_the_certificate() {
    let forger = Forger::new();
    let mut forged = Forged::uris(&[&id("a").to_string()]);
    for (usages, client, server) in [
        (vec![ExtendedKeyUsagePurpose::ServerAuth], false, true),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], true, false),
        (vec![], false, false),
    ] {
        forged.usages = usages;
        if !client {
            let (error, _) = judge_client(&forger, Some(&forged)).await;
            assert_eq!(error, HandshakeError::WrongPurpose);
        }
        if !server {
            let (error, _) = judge_server(&forger, &forged).await;
            assert_eq!(error, HandshakeError::WrongPurpose);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_refused() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    let (leaf, _) = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (_, other_key) = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&other_key).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![leaf], signer);
        let mut config = raw_client(None);
        config.client_auth_cert_resolver = std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(shown));
        let _ = raw_client_on(theirs, config).write_all(b"x");
    });
    let error = tls::accept(ours, &ConfigCache::new().server(&own))
        .await
        .err()
        .unwrap();
    assert_eq!(error, HandshakeError::BadSignature);
    peer.join().unwrap();
}

#[tokio::test]
async fn a_peer_without_h2_is_refused() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
        let (ours, theirs) = sockets();
        let peer = std::thread::spawn(move || {
            let mut config = raw_client(Some(shown));
            config.alpn_protocols = offered;
            let mut client = raw_client_on(theirs, config);
            let _ = client.write_all(b"x");
            let _ = client.read(&mut [0; 8]);
        });
        let error = tls::accept(ours, &ConfigCache::new().server(&own))
            .await
            .err()
            .unwrap();
        assert_eq!(error, HandshakeError::Alpn);
        peer.join().unwrap();
    }
}

#[tokio::test]
async fn what_is_not_tls_is_said_so() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 64],
    ] {
        let (ours, mut theirs) = sockets();
        theirs.write_all(bytes).unwrap();
        let peer = std::thread::spawn(move || drain(&mut theirs));
        let error = tls::accept(ours, &ConfigCache::new().server(&own))
            .await
            .err()
            .unwrap();
        assert_eq!(error, HandshakeError::NotTls, "{bytes:?}");
        peer.join().unwrap();

        let (ours, mut theirs) = sockets();
        theirs.write_all(bytes).unwrap();
        let peer = std::thread::spawn(move || drain(&mut theirs));
        let error = tls::connect(ours, &ConfigCache::new().client(&own, &[id("a")]))
            .await
            .err()
            .unwrap();
        assert_eq!(error, HandshakeError::NotTls, "{bytes:?}");
        peer.join().unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_said_so() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    for bytes in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
        let (ours, mut theirs) = sockets();
        theirs.write_all(bytes).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let error = tls::accept(ours, &ConfigCache::new().server(&own))
            .await
            .err()
            .unwrap();
        assert_eq!(error, HandshakeError::PeerClosed);
        assert_eq!(error.code(), "peer_closed");
    }
}

#[tokio::test]
async fn a_handshake_in_endless_pieces_is_given_up_within_bounds() {
    let own = Forger::new().honest(&id("server"));
    let (ours, mut theirs) = sockets();
    let peer = std::thread::spawn(move || {
        // A ClientHello of 60 000 bytes, one byte a record: more than the largest buffer once wrapped.
        let message = [1, 0, 0xea, 0x60]
            .into_iter()
            .chain(std::iter::repeat_n(0, 59_999));
        let records: Vec<u8> = message.flat_map(|byte| [22, 3, 1, 0, 1, byte]).collect();
        let _ = theirs.write_all(&records);
        drain(&mut theirs);
    });
    let error = tls::accept(ours, &ConfigCache::new().server(&own))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "protocol", "{error}");
    assert!(error.to_string().contains("too many pieces"), "{error}");
    peer.join().unwrap();
}

#[test]
fn alerts_have_names() {
    fn is_small<T: Copy + Eq>() {}
    is_small::<Alert>();
    let error = HandshakeError::WrongIdentity {
        expected: vec![id("a"), id("b")],
        got: id("c"),
    };
    assert_eq!(
        error.to_string(),
        "the peer is spiffe://cluster.local/ns/demo/sa/c, expected spiffe://cluster.local/ns/demo/sa/a or \
         spiffe://cluster.local/ns/demo/sa/b"
    );
}

fn drain(io: &mut StdUnixStream) {
    while io.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
}
