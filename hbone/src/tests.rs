//! Both ends of ours against each other. What a foreign peer sees is in `client/tests.rs` and `server/tests.rs`.

mod relayed;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{self, Client, ConnectRequest};
use crate::server::{self, Incoming, Server};
use crate::{ConnectError, ConnectionEnd, Settings, Tunnel};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn request(authority: &str) -> ConnectRequest {
    ConnectRequest {
        authority: authority.into(),
        headers: Vec::new(),
    }
}

/// A client whose driver runs, and a server that nobody drives yet.
pub(crate) async fn connected<IO>(
    near: IO,
    far: IO,
    settings: (Settings, Settings),
) -> (Client, JoinHandle<ConnectionEnd>, Server<IO>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = async {
        let (client, driver) = client::handshake(near, settings.0).await.unwrap();
        (client, tokio::spawn(driver))
    };
    let ((client, driver), server) = tokio::join!(client, server::handshake(far, settings.1));
    (client, driver, server.unwrap())
}

pub(crate) async fn over_duplex() -> (Client, JoinHandle<ConnectionEnd>, Server<DuplexStream>) {
    let (near, far) = duplex(64 * 1024);
    connected(near, far, (Settings::client(), Settings::server())).await
}

/// Drives a server and gives every CONNECT to `serve`.
pub(crate) fn serve<IO, F>(
    mut server: Server<IO>,
    serve: impl Fn(Incoming) -> F + Send + 'static,
) -> JoinHandle<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            match incoming {
                Ok(incoming) => drop(tokio::spawn(serve(incoming))),
                Err(end) => println!("server: {end}"),
            }
        }
    })
}

/// Sends back what arrives, to the end.
pub(crate) async fn echo(incoming: Incoming) {
    // Whoever asked may have given up.
    let Ok(tunnel) = incoming.accept([]) else { return };
    let (mut read, mut write) = tokio::io::split(tunnel);
    // A reset on the way is what some tests want to see on the other side.
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        let _ = write.shutdown().await;
    }
}

/// A client tunnel and its server side.
async fn tunnel(client: &Client, server: Server<DuplexStream>) -> (Tunnel, Tunnel) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    serve(server, move |incoming| {
        let sender = sender.clone();
        async move { sender.send(incoming.accept([]).unwrap()).await.unwrap() }
    });
    let (opened, accepted) = tokio::join!(client.connect(request("10.0.0.1:80")), receiver.recv());
    (opened.unwrap().0, accepted.unwrap())
}

#[tokio::test]
async fn of_a_request_that_waits_little_is_kept() {
    let (client, _driver, server) = over_duplex().await;
    serve(server, |incoming| async move {
        assert_eq!(incoming.header("x-filler"), None);
        let baggage: Vec<_> = incoming.headers("baggage").map(<[u8]>::len).collect();
        assert_eq!(baggage, [8000], "what is beyond the limit is left out");
        assert_eq!(incoming.headers("forwarded").count(), 0);
        assert_eq!(incoming.headers("traceparent").count(), server::MAX_HEADER / 33);
        incoming.refuse(401, []).unwrap();
    });
    let mut headers = vec![
        ("x-filler", "x".repeat(20_000)),
        ("baggage", "b".repeat(8000)),
        ("baggage", "b".repeat(500)),
        ("forwarded", "f".repeat(8193)),
    ];
    headers.extend((0..300).map(|_| ("traceparent", "t".to_owned())));
    let request = ConnectRequest {
        authority: "10.0.0.1:80".into(),
        headers,
    };
    let answer = client.connect(request).await.map(|_| ());
    assert!(matches!(answer, Err(ConnectError::Status(401))), "{answer:?}");
}

