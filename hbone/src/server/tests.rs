//! Our server against a foreign client: the bare library, or silence.

use http::{Method, Request, StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use bytes::Bytes;

use super::*;
use crate::tests::{PATIENCE, echo, serve};

mod hostile;
mod leaving;

async fn against_library() -> (h2::client::SendRequest<Bytes>, Server<DuplexStream>) {
    let (near, far) = duplex(64 * 1024);
    let client = tokio::spawn(async move {
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        requests
    });
    let server = handshake(far, Settings::server()).await.unwrap();
    (client.await.unwrap(), server)
}

fn connect(authority: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from_static(authority);
    request
}

#[tokio::test]
async fn only_connect_is_served() {
    let (mut requests, server) = against_library().await;
    serve(server, echo);
    let get = Request::get("http://app/").body(()).unwrap();
    let (answer, _) = requests.send_request(get, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_REQUEST);

    let mut long = Request::new(());
    *long.method_mut() = Method::CONNECT;
    *long.uri_mut() = format!("{}:80", "a".repeat(MAX_AUTHORITY)).parse().unwrap();
    let (answer, _) = requests.send_request(long, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_REQUEST);

    let (answer, mut send) = requests.send_request(connect("app:80"), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    send.send_data("hello".into(), true).unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    assert!(body.data().await.unwrap().unwrap().is_empty(), "END_STREAM");
    assert!(body.data().await.is_none());
}

#[tokio::test]
async fn the_limits_are_announced() {
    let (near, mut far) = duplex(64 * 1024);
    let server = tokio::spawn(handshake(near, Settings::server()));
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let _server = server.await.unwrap().unwrap();
    let mut head = [0; 9];
    far.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS first");
    let mut body = vec![0; usize::from(head[2])];
    far.read_exact(&mut body).await.unwrap();
    let mut announced: Vec<(u16, u32)> = body
        .chunks(6)
        .map(|pair| {
            (
                u16::from_be_bytes([pair[0], pair[1]]),
                u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]),
            )
        })
        .collect();
    announced.sort_unstable();
    // RFC 9113 §6.5.2: concurrent streams, stream window, frame size, header list.
    assert_eq!(announced, [(3, 200), (4, 4 << 20), (5, 1 << 20), (6, 64 << 10)]);
}

/// A client's preface and SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// HEADERS with END_HEADERS: CONNECT to app:80 (RFC 7541: indexed names 2 and 1, literal values, not indexed).
fn headers(stream: u8) -> Vec<u8> {
    let block = [b"\x02\x07CONNECT".as_slice(), b"\x01\x06app:80"].concat();
    [&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, stream], &block[..]].concat()
}

fn rst_stream(stream: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]
}

/// The next frame of this type: its stream and payload.
async fn frame(io: &mut DuplexStream, kind: u8) -> (u8, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        io.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            return (head[8], payload);
        }
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(PREFACE).await.unwrap();
    let server = handshake(
        far,
        Settings {
            max_streams: 2,
            ..Settings::server()
        },
    )
    .await
    .unwrap();
    serve(server, echo);
    for stream in [1, 3, 5] {
        near.write_all(&headers(stream)).await.unwrap();
    }
    let refused = timeout(PATIENCE, frame(&mut near, 3)).await.unwrap();
    assert_eq!(refused, (5, vec![0, 0, 0, 7]), "REFUSED_STREAM");
    assert_eq!(timeout(PATIENCE, frame(&mut near, 1)).await.unwrap().0, 1);
    assert_eq!(timeout(PATIENCE, frame(&mut near, 1)).await.unwrap().0, 3);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(PREFACE).await.unwrap();
    let settings = Settings {
        max_pending_accept_reset_streams: 20,
        ..Settings::server()
    };
    let mut server = handshake(far, settings).await.unwrap();
    for stream in (1..=101).step_by(2) {
        near.write_all(&[headers(stream), rst_stream(stream)].concat())
            .await
            .unwrap();
    }
    let end = timeout(PATIENCE, async {
        loop {
            match server.accept().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    });
    let end = end.await.unwrap().expect("an error").err().unwrap();
    assert!(end.to_string().contains("ENHANCE_YOUR_CALM"), "{end}");
    let (_, goaway) = timeout(PATIENCE, frame(&mut near, 7)).await.unwrap();
    assert_eq!(goaway[4..8], [0, 0, 0, 11]);
}

#[tokio::test]
async fn a_reset_is_seen_as_connect_error_by_the_peer() {
    let (mut requests, server) = against_library().await;
    serve(server, |incoming| async move {
        let mut tunnel = incoming.accept([]).unwrap();
        tunnel.read_u8().await.unwrap();
    });
    let (answer, mut send) = requests.send_request(connect("app:80"), false).unwrap();
    let _answer = answer.await.unwrap();
    send.send_data("x".into(), false).unwrap();
    let reason = timeout(PATIENCE, poll_fn(|cx| send.poll_reset(cx)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reason, Reason::CONNECT_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    // Nothing at all: not even the preface.
    let (_near, far) = duplex(64 * 1024);
    let end = handshake(far, Settings::server()).await.err().unwrap();
    assert!(matches!(end, ConnectionEnd::HandshakeTimeout(_)), "{end}");

    // The preface, and then nothing.
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut server = handshake(far, Settings::server()).await.unwrap();
    let start = tokio::time::Instant::now();
    let end = server.accept().await.unwrap().err().unwrap();
    assert!(matches!(end, ConnectionEnd::PingTimeout(_)), "{end}");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(server.accept().await.is_none());
    assert!(matches!(server.ended(), Some(ConnectionEnd::PingTimeout(_))));
}

#[tokio::test]
async fn what_is_not_http2_is_the_peers_fault() {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n........")
        .await
        .unwrap();
    let end = timeout(PATIENCE, handshake(far, Settings::server()))
        .await
        .unwrap()
        .err()
        .unwrap();
    assert!(matches!(end, ConnectionEnd::Protocol(_)), "{end}");
}
