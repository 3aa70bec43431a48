//! Our stream against rustls' own buffered connection.

use std::io::{Read, Write};

use tls::ConfigCache;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Forged, Forger, id, pattern, raw_client, raw_client_on, raw_server, raw_server_on, sockets,
};

const BULK: u64 = 8 << 20;

fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(pattern).collect()
}

/// Echoes `BULK` bytes, changing its keys now and then, and closes properly.
fn echo<C, S, D>(mut stream: rustls::StreamOwned<C, S>, mut new_keys: impl FnMut(&mut C))
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    S: Read + Write,
    D: rustls::SideData,
{
    let mut buffer = vec![0; 100_000];
    let (mut echoed, mut round) = (0, 0);
    while echoed < BULK {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "ended after {echoed}");
        stream.write_all(&buffer[..read]).unwrap();
        echoed += read as u64;
        round += 1;
        if round % 16 == 0 {
            new_keys(&mut stream.conn);
        }
    }
    assert_eq!(
        stream.read(&mut buffer).unwrap(),
        0,
        "our close_notify is expected"
    );
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

async fn drive<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: tls::Stream<IO>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let writer = async {
        let mut position = 0;
        while position < BULK {
            let end = (position + 50_000).min(BULK);
            write.write_all(&bytes(position..end)).await.unwrap();
            position = end;
        }
        write.shutdown().await.unwrap();
    };
    let reader = async {
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len() as u64, BULK);
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, byte)| *byte == pattern(at as u64))
        );
    };
    tokio::join!(writer, reader);
}

#[tokio::test]
async fn our_client_and_a_buffered_server_with_tickets_and_key_updates() {
    let forger = Forger::new();
    let own = forger.honest(&id("client"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let config = raw_server(shown);
        assert!(config.send_tls13_tickets > 0, "the server should send tickets");
        echo(raw_server_on(theirs, config), |tls| {
            tls.refresh_traffic_keys().unwrap()
        });
    });
    let (stream, peer_identity) = tls::connect(ours, &ConfigCache::new().client(&own, &[id("a")]))
        .await
        .unwrap();
    assert_eq!(peer_identity.identity, id("a"));
    drive(stream).await;
    peer.join().unwrap();
}

#[tokio::test]
async fn a_buffered_client_and_our_server_with_key_updates() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        echo(raw_client_on(theirs, raw_client(Some(shown))), |tls| {
            tls.refresh_traffic_keys().unwrap()
        });
    });
    let (stream, peer_identity) = tls::accept(ours, &ConfigCache::new().server(&own)).await.unwrap();
    assert_eq!(peer_identity.identity, id("a"));
    drive(stream).await;
    peer.join().unwrap();
}

#[tokio::test]
async fn small_records_and_fragmented_handshake_messages() {
    let forger = Forger::new();
    let own = forger.honest(&id("server"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let mut config = raw_client(Some(shown));
        // Every handshake message comes in many records, and every record is tiny.
        config.max_fragment_size = Some(64);
        echo(raw_client_on(theirs, config), |_| ());
    });
    let (stream, _) = tls::accept(ours, &ConfigCache::new().server(&own)).await.unwrap();
    drive(stream).await;
    peer.join().unwrap();
}

#[tokio::test]
async fn fragmented_tickets_while_we_write() {
    let forger = Forger::new();
    let own = forger.honest(&id("client"));
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let mut config = raw_server(shown);
        config.max_fragment_size = Some(64);
        echo(raw_server_on(theirs, config), |tls| {
            tls.refresh_traffic_keys().unwrap()
        });
    });
    let (stream, _) = tls::connect(ours, &ConfigCache::new().client(&own, &[id("a")]))
        .await
        .unwrap();
    drive(stream).await;
    peer.join().unwrap();
}
