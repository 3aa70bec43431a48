//! Our client against a foreign server: the bare library, or frames written by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use bytes::Bytes;

use super::*;
use crate::tests::{PATIENCE, request};

type Foreign = h2::server::Connection<DuplexStream, Bytes>;

async fn against_library() -> (Client, JoinHandle<ConnectionEnd>, Foreign) {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move { h2::server::handshake(far).await.unwrap() });
    let (client, driver) = handshake(near, Settings::client()).await.unwrap();
    let driver = tokio::spawn(driver);
    (client, driver, server.await.unwrap())
}

/// Drives a foreign server and hands its requests over.
fn drive(
    mut server: Foreign,
) -> tokio::sync::mpsc::Receiver<(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>)> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(Ok(incoming)) = server.accept().await {
            if sender.send(incoming).await.is_err() {
                break;
            }
        }
    });
    receiver
}

fn ok() -> http::Response<()> {
    http::Response::new(())
}

async fn opened() -> (Tunnel, h2::SendStream<Bytes>, h2::RecvStream, Client) {
    let (client, _driver, server) = against_library().await;
    let mut incoming = drive(server);
    let (opened, answered) = tokio::join!(client.connect(request("app:80")), async {
        let (request, mut respond) = incoming.recv().await.unwrap();
        (respond.send_response(ok(), false).unwrap(), request.into_body())
    });
    tokio::spawn(async move { incoming.recv().await });
    (opened.unwrap().0, answered.0, answered.1, client)
}

