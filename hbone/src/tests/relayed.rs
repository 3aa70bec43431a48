//! Sockets on both sides of a tunnel: client <-> relay <-> tunnel <-> relay <-> application.

use std::io::ErrorKind;
use std::sync::Arc;

use relay::{Chunks, Counters, End, Ended, Reason, Side, TcpEnd, relay};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

async fn tunnels_over_tcp(streams: u32) -> (Client, tokio::sync::mpsc::Receiver<Tunnel>) {
    let (near, far) = sockets().await;
    let settings = (
        Settings {
            max_streams: streams,
            ..Settings::client()
        },
        Settings::server(),
    );
    let (client, _driver, server) = connected(near, far, settings).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(streams as usize);
    serve(server, move |incoming| {
        let sender = sender.clone();
        async move { sender.send(incoming.accept([]).unwrap()).await.unwrap() }
    });
    (client, receiver)
}

struct Path {
    client: TcpStream,
    application: TcpStream,
    near: JoinHandle<Ended>,
    far: JoinHandle<Ended>,
}

/// Opens one tunnel with a socket and a relay on each side.
async fn path(client: &Client, accepted: &mut tokio::sync::mpsc::Receiver<Tunnel>) -> Path {
    let (near_tunnel, far_tunnel) = tokio::join!(client.connect(request("app:80")), accepted.recv());
    let (socket, near) = sockets().await;
    let (far, application) = sockets().await;
    let (near_tunnel, far_tunnel) = (near_tunnel.unwrap().0, far_tunnel.unwrap());
    Path {
        client: socket,
        application,
        near: tokio::spawn(async move { relay(TcpEnd::new(near), near_tunnel, &Counters::new()).await }),
        far: tokio::spawn(async move { relay(far_tunnel, TcpEnd::new(far), &Counters::new()).await }),
    }
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| ((index + seed) % 65_521 % 251) as u8)
        .collect()
}

async fn send(mut socket: impl AsyncWrite + Unpin, data: Arc<Vec<u8>>) {
    for piece in data.chunks(100_003) {
        socket.write_all(piece).await.unwrap();
    }
    socket.shutdown().await.unwrap();
}

