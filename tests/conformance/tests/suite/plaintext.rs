//! The subject as the server of connections that come without a tunnel.

use conformance::{App, Outcome, Pod, Report, World, echoes, ensure_eq, exchange_pattern, gets_nothing};

use crate::inbound::any;

const APP: u16 = 8080;

struct Scene {
    world: World,
    server: Pod,
    caller: Pod,
    app: App,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let server = world.pod("apps", "server").await?;
    let caller = world.bare_pod("callers", "caller", "caller")?;
    let app = App::echo(&server.network, any(APP))?;
    let scene = &Scene {
        world,
        server,
        caller,
        app,
    };
    report
        .clause("passes-while-no-policy-is-against-it", passes(scene))
        .await;
    report.clause("passes-over-ipv6", passes_v6(scene)).await;
    report
        .clause("shows-the-callers-address-to-the-application", address(scene))
        .await;
    report.clause("carries-16-mib-both-ways", large(scene)).await;
    report
        .clause("ends-when-the-application-refuses", closed(scene))
        .await;
    report
        .clause("the-proxys-own-ports-lead-nowhere", own_ports(scene))
        .await;
    Ok(())
}

async fn passes(scene: &Scene) -> Outcome {
    let mut call = scene.caller.network.connect(scene.server.at(APP)).await?;
    echoes(&mut call, "in plain").await
}

async fn passes_v6(scene: &Scene) -> Outcome {
    let mut call = scene.caller.network.connect(scene.server.at_v6(APP)).await?;
    echoes(&mut call, "in plain").await
}

async fn address(scene: &Scene) -> Outcome {
    passes(scene).await?;
    let peer = scene.app.peers().last().map(|peer| peer.ip().to_canonical());
    ensure_eq!(
        peer,
        Some(scene.caller.addresses.v4.into()),
        "the address that the application sees"
    );
    Ok(())
}

async fn large(scene: &Scene) -> Outcome {
    let call = scene.caller.network.connect(scene.server.at(APP)).await?;
    exchange_pattern(call, 3, 16 << 20).await
}

async fn closed(scene: &Scene) -> Outcome {
    gets_nothing(&scene.caller.network, scene.server.at(1)).await
}

async fn own_ports(scene: &Scene) -> Outcome {
    for port in [15001, 15006] {
        gets_nothing(&scene.caller.network, scene.server.at(port)).await?;
    }
    ensure_eq!(scene.world.subject.readiness().await?, 200, "readiness");
    Ok(())
}
