use super::{APP, Scene};

use std::time::Duration;

use conformance::{
    Outcome, Reply, Report, ServerSettings, TlsSettings, echoes, ensure, ensure_eq, eventually, rest,
};
use tokio::io::AsyncWriteExt;

pub(crate) async fn run(report: &mut Report, scene: &mut Scene) {
    report.clause("calls-share-a-tunnel", shared(scene)).await;
    report
        .clause("pods-do-not-share-a-tunnel", not_shared(scene))
        .await;
    report
        .clause("keeps-to-the-streams-a-server-allows", max_streams(scene))
        .await;
    report
        .clause(
            "keeps-streams-over-goaway-and-uses-another-tunnel-after",
            goaway(scene),
        )
        .await;
    report
        .extension(
            "retries-a-connect-that-the-server-did-not-take",
            refused_stream(scene),
        )
        .await;
}

async fn shared(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "shared", |_| Reply::Echo).await?;
    let mut calls = Vec::new();
    for number in 0..20 {
        let mut call = scene.call(pod.at(APP)).await?;
        echoes(&mut call, &format!("call {number}")).await?;
        calls.push(call);
    }
    let seen = server.seen();
    ensure_eq!(seen.len(), 1, "tunnels for 20 calls");
    ensure_eq!(seen[0].requests.len(), 20, "requests in it");
    Ok(())
}

async fn not_shared(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "visited", |_| Reply::Echo).await?;
    let other = scene.world.pod("callers", "other").await?;
    // Of the same identity as the first: the address alone tells them apart.
    let mut twin = scene.world.bare_pod("callers", "twin", "client")?;
    twin.account = "client".to_owned();
    conformance::redirect(&twin.network)?;
    scene
        .world
        .announce(twin.workload(conformance::mesh::NODE))
        .await?;
    scene.world.add(&twin).await?;
    for caller in [&scene.client, &other, &twin] {
        let mut call = caller.network.connect(pod.at(APP)).await?;
        echoes(&mut call, &caller.name).await?;
    }
    let mut seen = Vec::new();
    for tunnel in server.seen() {
        seen.push((tunnel.peer.ip().to_canonical(), tunnel.facts.peer_uris()?));
    }
    let expected: Vec<_> = [&scene.client, &other, &twin]
        .map(|caller| (caller.addresses.v4.into(), vec![caller.identity()]))
        .into();
    ensure_eq!(seen, expected, "addresses and identities of the tunnels");
    Ok(())
}

async fn max_streams(scene: &mut Scene) -> Outcome {
    let pod = scene.world.bare_pod("apps", "narrow", "narrow")?;
    let settings = ServerSettings {
        max_streams: 3,
        ..ServerSettings::new(TlsSettings::tunnel(Some(scene.world.credentials(&pod)?)))
    };
    let server = scene.world.serve(&pod, settings, |_| Reply::Echo)?;
    scene.world.announce(pod.workload("node-elsewhere")).await?;
    let mut calls = Vec::new();
    for number in 0..10 {
        let mut call = scene.call(pod.at(APP)).await?;
        echoes(&mut call, &format!("call {number}")).await?;
        calls.push(call);
    }
    for tunnel in server.seen() {
        ensure!(
            tunnel.most_open <= 3,
            "{} streams at once where 3 are allowed",
            tunnel.most_open
        );
    }
    Ok(())
}

async fn goaway(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "leaving", |_| Reply::Echo).await?;
    let mut call = scene.call(pod.at(APP)).await?;
    echoes(&mut call, "before").await?;
    server.drain();
    echoes(&mut call, "after it was told to go").await?;
    let mut later = scene.call(pod.at(APP)).await?;
    echoes(&mut later, "later").await?;
    // The second may have been begun before the first heard of it; then it is on the first, and good as well.
    echoes(&mut call, "still there").await?;
    call.shutdown().await?;
    ensure!(rest(&mut call).await?.is_empty(), "more came back than was sent");
    eventually(
        "a call after GOAWAY uses another tunnel",
        Duration::from_secs(5),
        || server.seen().len() > 1,
    )
    .await
}

async fn refused_stream(scene: &mut Scene) -> Outcome {
    let first = std::sync::atomic::AtomicBool::new(true);
    let handler = move |_: &conformance::Asked| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            Reply::Reset(h2::Reason::REFUSED_STREAM)
        } else {
            Reply::Echo
        }
    };
    let (pod, _server) = scene.world.peer("apps", "shy", handler).await?;
    let mut call = scene.call(pod.at(APP)).await?;
    echoes(&mut call, "again").await
}
