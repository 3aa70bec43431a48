//! No session is resumed: state shared between two sessions would be shared between what their certificates prove.
//! Each test connects twice with the same configuration, to a peer that would resume.

use std::io::{Read, Write};

use rustls::HandshakeKind;
use tls::ConfigCache;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Forged, Forger, RawClient, RawServer, id, raw_client, raw_client_on, raw_server, raw_server_on, sockets,
};

/// Asks over a connection; how it was made.
fn ask(mut stream: RawClient) -> Option<HandshakeKind> {
    stream.write_all(b"?").unwrap();
    let mut answer = [0];
    // What comes before the answer, tickets too, is taken with it.
    stream.read_exact(&mut answer).unwrap();
    stream.conn.handshake_kind()
}

/// Answers over a connection; how it was made.
fn answer(mut stream: RawServer) -> Option<HandshakeKind> {
    let mut question = [0];
    stream.read_exact(&mut question).unwrap();
    stream.write_all(b"!").unwrap();
    stream.flush().unwrap();
    stream.conn.handshake_kind()
}

#[tokio::test]
async fn our_client_offers_no_session_to_a_server_with_tickets() {
    let forger = Forger::new();
    let own = forger.honest(&id("client"));
    let config = raw_server(forger.sign(&Forged::uris(&[&id("a").to_string()])));
    let client = ConfigCache::new().client(&own, &[id("a")]);
    for _ in 0..2 {
        let (ours, theirs) = sockets();
        let config = config.clone();
        let peer = std::thread::spawn(move || answer(raw_server_on(theirs, config)));
        let (mut stream, _) = tls::connect(ours, &client).await.unwrap();
        stream.write_all(b"?").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        assert!(is_full(peer.join().unwrap()));
    }
}

#[tokio::test]
async fn our_server_gives_no_session_to_a_client_that_keeps_them() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    let config = raw_client(Some(forger.sign(&Forged::uris(&[&id("a").to_string()]))));
    let server = ConfigCache::new().server(&own);
    for _ in 0..2 {
        let (ours, theirs) = sockets();
        let config = config.clone();
        let peer = std::thread::spawn(move || ask(raw_client_on(theirs, config)));
        let (mut stream, _) = tls::accept(ours, &server).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
        stream.write_all(b"!").await.unwrap();
        assert!(is_full(peer.join().unwrap()));
    }
}

/// The proof that the two peers above resume where they can.
#[test]
fn the_peers_of_these_tests_resume_with_each_other() {
    let forger = Forger::new();
    let server = raw_server(forger.sign(&Forged::uris(&[&id("a").to_string()])));
    let client = raw_client(None);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (one, two) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = server.clone();
        let peer = std::thread::spawn(move || answer(raw_server_on(two, server)));
        kinds.push(ask(raw_client_on(one, client.clone())));
        peer.join().unwrap();
    }
    assert!(is_full(kinds[0]), "{kinds:?}");
    assert_eq!(kinds[1], Some(HandshakeKind::Resumed));
}

/// Full, whether or not the server asked for another key share first.
fn is_full(kind: Option<HandshakeKind>) -> bool {
    matches!(
        kind,
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
    )
}
