//! The shell: real connections over in-memory streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::tests::{PATIENCE, echo, request};
use crate::{ConnectionEnd, Settings, client, server};

const DEADLINE: Duration = Duration::from_secs(5);

type TestPool = Pool<&'static str, usize, &'static str>;

/// Dials in-memory servers and counts.
#[derive(Clone, Default)]
struct Dialler {
    dials: Arc<AtomicUsize>,
    drivers: Arc<Mutex<Vec<JoinHandle<ConnectionEnd>>>>,
    /// Sends to it make all servers go away.
    goaway: Arc<Notify>,
}

impl Dialler {
    fn count(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    fn dial(&self) -> impl Future<Output = Result<(Client, usize), &'static str>> + Send + 'static {
        let this = self.clone();
        async move {
            let number = this.dials.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(Duration::from_millis(10)).await;
            let (near, far) = duplex(64 * 1024);
            let goaway = Arc::clone(&this.goaway);
            tokio::spawn(async move {
                let mut server = server::handshake(far, Settings::server()).await.unwrap();
                loop {
                    tokio::select! {
                        incoming = server.accept() => match incoming {
                            Some(Ok(incoming)) => drop(tokio::spawn(echo(incoming))),
                            _ => return,
                        },
                        () = goaway.notified() => server.graceful_shutdown(),
                    }
                }
            });
            let (client, driver) = client::handshake(near, Settings::client())
                .await
                .map_err(|_| "handshake")?;
            this.drivers.lock().unwrap().push(tokio::spawn(driver));
            Ok((client, number))
        }
    }

    fn driver(&self, index: usize) -> JoinHandle<ConnectionEnd> {
        self.drivers.lock().unwrap().remove(index)
    }
}

fn pool(limits: Limits) -> (TestPool, Dialler) {
    (Pool::new(limits), Dialler::default())
}

async fn get(pool: &TestPool, dialler: &Dialler, key: &'static str) -> Lease<usize> {
    pool.get(&key, DEADLINE, || dialler.dial()).await.unwrap()
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_dial_and_one_connection() {
    let (pool, dialler) = pool(Limits::default());
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (pool, dialler) = (pool.clone(), dialler.clone());
            tokio::spawn(async move {
                let lease = get(&pool, &dialler, "a").await;
                let (mut tunnel, _) = lease.connect(request("x:1")).await.unwrap();
                tunnel.write_all(b"hello").await.unwrap();
                let mut back = [0; 5];
                tunnel.read_exact(&mut back).await.unwrap();
                assert_eq!(&back, b"hello");
                tunnel
            })
        })
        .collect();
    let mut tunnels = Vec::new();
    for one in asking {
        tunnels.push(timeout(PATIENCE, one).await.unwrap().unwrap());
    }
    assert_eq!(dialler.count(), 1);
    assert_eq!(pool.counts().leased, 50);
    drop(tunnels);
    assert_eq!(
        pool.counts().leased,
        0,
        "a tunnel gives its place back when it is dropped"
    );
    assert_eq!(pool.counts().connections, 1);
}

#[tokio::test]
async fn a_failed_dial_is_shared_by_all_who_waited() {
    let (pool, _) = pool(Limits::default());
    let dials = Arc::new(AtomicUsize::new(0));
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let (pool, dials) = (pool.clone(), dials.clone());
            tokio::spawn(async move {
                let dial = || async move {
                    dials.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(20)).await;
                    Err("refused")
                };
                pool.get(&"a", DEADLINE, dial).await.err().unwrap()
            })
        })
        .collect();
    let mut errors = Vec::new();
    for one in asking {
        let GetError::Dial(error) = one.await.unwrap() else {
            panic!("not the dial's error")
        };
        errors.push(error);
    }
    assert_eq!(dials.load(Ordering::SeqCst), 1);
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
    assert_eq!(pool.counts(), state::Counts::default());
}