async fn receive(mut socket: impl AsyncRead + Unpin, data: Arc<Vec<u8>>) {
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.unwrap();
    assert!(
        received == *data,
        "the bytes differ: {} of {}",
        received.len(),
        data.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_in_one_stream() {
    let (client, mut accepted) = tunnels_over_tcp(100).await;
    let Path {
        client: socket,
        application,
        near,
        far,
    } = path(&client, &mut accepted).await;
    let (forth, back) = (Arc::new(pattern(100 << 20, 0)), Arc::new(pattern(10 << 20, 7)));
    let (client_read, client_write) = socket.into_split();
    let (app_read, app_write) = application.into_split();
    let jobs = [
        tokio::spawn(send(client_write, forth.clone())),
        tokio::spawn(receive(app_read, forth.clone())),
        tokio::spawn(send(app_write, back.clone())),
        tokio::spawn(receive(client_read, back.clone())),
    ];
    for job in jobs {
        timeout(PATIENCE * 4, job).await.unwrap().unwrap();
    }
    for relay in [near, far] {
        let ended = timeout(PATIENCE, relay).await.unwrap().unwrap();
        assert!(matches!(ended.reason, Reason::Closed), "{}", ended.reason);
        assert_eq!(
            (ended.a_to_b, ended.b_to_a),
            (forth.len() as u64, back.len() as u64)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_at_once() {
    const STREAMS: usize = 200;
    let (client, mut accepted) = tunnels_over_tcp(STREAMS as u32).await;
    let mut jobs = Vec::new();
    for stream in 0..STREAMS {
        let Path {
            client: socket,
            application,
            near,
            far,
        } = path(&client, &mut accepted).await;
        let data = Arc::new(pattern(128 << 10, stream));
        let (client_read, client_write) = socket.into_split();
        let (app_read, app_write) = application.into_split();
        jobs.push(tokio::spawn(async move {
            tokio::join!(
                send(client_write, data.clone()),
                receive(app_read, data.clone()),
                send(app_write, data.clone()),
                receive(client_read, data.clone()),
            );
            for relay in [near, far] {
                let ended = relay.await.unwrap();
                assert!(matches!(ended.reason, Reason::Closed), "{}", ended.reason);
                assert_eq!((ended.a_to_b, ended.b_to_a), (128 << 10, 128 << 10));
            }
        }));
    }
    for job in jobs {
        timeout(PATIENCE * 4, job).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_reset_crosses_the_whole_path_each_way() {
    for client_resets in [true, false] {
        let (client, mut accepted) = tunnels_over_tcp(100).await;
        let Path {
            client: socket,
            application,
            near,
            far,
        } = path(&client, &mut accepted).await;
        let (resetting, mut other) = if client_resets {
            (socket, application)
        } else {
            (application, socket)
        };
        TcpEnd::new(resetting).reset();
        let error = timeout(PATIENCE, other.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (near, far) = (near.await.unwrap().reason, far.await.unwrap().reason);
        // Each relay saw its own side A or B go first.
        let by = if client_resets { Side::A } else { Side::B };
        for reason in [near, far] {
            assert!(
                matches!(reason, Reason::ResetBy(side, _) if side == by),
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_tunnel_connection_resets_the_sockets() {
    let (client, mut accepted) = tunnels_over_tcp(100).await;
    let Path {
        client: mut socket,
        mut application,
        near,
        far,
    } = path(&client, &mut accepted).await;
    // A half-closed path must not mistake the loss for the end.
    socket.write_all(b"x").await.unwrap();
    application.read_u8().await.unwrap();
    client.close("test");
    for socket in [&mut socket, &mut application] {
        let error = timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let near = near.await.unwrap().reason;
    assert!(near.to_string().contains("closed by this proxy: test"), "{near}");
    assert!(matches!(near, Reason::Failed(Side::B, _)));
    assert!(matches!(far.await.unwrap().reason, Reason::Failed(Side::A, _)));
}

/// Takes bytes into the tunnel until it has no room.
async fn fill(tunnel: &mut Tunnel) -> usize {
    let mut total = 0;
    std::future::poll_fn(|cx| {
        loop {
            let mut chunks = Chunks::default();
            chunks.push(bytes::Bytes::from_static(&[5; 16 * 1024]));
            match End::poll_write(tunnel, cx, &mut chunks) {
                std::task::Poll::Ready(written) => total += written.unwrap(),
                std::task::Poll::Pending => return std::task::Poll::Ready(total),
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_peer_may_send_more_only_once_bytes_were_delivered() {
    const WINDOW: u32 = 64 * 1024;
    let (near, far) = duplex(64 * 1024);
    let settings = |settings| Settings {
        stream_window: WINDOW,
        ..settings
    };
    let (client, _driver, server) = connected(
        near,
        far,
        (settings(Settings::client()), settings(Settings::server())),
    )
    .await;
    let (mut near, mut far) = tunnel(&client, server).await;

    let mut sent = 0;
    let mut read = Chunks::default();
    let mut got = 0;
    // Everything is read at once and nothing is delivered.
    loop {
        sent += fill(&mut near).await;
        let wait = std::future::poll_fn(|cx| End::poll_read(&mut far, cx, usize::MAX, &mut read));
        match timeout(Duration::from_millis(100), wait).await {
            Ok(outcome) => drop(outcome.unwrap()),
            Err(_) => break,
        }
        got += read.bytes();
        read = Chunks::default();
    }
    assert_eq!((sent, got), (WINDOW as usize, WINDOW as usize));

    far.delivered(got);
    let more = timeout(PATIENCE, async {
        loop {
            match fill(&mut near).await {
                0 => tokio::time::sleep(Duration::from_millis(1)).await,
                more => return more,
            }
        }
    });
    assert!(more.await.unwrap() > 0);
}

#[tokio::test]
async fn a_sleeping_application_stops_the_client() {
    let (client, mut accepted) = tunnels_over_tcp(100).await;
    let Path {
        client: mut socket,
        mut application,
        near,
        far,
    } = path(&client, &mut accepted).await;
    let block = vec![1; 64 * 1024];
    let mut pushed = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), socket.write(&block)).await {
        pushed += written.unwrap();
        assert!(pushed < 64 << 20, "nobody stops the client");
    }
    // Another stream of the same connection is not held up: the window of one is a quarter of all.
    let Path {
        client: mut lively,
        application: mut other,
        ..
    } = path(&client, &mut accepted).await;
    lively.write_all(b"x").await.unwrap();
    timeout(PATIENCE, other.read_u8()).await.unwrap().unwrap();

    socket.shutdown().await.unwrap();
    application.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, application.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest.len(), pushed);
    for relay in [near, far] {
        assert!(matches!(relay.await.unwrap().reason, Reason::Closed));
    }
}
