//! How the subject ends, and how one takes over from another.

use std::time::{Duration, Instant};

use conformance::{
    App, End, HBONE_PORT, HboneClient, Outcome, Pod, Report, TlsSettings, World, echoes, end, ensure,
    ensure_eq, eventually_ok,
};
use tokio::io::AsyncWriteExt;

use crate::inbound::any;

const APP: u16 = 8080;

pub(crate) async fn run(report: &mut Report) -> Outcome {
    report
        .clause("drains-with-goaway-and-lets-open-streams-finish", drains())
        .await;
    report
        .clause(
            "answers-a-connect-that-came-before-it-was-told-to-end",
            on_its_way(),
        )
        .await;
    report
        .clause("ends-when-the-last-connection-has-ended", ends_early())
        .await;
    report
        .clause("ends-at-the-deadline-whatever-is-open", deadline())
        .await;
    report
        .clause("two-subjects-share-the-ports-of-a-pod", takes_over())
        .await;
    Ok(())
}

struct Scene {
    world: World,
    server: Pod,
    _app: App,
    client: HboneClient,
}

async fn scene(deadline: &str) -> Outcome<Scene> {
    let mut world = World::start_with(&[("CONNECTION_TERMINATION_DEADLINE", deadline)]).await?;
    let server = world.pod("apps", "server").await?;
    let caller = world.bare_pod("callers", "caller", "caller")?;
    let app = App::echo(&server.network, any(APP))?;
    let client = world.tunnel(&caller, &server).await?;
    Ok(Scene {
        world,
        server,
        _app: app,
        client,
    })
}

async fn drains() -> Outcome {
    let mut scene = scene("10s").await?;
    let authority = scene.server.at(APP).to_string();
    let mut open = scene.client.connect(&authority).await?.expect(200)?.tunnel;
    echoes(&mut open, "before").await?;
    scene.world.subject.terminate()?;
    // A client that has read GOAWAY gets no new stream; this one has asked before or asks another tunnel.
    eventually_ok(
        "the tunnel says that it is going away",
        Duration::from_secs(5),
        async || {
            let refused = scene.client.connect(&authority).await;
            ensure!(refused.is_err(), "it still takes streams");
            Ok(())
        },
    )
    .await?;
    ensure!(
        !scene.client.is_closed(),
        "the tunnel was closed though a stream is open"
    );
    echoes(&mut open, "after it was told to end").await?;
    open.shutdown().await?;
    ensure_eq!(
        end(&mut open).await?,
        End::Closed(Vec::new()),
        "the end of the open stream"
    );
    scene.client.closed(Duration::from_secs(5)).await?;
    let status = scene.world.subject.ended(Duration::from_secs(8)).await?;
    ensure!(status.success(), "the subject ended with {status}");
    Ok(())
}

/// An application that is too busy to be connected when the subject is told to end, and is not a moment later.
async fn on_its_way() -> Outcome {
    const BUSY: u16 = 8081;
    let scene = scene("15s").await?;
    let place = scene.server.network.clone();
    let at = scene.server.at(BUSY);
    let listener = place.inside(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&at.into())?;
        socket.listen(0)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    // Fill its queue, until one more connection does not come to be.
    let mut queue = Vec::new();
    while let Ok(call) = tokio::time::timeout(Duration::from_millis(300), place.connect(at)).await {
        queue.push(call?);
        ensure!(queue.len() < 64, "the queue does not fill up");
    }
    let answer = scene.client.begin(&at.to_string()).await?;
    scene.world.subject.terminate()?;
    eventually_ok("the tunnel takes no more", Duration::from_secs(5), async || {
        let refused =
            tokio::time::timeout(Duration::from_millis(500), scene.client.connect("192.0.2.1:1")).await;
        ensure!(matches!(refused, Ok(Err(_))), "it still takes streams");
        Ok(())
    })
    .await?;
    ensure!(
        !answer.is_finished(),
        "it was answered before the application was there"
    );
    let listener = tokio::net::TcpListener::from_std(listener.into())?;
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let answered = conformance::within("the answer", Duration::from_secs(12), answer).await;
    let outcome = match answered {
        Ok(answer) => echoes(&mut answer??.expect(200)?.tunnel, "in time").await,
        Err(failure) => Err(failure),
    };
    serving.abort();
    outcome
}

async fn ends_early() -> Outcome {
    let mut scene = scene("60s").await?;
    let began = Instant::now();
    scene.world.subject.terminate()?;
    scene.world.subject.ended(Duration::from_secs(30)).await?;
    ensure!(
        began.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        began.elapsed()
    );
    Ok(())
}

async fn deadline() -> Outcome {
    let mut scene = scene("2s").await?;
    let authority = scene.server.at(APP).to_string();
    let mut open = scene.client.connect(&authority).await?.expect(200)?.tunnel;
    echoes(&mut open, "before").await?;
    let began = Instant::now();
    scene.world.subject.terminate()?;
    scene.world.subject.ended(Duration::from_secs(10)).await?;
    ensure!(
        began.elapsed() > Duration::from_secs(1),
        "it ended after {:?}, before the deadline",
        began.elapsed()
    );
    end(&mut open).await?;
    Ok(())
}

async fn takes_over() -> Outcome {
    let mut scene = scene("10s").await?;
    let authority = scene.server.at(APP).to_string();
    let mut open = scene.client.connect(&authority).await?.expect(200)?.tunnel;
    echoes(&mut open, "before").await?;
    let (mut second, agent) = scene.world.start_another().await?;
    let server = &scene.server;
    let uid = server.uid();
    let answer = agent.add(
        &uid,
        &server.name,
        &server.namespace,
        &server.account,
        &server.network,
    );
    ensure_eq!(answer.await?, "", "the answer of the second to the pod");
    ensure_eq!(
        agent.snapshot_sent().await?,
        "",
        "the answer of the second to the snapshot"
    );
    second.ready().await?;
    scene.world.subject.terminate()?;
    echoes(&mut open, "while the first ends").await?;
    let caller = scene.world.bare_pod("callers", "later", "later")?;
    let tls = TlsSettings::tunnel(Some(scene.world.credentials(&caller)?));
    // Every new tunnel is served, by the one or by the other.
    for _ in 0..20 {
        let client = HboneClient::open(&caller.network, scene.server.at(HBONE_PORT), &tls).await?;
        let mut answer = client.connect(&authority).await?.expect(200)?;
        echoes(&mut answer.tunnel, "after").await?;
    }
    ensure!(second.is_running(), "the second has ended");
    Ok(())
}