#[tokio::test]
async fn headers_and_statuses_cross() {
    let (client, _driver, server) = over_duplex().await;
    serve(server, |incoming| async move {
        assert_eq!(incoming.header("baggage"), Some("k8s.cluster.name=one"));
        assert_eq!(incoming.headers("baggage").count(), 2);
        assert_eq!(incoming.header("forwarded"), None);
        match incoming.authority() {
            "denied.example:80" => incoming.refuse(401, []).unwrap(),
            "[fd00::1]:443" => {
                let _tunnel = incoming.accept([("baggage", "service.name=x".into())]).unwrap();
                std::future::pending().await
            }
            "created:1" => incoming.refuse(201, []).unwrap(),
            other => panic!("authority {other}"),
        }
    });
    let ask = |authority: &str| ConnectRequest {
        authority: authority.into(),
        headers: vec![
            ("baggage", "k8s.cluster.name=one".into()),
            ("baggage", "service.name=y".into()),
        ],
    };
    assert!(matches!(
        client.connect(ask("denied.example:80")).await,
        Err(ConnectError::Status(401))
    ));
    assert!(matches!(
        client.connect(ask("created:1")).await,
        Err(ConnectError::Status(201))
    ));
    let (_tunnel, headers) = client.connect(ask("[fd00::1]:443")).await.unwrap();
    assert_eq!(headers.first("baggage"), Some("service.name=x"));
    assert_eq!(headers.values("baggage").collect::<Vec<_>>(), [b"service.name=x"]);
}

#[tokio::test]
async fn both_handshakes_complete_before_anybody_drives() {
    let (near, far) = duplex(64 * 1024);
    let client = client::handshake(near, Settings::client());
    let server = server::handshake(far, Settings::server());
    let (client, server) = timeout(PATIENCE, async { tokio::join!(client, server) })
        .await
        .unwrap();
    let (client, driver) = client.unwrap();
    tokio::spawn(driver);
    serve(server.unwrap(), echo);
    client.connect(request("x:1")).await.unwrap();
}

#[tokio::test]
async fn half_close_each_way() {
    let (client, _driver, server) = over_duplex().await;
    let (mut near, mut far) = tunnel(&client, server).await;
    let mut got = Vec::new();
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    got.clear();
    near.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"answer");
}

