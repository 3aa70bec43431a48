use super::{APP, Scene};

use conformance::{End, Outcome, Report, end, ensure_eq, exchange_pattern, rest};
use tokio::io::AsyncWriteExt;

const LARGE: usize = 64 << 20;

pub(crate) async fn run(report: &mut Report, scene: &mut Scene) {
    report.clause("carries-64-mib-both-ways", large(scene)).await;
    report.clause("carries-100-calls-at-once", many(scene)).await;
    report
        .clause("end-of-the-caller-leaves-the-other-way-open", caller_ends(scene))
        .await;
    report
        .clause("end-of-the-server-leaves-the-other-way-open", server_ends(scene))
        .await;
    report
        .clause(
            "reads-reset-no-error-as-end",
            reset(scene, 6000, End::Closed(b"all of it".into())),
        )
        .await;
    report
        .clause(
            "reads-reset-cancel-as-end",
            reset(scene, 6001, End::Closed(b"all of it".into())),
        )
        .await;
    report
        .extension("passes-other-resets-on", reset(scene, 6002, End::Broken))
        .await;
}

async fn large(scene: &Scene) -> Outcome {
    exchange_pattern(scene.call(scene.far.at(APP)).await?, 2, LARGE).await
}

async fn many(scene: &Scene) -> Outcome {
    let mut exchanges = tokio::task::JoinSet::new();
    for seed in 0..100 {
        exchanges.spawn(exchange_pattern(scene.call(scene.vip).await?, seed, 256 << 10));
    }
    while let Some(exchange) = exchanges.join_next().await {
        exchange??;
    }
    Ok(())
}

async fn caller_ends(scene: &Scene) -> Outcome {
    let mut call = scene.call(scene.far.at(APP)).await?;
    call.write_all(b"all there is").await?;
    call.shutdown().await?;
    ensure_eq!(rest(&mut call).await?, b"all there is", "what came after the end");
    Ok(())
}

async fn server_ends(scene: &Scene) -> Outcome {
    let mut call = scene.call(scene.far.at(6004)).await?;
    ensure_eq!(rest(&mut call).await?, b"bye", "what the server said");
    // More than any buffer holds: it has to go somewhere.
    let words = vec![7; 32 << 20];
    call.write_all(&words).await?;
    call.shutdown().await?;
    Ok(())
}

async fn reset(scene: &Scene, port: u16, expected: End) -> Outcome {
    // Where the reset comes at once, the caller may see it while it connects.
    let ended = match scene.client.network.connect(scene.far.at(port)).await {
        Ok(mut call) => end(&mut call).await?,
        Err(_) => End::Broken,
    };
    ensure_eq!(ended, expected, "how the caller's connection ended");
    Ok(())
}
