//! TLS 1.2: never by default, and where it is allowed held to the same as TLS 1.3.

use std::io::{Read, Write};
use std::thread::JoinHandle;

use rustls::version::{TLS12, TLS13};
use tls::{CompliancePolicy, ConfigCache, Trust, Versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Forged, Forger, id, pattern, raw_client_on, raw_client_speaking, raw_server_on, raw_server_speaking,
    sockets,
};

const BULK: u64 = 3 << 20;

fn also_tls12(policy: CompliancePolicy) -> ConfigCache {
    ConfigCache::with(Trust::default(), policy).speaking(Versions::AlsoTls12)
}

/// Sends back `BULK` bytes, or ends when the other side refuses.
fn echo(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut buffer = vec![0; 100_000];
    let mut echoed = 0;
    while echoed < BULK {
        let read = stream.read(&mut buffer)?;
        assert!(read > 0, "ended after {echoed}");
        stream.write_all(&buffer[..read])?;
        echoed += read as u64;
    }
    stream.flush()
}

async fn drive<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: tls::Stream<IO>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let all: Vec<u8> = (0..BULK).map(pattern).collect();
    let mut back = vec![0; all.len()];
    let (sent, received) = tokio::join!(
        async {
            write.write_all(&all).await?;
            write.flush().await
        },
        read.read_exact(&mut back)
    );
    sent.unwrap();
    received.unwrap();
    assert!(back == all, "the bytes came back changed");
}

type Peer = JoinHandle<std::io::Result<()>>;

