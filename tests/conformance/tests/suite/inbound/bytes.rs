use std::io;

use super::{APP, Scene, any};

use conformance::{
    App, End, Outcome, Report, Tunnel, echoes, end, ensure, ensure_eq, exchange_pattern, rest, within,
};
use h2::Reason;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const LARGE: usize = 64 << 20;
const STREAMS: usize = 200;

pub(crate) async fn run(report: &mut Report, scene: &Scene) {
    report
        .clause("allows-200-streams-in-a-tunnel", many_streams(scene))
        .await;
    report.clause("carries-64-mib-both-ways", large(scene)).await;
    report
        .clause("carries-many-streams-at-once", many_exchanges(scene))
        .await;
    report
        .clause("end-of-the-caller-leaves-the-other-way-open", caller_ends(scene))
        .await;
    report
        .clause(
            "end-of-the-application-leaves-the-other-way-open",
            application_ends(scene),
        )
        .await;
    for (name, reason) in [
        ("reads-reset-no-error-as-end", Reason::NO_ERROR),
        ("reads-reset-cancel-as-end", Reason::CANCEL),
    ] {
        report.clause(name, caller_resets(scene, reason)).await;
    }
    report
        .extension("passes-a-reset-of-the-application-on", application_resets(scene))
        .await;
}

async fn connect(scene: &Scene, port: u16) -> Outcome<Tunnel> {
    let client = scene.tunnel().await?;
    let answer = client.connect(&scene.server.at(port).to_string()).await?;
    Ok(answer.expect(200)?.tunnel)
}

async fn many_streams(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    ensure!(
        client.max_streams() >= STREAMS,
        "the server lets a client have {} streams",
        client.max_streams()
    );
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let answer = client.connect(&scene.server.at(APP).to_string()).await?;
        open.push(answer.expect(200)?.tunnel);
    }
    for (number, tunnel) in open.iter_mut().enumerate() {
        echoes(tunnel, &format!("stream {number}")).await?;
    }
    Ok(())
}

async fn large(scene: &Scene) -> Outcome {
    exchange_pattern(connect(scene, APP).await?, 1, LARGE).await
}

async fn many_exchanges(scene: &Scene) -> Outcome {
    let client = scene.tunnel().await?;
    let authority = scene.server.at(APP).to_string();
    let mut exchanges = tokio::task::JoinSet::new();
    for seed in 0..100 {
        let (client, authority) = (client.clone(), authority.clone());
        exchanges.spawn(async move {
            let answer = client.connect(&authority).await?.expect(200)?;
            exchange_pattern(answer.tunnel, seed, 256 << 10).await
        });
    }
    while let Some(exchange) = exchanges.join_next().await {
        exchange??;
    }
    Ok(())
}

async fn caller_ends(scene: &Scene) -> Outcome {
    // Answers only after it has read the end.
    let _app = App::serve(&scene.server.network, any(8081), async |mut socket: TcpStream| {
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await?;
        socket.write_all(&heard).await?;
        socket.write_all(b", you said").await
    })?;
    let mut tunnel = connect(scene, 8081).await?;
    tunnel.write_all(b"all").await?;
    tunnel.shutdown().await?;
    ensure_eq!(
        rest(&mut tunnel).await?,
        b"all, you said",
        "what came after the end"
    );
    Ok(())
}

async fn application_ends(scene: &Scene) -> Outcome {
    let (heard, mut hears) = mpsc::channel(1);
    let _app = App::serve(&scene.server.network, any(8082), move |mut socket: TcpStream| {
        let heard = heard.clone();
        async move {
            socket.write_all(b"bye").await?;
            socket.shutdown().await?;
            let mut late = Vec::new();
            socket.read_to_end(&mut late).await?;
            let _ = heard.send(late).await;
            Ok(())
        }
    })?;
    let mut tunnel = connect(scene, 8082).await?;
    ensure_eq!(rest(&mut tunnel).await?, b"bye", "what the application said");
    tunnel.write_all(b"late words").await?;
    tunnel.shutdown().await?;
    let late = within(
        "late words at the application",
        Duration::from_secs(10),
        hears.recv(),
    )
    .await?;
    ensure_eq!(
        late.as_deref(),
        Some(&b"late words"[..]),
        "what the application heard after its own end"
    );
    Ok(())
}

async fn caller_resets(scene: &Scene, reason: Reason) -> Outcome {
    let port = if reason == Reason::CANCEL { 8083 } else { 8084 };
    let (ends, mut ended) = mpsc::channel(1);
    let _app = App::serve(&scene.server.network, any(port), move |mut socket: TcpStream| {
        let ends = ends.clone();
        async move {
            let end = end(&mut socket).await.unwrap_or(End::Broken);
            let _ = ends.send(end).await;
            Ok(())
        }
    })?;
    let client = scene.tunnel().await?;
    let answer = client.connect(&scene.server.at(port).to_string()).await?;
    let mut tunnel = answer.expect(200)?.tunnel;
    tunnel.send("last words", false)?;
    // Its answer shows that the frame before it has gone out.
    client.ping().await?;
    tunnel.reset(reason);
    let end = within(
        "the end at the application",
        Duration::from_secs(10),
        ended.recv(),
    )
    .await?;
    ensure_eq!(
        end,
        Some(End::Closed(b"last words".into())),
        "how the application's connection ended"
    );
    Ok(())
}

async fn application_resets(scene: &Scene) -> Outcome {
    let _app = App::serve(&scene.server.network, any(8085), async |mut socket: TcpStream| {
        let mut byte = [0];
        socket.read_exact(&mut byte).await?;
        // Closing with no time to linger makes it a reset.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        io::Result::Ok(())
    })?;
    let mut tunnel = connect(scene, 8085).await?;
    tunnel.write_all(b"x").await?;
    ensure_eq!(
        end(&mut tunnel).await?,
        End::Broken,
        "the end of the tunnel's stream"
    );
    Ok(())
}