#[tokio::test]
async fn who_gives_up_does_not_let_the_others_down() {
    let (pool, dialler) = pool(Limits::default());
    let first = tokio::spawn({
        let (pool, dialler) = (pool.clone(), dialler.clone());
        async move { get(&pool, &dialler, "a").await }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let (pool, dialler) = (pool.clone(), dialler.clone());
        async move { get(&pool, &dialler, "a").await }
    });
    tokio::task::yield_now().await;
    first.abort();
    let lease = timeout(PATIENCE, second).await.unwrap().unwrap();
    assert_eq!((*lease.info(), dialler.count()), (1, 1));
    assert_eq!(pool.counts().leased, 1, "the place of who gave up is free");
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_ends_at_its_deadline_for_all() {
    let (pool, dialler) = pool(Limits::default());
    let start = Instant::now();
    let hang = || pool.get(&"a", DEADLINE, std::future::pending);
    let (one, two) = tokio::join!(hang(), hang());
    for outcome in [one, two] {
        assert!(matches!(outcome, Err(GetError::Timeout(DEADLINE))));
    }
    assert_eq!(start.elapsed(), DEADLINE);
    // And it does not stand in the way of the next.
    sleep(Duration::from_millis(1)).await;
    get(&pool, &dialler, "a").await;
}

#[tokio::test]
async fn a_dialler_that_panics_is_an_error_not_a_hang() {
    let (pool, dialler) = pool(Limits::default());
    let outcome = pool.get(&"a", DEADLINE, || async { panic!("test") }).await;
    assert!(matches!(outcome, Err(GetError::Abandoned)));
    get(&pool, &dialler, "a").await;
}

#[tokio::test]
async fn full_connections_get_siblings_up_to_the_limit() {
    let limits = Limits {
        streams_per_connection: 2,
        connections_per_key: 2,
        ..Limits::default()
    };
    let (pool, dialler) = pool(limits);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(get(&pool, &dialler, "a").await);
    }
    assert_eq!(
        leases.iter().map(|lease| *lease.info()).collect::<Vec<_>>(),
        [1, 1, 2, 2]
    );
    let refused = pool.get(&"a", DEADLINE, || dialler.dial()).await.err().unwrap();
    assert!(
        matches!(refused, GetError::Refused(Refusal::ConnectionsPerKey(2))),
        "{refused}"
    );
    leases.remove(0);
    assert_eq!(*get(&pool, &dialler, "a").await.info(), 1, "in service again");
}

