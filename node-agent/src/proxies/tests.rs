use std::path::PathBuf;

use super::*;
use crate::test_support::{FakeProxy, eventually};

struct Setup {
    proxies: Proxies,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

/// Listening, with these pods known.
fn listening(pods: &[(&str, Option<Namespace>)]) -> (Setup, Vec<watch::Receiver<Served>>) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("zds");
    let proxies = Proxies::new();
    let served = pods
        .iter()
        .map(|(uid, namespace)| proxies.serve(uid, info(uid), namespace.clone()))
        .collect();
    tokio::spawn(proxies.clone().run(seqpacket::Listener::bind(&socket).unwrap()));
    (
        Setup {
            proxies,
            socket,
            _directory: directory,
        },
        served,
    )
}

fn info(uid: &str) -> PodInfo {
    PodInfo {
        name: format!("pod-{uid}"),
        namespace: "demo".into(),
        service_account: "default".into(),
    }
}

fn here() -> Option<Namespace> {
    Some(Namespace::current().unwrap())
}

async fn until(served: &mut watch::Receiver<Served>, wanted: Served) {
    let waiting = served.wait_for(|now| *now == wanted);
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn the_snapshot_comes_first_then_changes() {
    let (setup, mut served) = listening(&[("a", here()), ("b", None)]);
    assert_eq!(*served[0].borrow(), Served::NotYet);
    let proxy = FakeProxy::connect(&setup.socket).await;
    for served in &mut served {
        until(served, Served::Yes).await;
    }
    proxy.until_heard("snapshot").await;
    let mut late = setup.proxies.serve("c", info("c"), here());
    until(&mut late, Served::Yes).await;
    setup.proxies.stop("a").await;
    assert_eq!(proxy.log(), ["add a", "keep b", "snapshot", "add c", "del a"]);
    let given = proxy.heard(|heard| heard.namespaces["c"].id());
    assert_eq!(given, Namespace::current().unwrap().id());
    // Nobody has heard of it: nothing to tell, and no waiting.
    setup.proxies.stop("unknown").await;
    assert_eq!(proxy.log().len(), 5);
}

#[tokio::test]
async fn stopping_without_a_proxy_returns_at_once() {
    let (setup, _) = listening(&[("a", here())]);
    setup.proxies.stop("a").await;
    let proxy = FakeProxy::connect(&setup.socket).await;
    proxy.until_heard("snapshot").await;
    assert_eq!(proxy.log(), ["snapshot"]);
}

#[tokio::test]
async fn a_refusal_is_told_and_asking_again_asks_again() {
    let (setup, mut served) = listening(&[("a", here())]);
    let proxy = FakeProxy::refusing(&setup.socket, &["a"]).await;
    until(&mut served[0], Served::Refused("no listener".into())).await;
    proxy.heard(|heard| heard.refuse.clear());
    let mut again = setup.proxies.serve("a", info("a"), here());
    until(&mut again, Served::Yes).await;
    proxy.until_heard("snapshot").await;
    assert_eq!(proxy.log().iter().filter(|line| *line == "add a").count(), 2);
}

#[tokio::test]
async fn additions_go_to_the_newest_and_removals_to_all() {
    let (setup, mut served) = listening(&[("a", here())]);
    let old = FakeProxy::connect(&setup.socket).await;
    old.until_heard("snapshot").await;
    until(&mut served[0], Served::Yes).await;
    let new = FakeProxy::connect(&setup.socket).await;
    new.until_heard("snapshot").await;
    until(&mut served[0], Served::Yes).await;
    let mut late = setup.proxies.serve("b", info("b"), here());
    until(&mut late, Served::Yes).await;
    assert_eq!(old.log(), ["add a", "snapshot"]);
    assert_eq!(new.log(), ["add a", "snapshot", "add b"]);
    setup.proxies.stop("a").await;
    assert!(old.log().contains(&"del a".to_owned()) && new.log().contains(&"del a".to_owned()));

    // The newer one fails: the older one is given what it lacks.
    new.kill().await;
    old.until_heard("add b").await;
    until(&mut late, Served::Yes).await;
    old.kill().await;
    until(&mut late, Served::NotYet).await;
    assert_eq!(setup.proxies.connected(), 0);
}

#[tokio::test]
async fn a_stranger_is_not_the_newest() {
    let (setup, mut served) = listening(&[("a", here())]);
    let proxy = FakeProxy::connect(&setup.socket).await;
    proxy.until_heard("snapshot").await;
    until(&mut served[0], Served::Yes).await;
    // Says nothing; then something else than hello.
    let silent = seqpacket::Connection::connect(&setup.socket).await.unwrap();
    let wrong = seqpacket::Connection::connect(&setup.socket).await.unwrap();
    wrong.send(&[0xff; 3], None).await.unwrap();
    assert!(wrong.recv(MAX_RECORD).await.is_err(), "closed");
    assert_eq!(setup.proxies.connected(), 1);
    eventually("served by the first again", async || {
        *served[0].borrow() == Served::Yes
    })
    .await;
    drop(silent);
}

#[tokio::test]
async fn names_that_fit_no_record_are_refused_alone() {
    let (setup, _) = listening(&[]);
    let long = PodInfo {
        name: "x".repeat(2000),
        ..info("a")
    };
    let mut refused = setup.proxies.serve("a", long, here());
    let proxy = FakeProxy::connect(&setup.socket).await;
    let waiting = refused.wait_for(|now| matches!(now, Served::Refused(_)));
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("in time")
        .unwrap();
    let mut fine = setup.proxies.serve("b", info("b"), here());
    until(&mut fine, Served::Yes).await;
    assert!(!proxy.log().contains(&"add a".to_owned()));
}
