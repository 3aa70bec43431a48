//! Peers that mean harm. Each has proven who it is, and still costs a bounded amount and hurts nobody else.

use std::time::Duration;

use super::*;

/// A frame of any kind.
fn raw(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [
        &[length[1], length[2], length[3], kind, flags, 0, 0, 0, stream],
        payload,
    ]
    .concat()
}

/// A served connection and the attacker's end of it.
async fn attacked(settings: Settings) -> (DuplexStream, tokio::task::JoinHandle<ConnectionEnd>) {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(PREFACE).await.unwrap();
    let mut server = handshake(far, settings).await.unwrap();
    let serving = tokio::spawn(async move {
        loop {
            match server.accept().await {
                Some(Ok(incoming)) => drop(tokio::spawn(echo_if_wanted(incoming))),
                Some(Err(end)) => return end,
                None => return server.ended().cloned().unwrap(),
            }
        }
    });
    (near, serving)
}

/// As [`echo`], for a peer that may have gone before the answer.
async fn echo_if_wanted(mut incoming: Incoming) {
    tokio::select! {
        biased;
        () = incoming.abandoned() => return,
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    if let Ok(tunnel) = incoming.accept([]) {
        let (mut read, mut write) = tokio::io::split(tunnel);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

/// Writes `frame` again and again, without reading, until the other side takes no more or is gone; bytes written.
async fn flood(io: &mut DuplexStream, frame: &[u8], at_most: usize) -> usize {
    let mut written = 0;
    while written < at_most {
        match timeout(Duration::from_millis(300), io.write(frame)).await {
            Ok(Ok(count)) if count > 0 => written += count,
            _ => break,
        }
    }
    written
}

/// A connection beside the attacked one is served.
async fn another_is_served() {
    let (mut requests, server) = against_library().await;
    serve(server, echo);
    let (answer, _send) = requests.send_request(connect("app:80"), false).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn floods_of_pings_and_settings_are_answered_only_as_fast_as_the_answers_are_read() {
    let ping = raw(6, 0, 0, &[7; 8]).repeat(64);
    let settings = raw(4, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(64);
    for flooding in [ping, settings] {
        let (mut near, serving) = attacked(Settings::server()).await;
        const PLENTY: usize = 64 << 20;
        let taken = flood(&mut near, &flooding, PLENTY).await;
        // What is gathered for one turn, the pipe in both directions, and what the library reads ahead.
        assert!(taken < 2 << 20, "took {taken} bytes and kept the answers");
        another_is_served().await;
        serving.abort();
    }
}

#[tokio::test]
async fn requests_given_up_as_fast_as_they_are_accepted_end_the_connection() {
    let settings = Settings {
        max_abandoned: 20,
        max_streams: 10,
        ..Settings::server()
    };
    let (mut near, serving) = attacked(settings).await;
    let mut written = 0;
    for stream in (1..=121).step_by(2) {
        if near.write_all(&headers(stream)).await.is_err() {
            break;
        }
        // It is accepted by now, so that it is not in the library's queue when it is reset.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        written += 1;
        if near.write_all(&rst_stream(stream)).await.is_err() {
            break;
        }
    }
    let end = timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert!(
        end.to_string().contains("gave up too many requests"),
        "{end} after {written}"
    );
    let (_, goaway) = timeout(PATIENCE, frame(&mut near, 7)).await.unwrap();
    assert_eq!(goaway[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    another_is_served().await;
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let (mut near, serving) = attacked(Settings::server()).await;
    // HEADERS without END_HEADERS, and then one CONTINUATION after the other, each with literal headers.
    near.write_all(&raw(1, 0, 1, b"\x02\x07CONNECT\x01\x06app:80"))
        .await
        .unwrap();
    let header = [b"\x00\x04junk\x7f\x81\x01".as_slice(), &[b'x'; 256]].concat();
    let taken = flood(&mut near, &raw(9, 0, 1, &header.repeat(16)), 64 << 20).await;
    assert!(taken < 2 << 20, "took {taken} bytes of headers");
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    another_is_served().await;
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_refused_and_the_next_is_served() {
    let (mut near, serving) = attacked(Settings::server()).await;
    let head = b"\x02\x07CONNECT\x01\x06app:80".as_slice();
    let header = [b"\x00\x04junk\x7f\x81\x01".as_slice(), &[b'x'; 256]].concat();
    // 300 headers of 292 bytes each, as RFC 9113 §6.5.2 counts: over 64 KiB, and in one frame.
    near.write_all(&raw(1, 4, 1, &[head, &header.repeat(300)].concat()))
        .await
        .unwrap();
    near.write_all(&headers(3)).await.unwrap();
    let answer = timeout(PATIENCE, async {
        loop {
            let mut head = [0; 9];
            near.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            near.read_exact(&mut payload).await.unwrap();
            // The first static index of status 200.
            if head[3] == 1 && head[8] == 3 {
                return payload;
            }
            assert!(
                head[3] != 1 || payload.first() != Some(&0x88),
                "the large one was accepted"
            );
        }
    });
    assert_eq!(answer.await.unwrap().first(), Some(&0x88), "200");
    serving.abort();
}

#[tokio::test]
async fn a_peer_that_opens_no_window_holds_back_the_sender_and_not_memory() {
    let (mut near, far) = duplex(64 * 1024);
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &raw(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
    ];
    near.write_all(&preface.concat()).await.unwrap();
    let server = handshake(far, Settings::server()).await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    serve(server, move |incoming| {
        let sender = sender.clone();
        async move { sender.send(incoming.accept([]).unwrap()).await.unwrap() }
    });
    near.write_all(&headers(1)).await.unwrap();
    let mut tunnel = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    let stuck = timeout(Duration::from_millis(200), tunnel.write(&[1; 1024])).await;
    assert!(stuck.is_err(), "took {stuck:?} bytes that nobody wants");
    another_is_served().await;
    // One byte is allowed, and one byte is sent.
    near.write_all(&raw(8, 0, 1, &[0, 0, 0, 1])).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, tunnel.write(&[1; 1024]))
            .await
            .unwrap()
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_peer_that_reads_nothing_holds_at_most_the_send_buffer_of_each_stream() {
    let (mut near, far) = duplex(64 * 1024);
    // The largest windows there are, for the stream and for the connection.
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &raw(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        &raw(8, 0, 0, &[0x7f, 0xff, 0, 0]),
    ];
    near.write_all(&preface.concat()).await.unwrap();
    let settings = Settings::server();
    let bound = settings.send_buffer;
    let server = handshake(far, settings).await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    serve(server, move |incoming| {
        let sender = sender.clone();
        async move { sender.send(incoming.accept([]).unwrap()).await.unwrap() }
    });
    near.write_all(&headers(1)).await.unwrap();
    let mut tunnel = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    let mut taken = 0;
    while let Ok(Ok(count)) = timeout(Duration::from_millis(300), tunnel.write(&[1; 16 * 1024])).await {
        taken += count;
        assert!(taken <= 64 << 20, "no bound");
    }
    // Besides: what is gathered for a turn, one frame under way, and the pipe.
    assert!(taken <= bound + (2 << 20), "holds {taken} bytes");
    another_is_served().await;
}

#[tokio::test]
async fn empty_data_without_end_is_no_way_to_fill_memory() {
    let (mut near, serving) = attacked(Settings::server()).await;
    near.write_all(&headers(1)).await.unwrap();
    flood(&mut near, &raw(0, 0, 1, &[]).repeat(64), 8 << 20).await;
    // Either it was ignored all along, or the peer was thrown out; and in both cases others are served.
    another_is_served().await;
    serving.abort();
}

#[tokio::test]
async fn a_peer_that_reads_nothing_on_many_streams_holds_its_share_and_others_go_on() {
    const STREAMS: u8 = 100;
    let budget = crate::budget::Budget::new(16 << 20);
    let settings = || Settings {
        account: Some(budget.account()),
        ..Settings::server()
    };
    let (mut near, far) = duplex(64 * 1024);
    // The largest windows there are, for each stream and for the connection.
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &raw(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        &raw(8, 0, 0, &[0x7f, 0xff, 0, 0]),
    ];
    near.write_all(&preface.concat()).await.unwrap();
    let server = handshake(far, settings()).await.unwrap();
    let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
    serve(server, move |incoming| {
        let sender = sender.clone();
        async move {
            let mut tunnel = incoming.accept([]).unwrap();
            sender.send(()).unwrap();
            while tunnel.write_all(&[1; 16 * 1024]).await.is_ok() {}
        }
    });
    for stream in 0..STREAMS {
        near.write_all(&headers(2 * stream + 1)).await.unwrap();
        timeout(PATIENCE, started.recv()).await.unwrap().unwrap();
    }
    // Without the budget it would be 40 MB.
    let full = async {
        while budget.queued() < budget.limit() / 4 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(budget.queued() <= budget.limit() / 2, "{} bytes", budget.queued());
    }

    // A connection of somebody else gets its bytes through.
    let (one, other) = duplex(64 * 1024);
    let (client, server) = tokio::join!(
        crate::client::handshake(one, Settings::client()),
        handshake(other, settings())
    );
    let (client, driver) = client.unwrap();
    tokio::spawn(driver);
    serve(server.unwrap(), echo);
    let (tunnel, _) = client.connect(crate::tests::request("app:80")).await.unwrap();
    let (mut from, mut to) = tokio::io::split(tunnel);
    let sending = tokio::spawn(async move {
        for _ in 0..256 {
            to.write_all(&[2; 16 * 1024]).await.unwrap();
        }
    });
    let mut back = vec![0; 256 * 16 * 1024];
    timeout(PATIENCE, from.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    sending.await.unwrap();
    assert!(back.iter().all(|byte| *byte == 2));
    assert!(budget.promised() > 0, "4 MiB came, and that is worth a window");

    drop((near, from, client));
    let empty = async {
        while budget.queued() > 0 || budget.promised() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, empty).await.unwrap();
}
