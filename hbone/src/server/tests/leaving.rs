//! Taking leave of a peer: what was under way is served.

use std::time::Duration;

use super::*;

/// Stream ids in GOAWAY: the last one that was looked at.
fn last_stream(goaway: &[u8]) -> u32 {
    u32::from_be_bytes(goaway[..4].try_into().unwrap())
}

fn pong(payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 8, 6, 1, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn requests_that_cross_the_first_goaway_are_served_and_later_ones_are_not_taken() {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(PREFACE).await.unwrap();
    let mut server = handshake(far, Settings::server()).await.unwrap();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let mut gone = Box::pin(gone);
        let mut told = false;
        let mut served = Vec::new();
        loop {
            tokio::select! {
                incoming = server.accept() => match incoming {
                    Some(Ok(incoming)) => {
                        served.push(incoming.authority().to_owned());
                        tokio::spawn(echo(incoming));
                    }
                    Some(Err(end)) => panic!("{end}"),
                    None => return served,
                },
                _ = &mut gone, if !told => {
                    told = true;
                    server.graceful_shutdown();
                }
            }
        }
    });
    go.send(()).unwrap();
    let (_, goaway) = timeout(PATIENCE, frame(&mut near, 7)).await.unwrap();
    assert_eq!(last_stream(&goaway), 0x7fff_ffff, "everything is still welcome");
    assert_eq!(goaway[4..8], [0; 4], "NO_ERROR");
    // It was on its way when GOAWAY was: the peer answers the ping that came along only after it.
    let (_, ping) = timeout(PATIENCE, frame(&mut near, 6)).await.unwrap();
    near.write_all(&headers(1)).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, frame(&mut near, 1)).await.unwrap().0,
        1,
        "answered"
    );
    near.write_all(&pong(&ping)).await.unwrap();
    let (_, goaway) = timeout(PATIENCE, frame(&mut near, 7)).await.unwrap();
    assert_eq!(last_stream(&goaway), 1, "and no further");
    near.write_all(&headers(3)).await.unwrap();
    // END_STREAM ends the only tunnel, and that ends the connection.
    near.write_all(&[0, 0, 0, 0, 1, 0, 0, 0, 1]).await.unwrap();
    let served = timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(served, ["app:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_tunnels_is_asked_to_leave_and_one_with_a_tunnel_is_not() {
    for busy in [false, true] {
        let (near, far) = duplex(64 * 1024);
        let settings = Settings::server();
        let limit = settings.idle_timeout;
        let client = tokio::spawn(async move {
            let (requests, connection) = h2::client::handshake(near).await.unwrap();
            (requests, tokio::spawn(connection))
        });
        let server = handshake(far, settings).await.unwrap();
        let serving = serve(server, echo);
        let (mut requests, driver) = client.await.unwrap();
        let open = busy.then(|| requests.send_request(connect("app:80"), false).unwrap());
        let start = tokio::time::Instant::now();
        let ended = timeout(limit * 3, driver).await;
        assert_eq!(ended.is_err(), busy);
        if !busy {
            ended.unwrap().unwrap().expect("in good order");
            assert!(start.elapsed() >= limit * 3 / 4 && start.elapsed() <= limit + Duration::from_secs(1));
            timeout(PATIENCE, serving).await.unwrap().unwrap();
        }
        drop(open);
    }
}
