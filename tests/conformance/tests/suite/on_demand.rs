//! Discovery on demand: the subject asks for what it is called for.

use std::time::Duration;

use conformance::{App, Outcome, Pod, Report, World, echoes, ensure, ensure_eq, eventually};
use proto::workload::ADDRESS_TYPE_URL;

use crate::inbound::any;

const APP: u16 = 8080;

struct Scene {
    world: World,
    client: Pod,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let variables = [("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false")];
    let mut world = World::start_with(&variables).await?;
    let client = world.pod("callers", "client").await?;
    let scene = &mut Scene { world, client };
    report.clause("begins-with-nothing", begins(scene)).await;
    report
        .clause(
            "asks-for-an-address-and-takes-the-alias-for-the-answer",
            asks(scene),
        )
        .await;
    report
        .clause("calls-in-plain-what-is-not-there", not_there(scene))
        .await;
    Ok(())
}

fn asked(scene: &Scene, name: &str) -> bool {
    let seen = scene.world.control_plane.discovery.seen();
    let mut names = seen
        .iter()
        .filter(|seen| seen.request.type_url == ADDRESS_TYPE_URL)
        .flat_map(|seen| &seen.request.resource_names_subscribe);
    names.any(|asked| asked == name)
}

async fn begins(scene: &Scene) -> Outcome {
    let seen = scene.world.control_plane.discovery.seen();
    let first = seen.iter().find(|seen| seen.request.type_url == ADDRESS_TYPE_URL);
    let names = first.map(|seen| {
        let request = &seen.request;
        (
            request.resource_names_subscribe.clone(),
            request.resource_names_unsubscribe.clone(),
        )
    });
    let star = || vec!["*".to_owned()];
    ensure_eq!(
        names,
        Some((star(), star())),
        "names subscribed to and not, at first"
    );
    Ok(())
}

async fn asks(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene
        .world
        .peer("apps", "far", |_| conformance::Reply::Echo)
        .await?;
    let mut call = scene.client.network.connect(pod.at(APP)).await?;
    echoes(&mut call, "hello").await?;
    ensure_eq!(server.requests().len(), 1, "calls through the tunnel");
    let name = format!("/{}", pod.addresses.v4);
    eventually("the address was asked for", Duration::from_secs(5), || {
        asked(scene, &name)
    })
    .await
}

async fn not_there(scene: &mut Scene) -> Outcome {
    let outside = scene.world.bare_pod("nowhere", "outside", "outside")?;
    let app = App::echo(&outside.network, any(APP))?;
    let mut call = scene.client.network.connect(outside.at(APP)).await?;
    echoes(&mut call, "in plain").await?;
    ensure!(
        asked(scene, &format!("/{}", outside.addresses.v4)),
        "the address was not asked for"
    );
    ensure_eq!(app.peers().len(), 1, "calls in plain");
    Ok(())
}
