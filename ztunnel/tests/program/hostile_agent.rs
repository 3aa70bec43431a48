//! A node agent that does everything wrong costs its connection, or the one request, and nothing that is served.

use super::agent::{
    Agent, Link, add, del, descriptor, file, is_served, keep, no_namespace, record, snapshot_sent,
};
use super::running::{PROBES, Running, namespace};

/// The mistake of one connection.
enum Mistake {
    /// Ends the connection.
    Closes(&'static str, Vec<u8>),
    /// The agent itself goes in the middle of its snapshot.
    Leaves,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_the_agent_cost_the_connection_and_nothing_that_is_served() {
    let directory = tempfile::tempdir().unwrap();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let agent = Agent::listen(directory.path());
    let proxy = Running::start_in(directory, &[]).await;
    let (good, other) = (namespace().await, namespace().await);
    let link = agent.meet().await;
    assert_eq!(link.ask(add("good"), descriptor(&good)).await.unwrap(), "");
    assert_eq!(link.ask(snapshot_sent(), None).await.unwrap(), "");
    assert!(is_served(&good).await);

    refused_one_by_one(&link, &good, &other).await;
    drop(link);

    let truncated = {
        let mut whole = record(add("other"));
        whole.truncate(whole.len() - 3);
        whole
    };
    let mut random = vec![0; 600];
    for (place, byte) in random.iter_mut().enumerate() {
        *byte = (place * 167 + 13) as u8 | 0x80;
    }
    for mistake in [
        Mistake::Closes("an empty record", Vec::new()),
        Mistake::Closes("garbage", random),
        Mistake::Closes("half a request", truncated),
        Mistake::Closes("a record longer than any", vec![b'x'; zds::MAX_RECORD + 1]),
        Mistake::Closes("a record much longer than any", vec![b'x'; 64 << 10]),
        Mistake::Leaves,
    ] {
        let link = agent.meet().await;
        match mistake {
            Mistake::Closes(what, bytes) => {
                link.send(&bytes, None).await;
                assert!(link.is_closed_by_proxy().await, "{what}");
            }
            Mistake::Leaves => {
                // Without the end of the snapshot nobody knows that the good pod has gone.
                assert_eq!(link.ask(add("other"), descriptor(&other)).await.unwrap(), "");
                drop(link);
            }
        }
        assert!(proxy.is_alive());
        assert!(is_served(&good).await);
    }
    let ready = proxy.get(PROBES, "/healthz/ready").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());

    // One that behaves is served as if nothing had been.
    let link = agent.meet().await;
    assert_eq!(link.ask(keep("other"), None).await.unwrap(), "");
    assert_eq!(link.ask(snapshot_sent(), None).await.unwrap(), "");
    assert!(is_served(&other).await);
    super::running::eventually("who was not named leaves", || async { !is_served(&good).await }).await;
}

/// Requests that are whole but wrong are refused by name, and the connection goes on.
async fn refused_one_by_one(link: &Link, good: &sys::Namespace, other: &sys::Namespace) {
    let null = no_namespace();
    let mistakes = [
        (
            "no descriptor",
            link.ask(add("other"), None).await,
            "0 file descriptors",
        ),
        (
            "no namespace",
            link.ask(add("other"), file(&null)).await,
            "not a network namespace",
        ),
        (
            "a descriptor too many",
            link.ask(del("good"), descriptor(good)).await,
            "1 file descriptors",
        ),
        (
            "a second snapshot",
            link.ask(snapshot_sent(), None).await,
            "second time",
        ),
        (
            "keep too late",
            link.ask(keep("good"), None).await,
            "after SnapshotSent",
        ),
        ("no uid", link.ask(add(""), descriptor(other)).await, "uid"),
    ];
    for (what, answer, words) in mistakes {
        let answer = answer.unwrap_or_else(|_| panic!("{what} cost the connection"));
        assert!(answer.contains(words), "{what}: {answer:?}");
    }
    // Of somebody unknown: nothing to do.
    assert_eq!(link.ask(del("unknown"), None).await.unwrap(), "");
    assert!(is_served(good).await);
}
