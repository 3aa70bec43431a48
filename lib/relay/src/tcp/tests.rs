//! Two relays' worth of real sockets: client <-> [a | relay | b] <-> server.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::{Counters, Ended, Reason, Side, relay_until};

const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    client: TcpStream,
    server: TcpStream,
    counters: Arc<Counters>,
    cancel: Option<oneshot::Sender<()>>,
    relay: JoinHandle<Ended>,
}

impl Bench {
    async fn ended(self) -> Ended {
        timeout(PATIENCE, self.relay)
            .await
            .expect("the relay ends")
            .unwrap()
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
    }
    (near, far)
}

async fn start() -> Bench {
    let (client, a) = pair().await;
    let (b, server) = pair().await;
    let counters = Arc::new(Counters::new());
    let (cancel, cancelled) = oneshot::channel::<()>();
    let shared = Arc::clone(&counters);
    let relay = tokio::spawn(async move {
        let cancelled = async move {
            if cancelled.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        relay_until(TcpEnd::new(a), TcpEnd::new(b), &shared, cancelled).await
    });
    Bench {
        client,
        server,
        counters,
        cancel: Some(cancel),
        relay,
    }
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn expect_reset(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let outcome = timeout(PATIENCE, socket.read_to_end(&mut rest))
        .await
        .expect("a reset arrives");
    assert_eq!(
        outcome.expect_err("reset, not the end").kind(),
        ErrorKind::ConnectionReset
    );
}

/// Bytes that repeat only after a long prime-length period, so that a lost or swapped chunk shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 65_521 % 251) as u8).collect()
}

#[tokio::test]
async fn many_bytes_arrive_intact_both_ways() {
    let bench = start().await;
    let Bench { client, server, .. } = bench;
    let data = pattern(24 << 20);
    let exchange = |socket: TcpStream| {
        let data = data.clone();
        async move {
            let (mut read, mut write) = socket.into_split();
            let sender = tokio::spawn({
                let data = data.clone();
                async move {
                    for piece in data.chunks(100_003) {
                        write.write_all(piece).await.unwrap();
                    }
                    write.shutdown().await.unwrap();
                    write
                }
            });
            let mut received = Vec::new();
            read.read_to_end(&mut received).await.unwrap();
            assert!(received == data, "the bytes differ");
            sender.await.unwrap();
        }
    };
    timeout(PATIENCE * 3, async {
        tokio::join!(exchange(client), exchange(server))
    })
    .await
    .unwrap();
    let ended = timeout(PATIENCE, bench.relay).await.unwrap().unwrap();
    assert!(matches!(ended.reason, Reason::Closed), "{}", ended.reason);
    assert_eq!(
        (ended.a_to_b, ended.b_to_a),
        (data.len() as u64, data.len() as u64)
    );
}

#[tokio::test]
async fn half_close_each_way_leaves_the_other_direction_open() {
    for client_first in [true, false] {
        let mut bench = start().await;
        let (first, second) = if client_first {
            (&mut bench.client, &mut bench.server)
        } else {
            (&mut bench.server, &mut bench.client)
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut question = Vec::new();
        timeout(PATIENCE, second.read_to_end(&mut question))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(question, b"question");
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, first.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, b"answer");
        let ended = bench.ended().await;
        assert!(matches!(ended.reason, Reason::Closed));
        assert_eq!(ended.a_to_b + ended.b_to_a, 14);
    }
}

#[tokio::test]
async fn a_reset_reaches_the_other_side_as_a_reset() {
    for client_resets in [true, false] {
        let Bench {
            client,
            server,
            relay,
            cancel: _cancel,
            ..
        } = start().await;
        let (resetting, mut other) = if client_resets {
            (client, server)
        } else {
            (server, client)
        };
        reset(resetting);
        expect_reset(&mut other).await;
        let ended = timeout(PATIENCE, relay).await.unwrap().unwrap();
        let by = if client_resets { Side::A } else { Side::B };
        assert!(
            matches!(ended.reason, Reason::ResetBy(side, _) if side == by),
            "{}",
            ended.reason
        );
    }
}

#[tokio::test]
async fn a_reset_after_a_half_close_is_seen_while_all_is_silent() {
    let Bench {
        mut client,
        mut server,
        relay,
        cancel: _cancel,
        ..
    } = start().await;
    client.shutdown().await.unwrap();
    let mut end = Vec::new();
    timeout(PATIENCE, server.read_to_end(&mut end))
        .await
        .unwrap()
        .unwrap();
    reset(client);
    expect_reset_by_error(&mut server).await;
    let ended = timeout(PATIENCE, relay).await.unwrap().unwrap();
    assert!(
        matches!(ended.reason, Reason::ResetBy(Side::A, _)),
        "{}",
        ended.reason
    );
}

/// For a socket that has already read the end: the reset shows as an error event.
async fn expect_reset_by_error(socket: &mut TcpStream) {
    timeout(PATIENCE, socket.ready(Interest::ERROR))
        .await
        .expect("an error event arrives")
        .unwrap();
    let error = socket.take_error().unwrap().expect("an error");
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{error}"
    );
}

#[tokio::test]
async fn a_reset_is_seen_while_the_other_side_does_not_read() {
    let Bench {
        mut client,
        server,
        relay,
        counters,
        cancel: _cancel,
    } = start().await;
    fill(&mut client).await;
    assert!(counters.a_to_b() > 0);
    reset(client);
    let ended = timeout(PATIENCE, relay)
        .await
        .expect("seen without reading")
        .unwrap();
    assert!(
        matches!(ended.reason, Reason::ResetBy(Side::A, _)),
        "{}",
        ended.reason
    );
    drop(server);
}

/// Writes until nothing more is taken for a while.
async fn fill(socket: &mut TcpStream) -> u64 {
    let block = vec![1; 64 * 1024];
    let total = AtomicU64::new(0);
    loop {
        match timeout(Duration::from_millis(300), socket.write(&block)).await {
            Ok(written) => total.fetch_add(written.unwrap() as u64, Ordering::Relaxed),
            Err(_) => return total.into_inner(),
        };
    }
}

#[tokio::test]
async fn a_sleeping_reader_stops_the_sender() {
    let mut bench = start().await;
    for socket in [&bench.client, &bench.server] {
        SockRef::from(socket).set_recv_buffer_size(64 * 1024).unwrap();
    }
    let pushed = fill(&mut bench.client).await;
    // The kernel's four socket buffers (at most 4 MiB to send and 6 MiB to receive each) and one chunk of ours.
    assert!(pushed < 24 << 20, "{pushed} bytes were taken from the sender");
    let mut rest = Vec::new();
    bench.client.shutdown().await.unwrap();
    bench.server.shutdown().await.unwrap();
    timeout(PATIENCE, bench.server.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest.len() as u64, pushed, "nothing is lost");
    let ended = bench.ended().await;
    assert_eq!(ended.a_to_b, pushed);
}

#[tokio::test]
async fn cancelling_and_dropping_reset_both_sides() {
    for cancel in [true, false] {
        let mut bench = start().await;
        if cancel {
            bench.cancel.take().unwrap().send(()).unwrap();
            let ended = timeout(PATIENCE, &mut bench.relay).await.unwrap().unwrap();
            assert!(matches!(ended.reason, Reason::Cancelled));
        } else {
            bench.client.write_all(b"x").await.unwrap();
            bench.server.read_u8().await.unwrap();
            bench.relay.abort();
        }
        expect_reset(&mut bench.client).await;
        expect_reset(&mut bench.server).await;
    }
}