#[tokio::test]
async fn a_connect_carries_method_and_authority_only() {
    let (client, _driver, server) = against_library().await;
    let mut incoming = drive(server);
    let asking = tokio::spawn(async move {
        client
            .connect(ConnectRequest {
                headers: vec![("baggage", "a=b".into())],
                ..request("10.1.2.3:8080")
            })
            .await
    });
    let (request, mut respond) = incoming.recv().await.unwrap();
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.uri().authority().unwrap(), "10.1.2.3:8080");
    assert_eq!(request.uri().scheme(), None);
    assert_eq!(request.uri().path_and_query(), None);
    assert_eq!(request.headers().len(), 1, "{:?}", request.headers());
    respond.send_response(ok(), false).unwrap();
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn no_error_and_cancel_are_the_end_and_other_codes_are_resets() {
    for code in [Reason::NO_ERROR, Reason::CANCEL] {
        let (mut tunnel, mut send, _recv, _client) = opened().await;
        send.send_data("bye".into(), false).unwrap();
        let mut got = [0; 3];
        tunnel.read_exact(&mut got).await.unwrap();
        send.send_reset(code);
        let mut rest = Vec::new();
        timeout(PATIENCE, tunnel.read_to_end(&mut rest))
            .await
            .unwrap()
            .expect("the end, not a fault");
        // The peer takes nothing more: to finish is fine, to write is not.
        let error = timeout(PATIENCE, tunnel.write_all(b"x"))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        tunnel.shutdown().await.unwrap();
    }
    for code in [
        Reason::CONNECT_ERROR,
        Reason::INTERNAL_ERROR,
        Reason::STREAM_CLOSED,
        77.into(),
    ] {
        let (mut tunnel, mut send, _recv, _client) = opened().await;
        send.send_reset(code);
        let error = timeout(PATIENCE, tunnel.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(error.to_string().contains(&*code_name(code)), "{error}");
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_connect_error_by_the_peer() {
    let (mut tunnel, mut send, mut recv, _client) = opened().await;
    tunnel.write_all(b"x").await.unwrap();
    recv.data().await.unwrap().unwrap();
    relay::End::reset(&mut tunnel);
    let reason = timeout(PATIENCE, poll_fn(|cx| send.poll_reset(cx)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reason, Reason::CONNECT_ERROR);
}

#[tokio::test]
async fn a_tunnel_that_ended_both_ways_is_not_reset() {
    let (mut tunnel, mut send, mut recv, _client) = opened().await;
    tunnel.shutdown().await.unwrap();
    // END_STREAM comes with an empty DATA frame.
    assert!(recv.data().await.unwrap().unwrap().is_empty());
    assert!(recv.data().await.is_none());
    send.send_data(Bytes::new(), true).unwrap();
    let mut rest = Vec::new();
    tunnel.read_to_end(&mut rest).await.unwrap();
    drop(tunnel);
    let reset = timeout(Duration::from_millis(100), poll_fn(|cx| send.poll_reset(cx))).await;
    assert!(reset.is_err(), "the peer saw {reset:?}");
}

#[tokio::test]
async fn a_refused_stream_may_be_sent_again_and_another_reset_may_not() {
    for (code, again) in [(Reason::REFUSED_STREAM, true), (Reason::INTERNAL_ERROR, false)] {
        let (client, _driver, server) = against_library().await;
        let mut incoming = drive(server);
        let (outcome, ()) = tokio::join!(client.connect(request("app:80")), async {
            incoming.recv().await.unwrap().1.send_reset(code);
        });
        assert_eq!(outcome.err().unwrap().is_retryable(), again);
    }
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// GOAWAY that says: streams up to `last` were looked at.
fn goaway(last: u8, code: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, code]
}

async fn against_frames() -> (Client, JoinHandle<ConnectionEnd>, DuplexStream) {
    let (near, mut far) = duplex(64 * 1024);
    let (client, driver) = handshake(near, Settings::client()).await.unwrap();
    let driver = tokio::spawn(driver);
    far.write_all(SETTINGS).await.unwrap();
    (client, driver, far)
}

#[tokio::test]
async fn a_goaway_below_our_stream_means_that_the_request_may_be_sent_again() {
    let (client, driver, mut far) = against_frames().await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.connect(request("app:80")).await }
    });
    // Until the HEADERS frame of stream 1 has gone out, nothing can be above the peer's last stream.
    sleep(Duration::from_millis(50)).await;
    far.write_all(&goaway(0, 0)).await.unwrap();
    let error = timeout(PATIENCE, asking).await.unwrap().unwrap().err().unwrap();
    assert!(error.is_retryable(), "{error}");
    assert!(!client.is_usable());
    timeout(PATIENCE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_must_not_be_retried_blindly() {
    let (client, driver, far) = against_frames().await;
    let asking = tokio::spawn(async move { client.connect(request("app:80")).await });
    sleep(Duration::from_millis(50)).await;
    drop(far);
    let error = timeout(PATIENCE, asking).await.unwrap().unwrap().err().unwrap();
    assert!(
        matches!(error, ConnectError::Lost(_)) && !error.is_retryable(),
        "{error}"
    );
    timeout(PATIENCE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_goaway_with_an_error_is_named() {
    let (_client, driver, mut far) = against_frames().await;
    far.write_all(&goaway(0, 11)).await.unwrap();
    let end = timeout(PATIENCE, driver).await.unwrap().unwrap();
    assert_eq!(
        end.to_string(),
        "closed by the peer with GOAWAY ENHANCE_YOUR_CALM"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_a_ping() {
    let (client, driver, _far) = against_frames().await;
    let start = tokio::time::Instant::now();
    let end = driver.await.unwrap();
    assert!(matches!(end, ConnectionEnd::PingTimeout(_)), "{end}");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(
        client
            .connect(request("x:1"))
            .await
            .err()
            .unwrap()
            .to_string()
            .contains("ping")
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_something_is_slow_not_gone() {
    let (_client, driver, far) = against_frames().await;
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    for _ in 0..60 {
        sleep(Duration::from_secs(10)).await;
        write.write_all(PING).await.unwrap();
    }
    assert!(!driver.is_finished());
    let end = driver.await.unwrap();
    assert!(matches!(end, ConnectionEnd::PingTimeout(_)), "{end}");
}