/// A client that speaks `versions` meets our server: the cipher, or the code of the refusal.
async fn client_meets(ours: &ConfigCache, versions: &[&'static rustls::SupportedProtocolVersion]) -> String {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let config = raw_client_speaking(versions, Some(shown));
    let (io, theirs) = sockets();
    let peer: Peer = std::thread::spawn(move || echo(raw_client_on(theirs, config)));
    let cipher = match tls::accept(io, &ours.server(&own)).await {
        Ok((stream, peer)) => {
            assert_eq!(peer.identity, id("a"));
            assert_eq!(stream.alpn(), Some(&b"h2"[..]));
            let cipher = stream.cipher().unwrap();
            drive(stream).await;
            cipher
        }
        Err(error) => error.code().to_owned(),
    };
    assert_eq!(peer.join().unwrap().is_ok(), cipher.contains(' '));
    cipher
}

/// Our client meets a server that speaks `versions`: the cipher, or the code of the refusal.
async fn server_meets(ours: &ConfigCache, versions: &[&'static rustls::SupportedProtocolVersion]) -> String {
    let forger = Forger::new();
    let own = forger.honest(&id("client"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let config = raw_server_speaking(versions, shown);
    let (io, theirs) = sockets();
    let peer: Peer = std::thread::spawn(move || echo(raw_server_on(theirs, config)));
    let cipher = match tls::connect(io, &ours.client(&own, &[id("a")])).await {
        Ok((stream, peer)) => {
            assert_eq!(peer.identity, id("a"));
            let cipher = stream.cipher().unwrap();
            drive(stream).await;
            cipher
        }
        Err(error) => error.code().to_owned(),
    };
    assert_eq!(peer.join().unwrap().is_ok(), cipher.contains(' '));
    cipher
}

#[tokio::test]
async fn who_speaks_tls12_alone_is_refused_by_default() {
    let ours = ConfigCache::new();
    assert_eq!(client_meets(&ours, &[&TLS12]).await, "incompatible");
    let refusal = server_meets(&ours, &[&TLS12]).await;
    assert_eq!(refusal, "peer_alert_protocol_version");
}

#[tokio::test]
async fn where_it_is_allowed_tls12_is_spoken_with_who_knows_no_better() {
    let ours = also_tls12(CompliancePolicy::None);
    let old = "X25519 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let new = "X25519MLKEM768 TLS13_AES_256_GCM_SHA384";
    assert_eq!(client_meets(&ours, &[&TLS12]).await, old);
    assert_eq!(server_meets(&ours, &[&TLS12]).await, old);
    assert_eq!(client_meets(&ours, &[&TLS12, &TLS13]).await, new);
    assert_eq!(server_meets(&ours, &[&TLS12, &TLS13]).await, new);
}

#[tokio::test]
async fn policies_about_algorithms_hold_in_tls12_too() {
    let fips = also_tls12(CompliancePolicy::Fips);
    let approved = "secp256r1 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    assert_eq!(client_meets(&fips, &[&TLS12]).await, approved);
    assert_eq!(server_meets(&fips, &[&TLS12]).await, approved);
    let quantum = also_tls12(CompliancePolicy::PostQuantum);
    assert_eq!(client_meets(&quantum, &[&TLS12]).await, "incompatible");
    assert_eq!(
        server_meets(&quantum, &[&TLS12]).await,
        "peer_alert_protocol_version"
    );
}

#[tokio::test]
async fn a_peer_proves_who_it_is_in_tls12_too() {
    let ours = also_tls12(CompliancePolicy::None);
    let (forger, stranger) = (Forger::new(), Forger::new());
    let own = forger.honest(&id("server"));
    let foreign_domain = mesh::Identity::new("foreign.domain", "demo", "a");
    for (shown, code) in [
        (None, "no_certificate"),
        (
            Some(stranger.sign(&Forged::uris(&[&id("a").to_string()]))),
            "untrusted_issuer",
        ),
        (
            Some(forger.sign(&Forged::uris(&[&foreign_domain.to_string()]))),
            "wrong_trust_domain",
        ),
    ] {
        let config = raw_client_speaking(&[&TLS12], shown);
        let (io, theirs) = sockets();
        let peer: Peer = std::thread::spawn(move || echo(raw_client_on(theirs, config)));
        let refused = tls::accept(io, &ours.server(&own)).await;
        assert_eq!(refused.err().map(|error| error.code()), Some(code));
        assert!(peer.join().unwrap().is_err(), "{code}: the client was served");
    }
    // Our client holds a server to the name that it was told.
    let config = raw_server_speaking(&[&TLS12], forger.sign(&Forged::uris(&[&id("b").to_string()])));
    let (io, theirs) = sockets();
    let peer: Peer = std::thread::spawn(move || echo(raw_server_on(theirs, config)));
    let refused = tls::connect(io, &ours.client(&own, &[id("a")])).await;
    assert_eq!(refused.err().map(|error| error.code()), Some("wrong_identity"));
    assert!(peer.join().unwrap().is_err());
}

#[tokio::test]
async fn a_hello_offers_what_is_spoken_and_nothing_else() {
    let new = [0x1302, 0x1301];
    let both = [0x1302, 0x1301, 0xc02c, 0xc02b, 0xc030, 0xc02f];
    assert_eq!(offered_by(&ConfigCache::new()).await, new);
    assert_eq!(offered_by(&also_tls12(CompliancePolicy::None)).await, both);
    assert_eq!(offered_by(&also_tls12(CompliancePolicy::Fips)).await, both);
    assert_eq!(offered_by(&also_tls12(CompliancePolicy::PostQuantum)).await, new);
}

/// The cipher suites in our hello, without the signalling value of RFC 5746 (RFC 8446 section 4.1.2).
async fn offered_by(ours: &ConfigCache) -> Vec<u16> {
    let forger = Forger::new();
    let config = ours.client(&forger.honest(&id("client")), &[id("a")]);
    let (io, mut theirs) = tokio::io::duplex(1 << 16);
    let hello = async move {
        let mut hello = [0; 128];
        theirs.read_exact(&mut hello).await.unwrap();
        hello
    };
    let (_, hello) = tokio::join!(tls::connect(io, &config), hello);
    // Record, message, version and random; then the session's id.
    let id = 5 + 4 + 2 + 32;
    let length = id + 1 + usize::from(hello[id]);
    let suites = length + 2;
    let end = suites + usize::from(u16::from_be_bytes([hello[length], hello[length + 1]]));
    let suites = hello[suites..end].chunks_exact(2);
    suites
        .map(|suite| u16::from_be_bytes([suite[0], suite[1]]))
        .filter(|suite| *suite != 0x00ff)
        .collect()
}
