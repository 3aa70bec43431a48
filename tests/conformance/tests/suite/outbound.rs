//! The subject as the client of tunnels: what it makes of captured connections.

mod bytes;
mod pool;
mod requests;

use std::net::SocketAddr;

use conformance::{HboneServer, Outcome, Pod, Reply, Report, World, mesh};
use tokio::net::TcpStream;

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut scene = Scene::new().await?;
    requests::run(report, &mut scene).await;
    pool::run(report, &mut scene).await;
    bytes::run(report, &mut scene).await;
    Ok(())
}

/// A pod of the subject that calls, and a pod elsewhere whose proxy the suite plays.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) client: Pod,
    pub(crate) far: Pod,
    /// Echoes on most ports; see [`reply`].
    pub(crate) server: HboneServer,
    /// Of a service whose only endpoint is the far pod: port 80 there is 8080.
    pub(crate) vip: SocketAddr,
}

/// Where the far application is.
pub(crate) const APP: u16 = 8080;

impl Scene {
    async fn new() -> Outcome<Scene> {
        let mut world = World::start().await?;
        let client = world.pod("callers", "client").await?;
        let (far, server) = world.peer("apps", "far", |asked| reply(&asked.authority)).await?;
        let vip = SocketAddr::from(([10, 96, 0, 2], 80));
        let service = mesh::service("apps", "web", vip.ip(), 80, APP);
        conformance::accepted(&world.control_plane.discovery.services([service.clone()]).await?)?;
        world
            .announce(mesh::joins(far.workload("node-elsewhere"), &service))
            .await?;
        Ok(Scene {
            world,
            client,
            far,
            server,
            vip,
        })
    }

    /// A connection from the client pod's application.
    pub(crate) async fn call(&self, to: SocketAddr) -> Outcome<TcpStream> {
        Ok(self.client.network.connect(to).await?)
    }
}

/// The far peer answers by the port: 7xxx with the status xxx, others with an echo.
fn reply(authority: &str) -> Reply {
    use h2::Reason;
    let port = authority
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    match port {
        6000 => Reply::SendThenReset("all of it".into(), Reason::NO_ERROR),
        6001 => Reply::SendThenReset("all of it".into(), Reason::CANCEL),
        6002 => Reply::SendThenReset("part of it".into(), Reason::INTERNAL_ERROR),
        6003 => Reply::Reset(Reason::REFUSED_STREAM),
        6004 => Reply::tunnel(async |mut tunnel| {
            // Its own direction ends at once; then it listens.
            let _ = tunnel.send("bye", true);
            while let Some(Ok(_)) = tunnel.frame().await {}
        }),
        7200..=7599 => Reply::Status(port - 7000),
        _ => Reply::Echo,
    }
}
