use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::pattern::Pattern;
use super::serve::looks_like_http;
use super::*;

/// A server on a port that was free a moment ago.
async fn server(reset_after: Option<u64>) -> SocketAddr {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let about = About {
        pod: "p".to_owned(),
        namespace: "n".to_owned(),
        node: "node-a".to_owned(),
    };
    tokio::spawn(serve(ServeOptions {
        ports: vec![port],
        reset_after,
        about,
    }));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..500 {
        if TcpStream::connect(address).await.is_ok() {
            return address;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server does not listen on {address}");
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn http_is_told_from_the_rest_by_its_first_bytes() {
    for (bytes, answer) in [
        (&b""[..], None),
        (b"G", None),
        (b"GET", None),
        (b"GET /", Some(true)),
        (b"PRI * HTTP/2.0", Some(true)),
        (b"GETX", Some(false)),
        (b"hello", Some(false)),
        (b"\x00", Some(false)),
    ] {
        assert_eq!(looks_like_http(bytes), answer, "{bytes:?}");
    }
}

#[test]
fn the_pattern_does_not_depend_on_how_it_is_cut() {
    let mut whole = vec![0; 1000];
    Pattern::new(7, 3).fill(&mut whole);
    let mut cut = Pattern::new(7, 3);
    let mut pieces = Vec::new();
    for size in [1, 2, 3, 8, 9, 100, 877] {
        let mut piece = vec![0; size];
        cut.fill(&mut piece);
        pieces.extend(piece);
    }
    assert_eq!(pieces, whole);
    let mut another = vec![0; 1000];
    Pattern::new(7, 4).fill(&mut another);
    assert_ne!(another, whole);
    assert_eq!(looks_like_http(&whole), Some(false));
}

#[tokio::test]
async fn a_request_is_answered_with_who_asked_whom() {
    let address = server(None).await;
    let (status, body) = get(&format!("http://{address}/a/b?c=d"), SOON).await.unwrap();
    assert_eq!(status.as_u16(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["pod"], "p");
    assert_eq!(answer["node"], "node-a");
    assert_eq!(answer["method"], "GET");
    assert_eq!(answer["path"], "/a/b?c=d");
    assert_eq!(answer["headers"]["host"], address.to_string());
    assert!(answer["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn what_is_not_http_comes_back_also_after_a_half_close() {
    let address = server(None).await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GE").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut echo = Vec::new();
    connection.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, b"GE");
}

#[tokio::test]
async fn streams_are_verified_and_a_wrong_byte_is_found() {
    let address = server(None).await;
    let mut options = StreamOptions {
        address: address.to_string(),
        bytes: 3_000_001,
        connections: 7,
        seed: 42,
        timeout: SOON,
    };
    let report = stream(&options).await;
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.verified, 3_000_001);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    options.address = listener.local_addr().unwrap().to_string();
    options.connections = 1;
    options.bytes = 100;
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).await.unwrap();
        bytes[50] ^= 1;
        connection.write_all(&bytes).await.unwrap();
    });
    let report = stream(&options).await;
    assert_eq!(report.verified, 50);
    assert!(report.errors[0].contains("byte 50 is"), "{:?}", report.errors);
}

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_and_a_close_as_a_close() {
    let address = server(Some(20)).await;
    let options = HoldOptions {
        address: address.to_string(),
        interval: Duration::from_millis(5),
        at_most: SOON,
        lines: None,
        reset: false,
    };
    let report = hold(&options, |_| {}).await.unwrap();
    assert_eq!(report.ended, HoldEnd::Reset);
    assert!(report.lines_sent >= 2);

    let mut options = HoldOptions {
        address: server(None).await.to_string(),
        lines: Some(3),
        ..options
    };
    let report = hold(&options, |_| {}).await.unwrap();
    assert_eq!(
        (report.ended, report.lines_sent, report.lines_echoed),
        (HoldEnd::ClosedByUs, 3, 3)
    );
    options.lines = None;
    options.at_most = Duration::from_millis(100);
    assert_eq!(hold(&options, |_| {}).await.unwrap().ended, HoldEnd::StillOpen);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = get(&format!("http://{free}/"), SOON).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        let (mut first, _) = listener.accept().await.unwrap();
        let _ = first.read(&mut buffer).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let _ = second.read(&mut buffer).await;
        socket2::SockRef::from(&second)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(second);
        let (_third, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let url = format!("http://{address}/");
    assert_eq!(get(&url, SOON).await.unwrap_err().kind, FailureKind::Empty);
    assert_eq!(get(&url, SOON).await.unwrap_err().kind, FailureKind::Reset);
    assert_eq!(
        get(&url, Duration::from_millis(100)).await.unwrap_err().kind,
        FailureKind::Timeout
    );
}

#[tokio::test]
async fn a_flood_counts_answers_and_refusals() {
    let mut options = FloodOptions {
        address: server(None).await.to_string(),
        duration: Duration::from_millis(200),
        concurrency: 2,
        timeout: SOON,
    };
    let report = flood(&options).await;
    assert!(
        report.answered > 0 && report.answered == report.attempts,
        "{report:?}"
    );
    assert!(report.last_answered_at >= report.first_answered_at);
    options.address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let report = flood(&options).await;
    assert!(
        report.refused > 0 && report.refused == report.attempts,
        "{report:?}"
    );
}