#[tokio::test]
async fn a_tunnel_dropped_half_way_never_looks_complete() {
    for near_drops in [true, false] {
        let (client, _driver, server) = over_duplex().await;
        let (near, far) = tunnel(&client, server).await;
        let (mut dropped, mut other) = if near_drops { (near, far) } else { (far, near) };
        dropped.write_all(b"part").await.unwrap();
        let mut part = [0; 4];
        other.read_exact(&mut part).await.unwrap();
        drop(dropped);
        let error = timeout(PATIENCE, other.read_u8())
            .await
            .unwrap()
            .expect_err("a reset, not the end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(error.to_string().contains("CONNECT_ERROR"), "{error}");
        let error = timeout(PATIENCE, other.write_all(b"more"))
            .await
            .unwrap()
            .expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_connect_in_flight_at_shutdown_is_served() {
    let (client, driver, mut server) = over_duplex().await;
    // The request is on the wire, and the server has not looked at it yet.
    let early = tokio::spawn({
        let client = client.clone();
        async move { client.connect(request("early:1")).await }
    });
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.graceful_shutdown();
    let incoming = timeout(PATIENCE, server.accept())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(incoming.authority(), "early:1");
    tokio::spawn(echo(incoming));
    let serving = serve(server, echo);
    let (mut tunnel, _) = timeout(PATIENCE, early).await.unwrap().unwrap().unwrap();
    tunnel.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    timeout(PATIENCE, tunnel.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&back, b"still here");

    assert!(!client.is_usable());
    let late = client.connect(request("late:1")).await.err().unwrap();
    assert!(late.is_retryable(), "{late}");
    assert!(!serving.is_finished());

    tunnel.shutdown().await.unwrap();
    let mut end = Vec::new();
    tunnel.read_to_end(&mut end).await.unwrap();
    drop(tunnel);
    timeout(PATIENCE, serving)
        .await
        .expect("the server ends after the last tunnel")
        .unwrap();
    assert!(matches!(
        timeout(PATIENCE, driver).await.unwrap().unwrap(),
        ConnectionEnd::Finished
    ));
}

#[tokio::test]
async fn a_closed_server_resets_its_tunnels_and_says_why() {
    let (client, driver, mut server) = over_duplex().await;
    let opening = tokio::spawn({
        let client = client.clone();
        async move { client.connect(request("x:1")).await }
    });
    let incoming = server.accept().await.unwrap().unwrap();
    let mut far = incoming.accept([]).unwrap();
    let (mut near, far_end) = tokio::join!(opening, async {
        while timeout(Duration::from_millis(20), server.accept()).await.is_ok() {}
        server.close("certificate revoked");
        assert!(server.accept().await.is_none());
        timeout(PATIENCE, far.read_u8()).await.unwrap().unwrap_err()
    });
    assert!(far_end.to_string().contains("certificate revoked"), "{far_end}");
    let near = &mut near.as_mut().unwrap().as_mut().unwrap().0;
    timeout(PATIENCE, near.read_u8()).await.unwrap().unwrap_err();
    timeout(PATIENCE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_closed_client_resets_its_tunnels_and_says_why() {
    let (client, driver, server) = over_duplex().await;
    let (mut near, mut far) = tunnel(&client, server).await;
    client.close("policy changed");
    let end = timeout(PATIENCE, driver).await.unwrap().unwrap();
    assert_eq!(end.to_string(), "closed by this proxy: policy changed");
    assert_eq!(client.closed().await.to_string(), end.to_string());
    let error = timeout(PATIENCE, near.read_u8()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("policy changed"), "{error}");
    timeout(PATIENCE, far.read_u8()).await.unwrap().unwrap_err();
    assert!(client.connect(request("x:1")).await.err().unwrap().is_retryable());
}

#[tokio::test]
async fn an_unused_connection_closes_with_its_last_handle() {
    let (client, driver, server) = over_duplex().await;
    let (near, far) = tunnel(&client, server).await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!driver.is_finished(), "a tunnel is open");
    drop((near, far));
    assert!(matches!(
        timeout(PATIENCE, driver).await.unwrap().unwrap(),
        ConnectionEnd::Finished
    ));
}

#[tokio::test]
async fn an_abandoned_connect_is_noticed_before_the_answer() {
    let (client, _driver, mut server) = over_duplex().await;
    let opening = tokio::spawn(async move { client.connect(request("x:1")).await });
    let mut incoming = server.accept().await.unwrap().unwrap();
    let driving = serve(server, echo);
    opening.abort();
    timeout(PATIENCE, incoming.abandoned()).await.expect("noticed");
    assert!(matches!(incoming.accept([]), Err(server::AnswerError::Gone)));
    driving.abort();
}

#[tokio::test]
async fn an_unanswered_connect_is_reset() {
    let (client, _driver, server) = over_duplex().await;
    serve(server, |incoming| async move { drop(incoming) });
    let error = client.connect(request("x:1")).await.err().unwrap();
    assert!(
        matches!(&error, ConnectError::Reset(code) if code == "CONNECT_ERROR"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_the_callers_fault() {
    let (client, _driver, server) = over_duplex().await;
    serve(server, echo);
    for bad in [
        request("no spaces:1"),
        request(""),
        request(&"x".repeat(1000)),
        ConnectRequest {
            headers: vec![("forwarded", "line\nbreak".into())],
            ..request("x:1")
        },
    ] {
        assert!(matches!(client.connect(bad).await, Err(ConnectError::Invalid(_))));
    }
    client.connect(request("x:1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_idle_ends_stay_connected_for_a_day() {
    let (near, far) = duplex(64 * 1024);
    let settings = Settings {
        idle_timeout: Duration::from_secs(200_000),
        ..Settings::server()
    };
    let (client, driver, server) = connected(near, far, (Settings::client(), settings)).await;
    let serving = serve(server, echo);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(client.is_usable() && !driver.is_finished() && !serving.is_finished());
    client.connect(request("x:1")).await.unwrap();
}