#[tokio::test]
async fn a_connection_going_away_takes_no_new_tunnels_and_keeps_the_old() {
    let (pool, dialler) = pool(Limits::default());
    let (mut tunnel, _) = get(&pool, &dialler, "a")
        .await
        .connect(request("x:1"))
        .await
        .unwrap();
    dialler.goaway.notify_one();
    timeout(PATIENCE, async {
        while *get(&pool, &dialler, "a").await.info() == 1 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the next one is dialled");
    tunnel.write_all(b"old").await.unwrap();
    let mut back = [0; 3];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"old");
    assert_eq!((pool.counts().connections, pool.counts().leased), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_five_minutes() {
    let (pool, dialler) = pool(Limits::default());
    let (tunnel, _) = get(&pool, &dialler, "a")
        .await
        .connect(request("x:1"))
        .await
        .unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(pool.counts().connections, 1, "a tunnel is open");
    drop(tunnel);
    let start = Instant::now();
    let end = dialler.driver(0).await.unwrap();
    assert!(matches!(end, ConnectionEnd::Finished), "{end}");
    let after = start.elapsed().as_secs();
    assert!((300..=315).contains(&after), "after {after} s");
    assert_eq!(pool.counts(), state::Counts::default());
}

#[tokio::test]
async fn closing_by_key_resets_those_tunnels_only() {
    let (pool, dialler) = pool(Limits::default());
    let (mut revoked, _) = get(&pool, &dialler, "a")
        .await
        .connect(request("x:1"))
        .await
        .unwrap();
    let (mut other, _) = get(&pool, &dialler, "b")
        .await
        .connect(request("x:1"))
        .await
        .unwrap();
    let dialling = tokio::spawn({
        let pool = pool.clone();
        let dialler = dialler.clone();
        async move { pool.get(&"c", DEADLINE, || dialler.dial()).await.err() }
    });
    tokio::task::yield_now().await;
    pool.close_matching(|key| *key != "b", "certificate revoked");
    let error = timeout(PATIENCE, revoked.read_u8()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("certificate revoked"), "{error}");
    assert!(matches!(
        timeout(PATIENCE, dialling).await.unwrap().unwrap(),
        Some(GetError::Closed)
    ));
    other.write_all(b"x").await.unwrap();
    other.read_u8().await.unwrap();
}

#[tokio::test]
async fn draining_waits_for_the_last_tunnel() {
    let (pool, dialler) = pool(Limits::default());
    let (tunnel, _) = get(&pool, &dialler, "a")
        .await
        .connect(request("x:1"))
        .await
        .unwrap();
    pool.drain();
    let refused = pool.get(&"a", DEADLINE, || dialler.dial()).await.err().unwrap();
    assert!(matches!(refused, GetError::Refused(Refusal::Draining)));
    assert!(timeout(Duration::from_millis(20), pool.drained()).await.is_err());
    drop(tunnel);
    timeout(PATIENCE, pool.drained()).await.unwrap();
    assert!(matches!(
        timeout(PATIENCE, dialler.driver(0)).await.unwrap().unwrap(),
        ConnectionEnd::Finished
    ));
}

#[tokio::test]
async fn a_pool_that_is_gone_leaves_nothing_running() {
    let (pool, dialler) = pool(Limits::default());
    drop(get(&pool, &dialler, "a").await);
    drop(pool);
    timeout(PATIENCE, dialler.driver(0))
        .await
        .expect("the connection closes")
        .unwrap();
}

/// A connection whose wire can be cut: what is written while it is cut arrives when it is whole again.
async fn over_wire(cut: Arc<tokio::sync::watch::Sender<bool>>) -> Result<(Client, usize), &'static str> {
    let (near, left) = duplex(64 * 1024);
    let (right, far) = duplex(64 * 1024);
    let (left_read, left_write) = tokio::io::split(left);
    let (right_read, right_write) = tokio::io::split(right);
    for (mut from, mut to) in [
        (
            Box::pin(left_read) as std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>,
            Box::pin(right_write) as std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
        ),
        (Box::pin(right_read), Box::pin(left_write)),
    ] {
        let mut whole = cut.subscribe();
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count) = from.read(&mut buffer).await {
                if count == 0 || whole.wait_for(|cut| !cut).await.is_err() {
                    return;
                }
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
    }
    tokio::spawn(async move {
        let server = server::handshake(far, Settings::server()).await.unwrap();
        crate::tests::serve(server, echo).await
    });
    let (client, driver) = client::handshake(near, Settings::client())
        .await
        .map_err(|_| "handshake")?;
    tokio::spawn(driver);
    Ok((client, 0))
}

async fn ask(
    pool: &TestPool,
    wire: &Arc<tokio::sync::watch::Sender<bool>>,
) -> Result<(), crate::ConnectError> {
    let lease = pool
        .get(&"a", DEADLINE, || over_wire(Arc::clone(wire)))
        .await
        .unwrap();
    let (mut tunnel, _) = lease.connect(request("x:1")).await?;
    tunnel.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    tunnel.read_exact(&mut back).await.unwrap();
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_costs_a_moment_and_serves_again_once_its_peer_is_heard() {
    let (pool, _) = pool(Limits::default());
    let first = Arc::new(tokio::sync::watch::Sender::new(false));
    ask(&pool, &first).await.unwrap();
    let _ = first.send_replace(true);
    // However short the silence was before the request: half a second, or an hour.
    for quiet in [500, 5_000] {
        sleep(Duration::from_millis(quiet)).await;
        let second = Arc::new(tokio::sync::watch::Sender::new(false));
        let start = Instant::now();
        let error = ask(&pool, &first).await.unwrap_err();
        assert!(matches!(error, crate::ConnectError::Silent(_)), "{error}");
        assert!(error.may_be_sent_again() && !error.is_retryable());
        ask(&pool, &second).await.unwrap();
        let took = start.elapsed();
        assert!(took <= Duration::from_millis(2_100), "took {took:?}");
        assert_eq!(pool.counts().connections, 2, "the old one is not given up yet");
        // And whoever comes next does not even notice.
        let start = Instant::now();
        ask(&pool, &second).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(100));
        // Its wire is whole again, so it serves again, though the other is gone.
        sleep(Duration::from_millis(10)).await;
        let _ = first.send_replace(false);
        sleep(Duration::from_millis(10)).await;
        let _ = second.send_replace(true);
        ask(&pool, &first).await.unwrap();
        let _ = first.send_replace(true);
        pool.close_matching(|_| true, "next round");
        let _ = first.send_replace(false);
        ask(&pool, &first).await.unwrap();
        let _ = first.send_replace(true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_application_is_not_a_silent_peer() {
    let (pool, _) = pool(Limits::default());
    let dial = || async {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(async move {
            let server = server::handshake(far, Settings::server()).await.unwrap();
            crate::tests::serve(server, |incoming| async move {
                sleep(Duration::from_secs(10)).await;
                incoming.refuse(503, []).unwrap();
            })
            .await
        });
        let (client, driver) = client::handshake(near, Settings::client())
            .await
            .map_err(|_| "handshake")?;
        tokio::spawn(driver);
        Ok((client, 0))
    };
    let lease = pool.get(&"a", DEADLINE, dial).await.unwrap();
    let error = lease.connect(request("x:1")).await.err().unwrap();
    assert!(matches!(error, crate::ConnectError::Status(503)), "{error}");
}

#[tokio::test]
async fn a_reader_that_stalls_the_whole_connection_does_not_stall_new_tunnels() {
    let pool: TestPool = Pool::new(Limits::default());
    let dials = Arc::new(AtomicUsize::new(0));
    let read_on = Arc::new(Notify::new());
    let dial = || {
        let number = dials.fetch_add(1, Ordering::SeqCst) + 1;
        let read_on = Arc::clone(&read_on);
        async move {
            let (near, far) = duplex(1024 * 1024);
            tokio::spawn(async move {
                // One stream that is not read uses up the whole connection.
                let mut settings = Settings::server();
                settings.connection_window = 1024 * 1024;
                settings.stream_window = 1024 * 1024;
                let server = server::handshake(far, settings).await.unwrap();
                crate::tests::serve(server, move |incoming| {
                    let read_on = Arc::clone(&read_on);
                    async move {
                        if incoming.authority() == "slow:1" {
                            let mut tunnel = incoming.accept([]).unwrap();
                            read_on.notified().await;
                            let _ = tokio::io::copy(&mut tunnel, &mut tokio::io::sink()).await;
                        } else {
                            echo(incoming).await
                        }
                    }
                })
                .await
            });
            let (client, driver) = client::handshake(near, Settings::client())
                .await
                .map_err(|_| "handshake")?;
            tokio::spawn(driver);
            Ok((client, number))
        }
    };
    let lease = pool.get(&"a", DEADLINE, &dial).await.unwrap();
    let first = lease.client().clone();
    let (mut slow, _) = lease.connect(request("slow:1")).await.unwrap();
    let writing = tokio::spawn(async move { slow.write_all(&vec![0; 8 * 1024 * 1024]).await });
    timeout(PATIENCE, async {
        while first
            .blocked_since()
            .is_none_or(|since| since.elapsed() < Limits::default().blocked_after)
        {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the window is used up");
    let lease = pool.get(&"a", DEADLINE, &dial).await.unwrap();
    assert_eq!(*lease.info(), 2, "another connection");
    let (mut tunnel, _) = lease.connect(request("quick:1")).await.unwrap();
    tunnel.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    timeout(PATIENCE, tunnel.read_exact(&mut back))
        .await
        .expect("not stalled")
        .unwrap();
    // Once the slow one reads, the connection moves again, and is the first choice again.
    read_on.notify_one();
    timeout(PATIENCE, writing).await.unwrap().unwrap().unwrap();
    timeout(PATIENCE, async {
        while first.blocked_since().is_some() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("moves again");
    assert_eq!(*pool.get(&"a", DEADLINE, &dial).await.unwrap().info(), 1);
}
