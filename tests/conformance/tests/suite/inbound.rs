//! The subject as the server of tunnels: what it makes of CONNECT requests.

mod bytes;
mod requests;

use std::net::{Ipv6Addr, SocketAddr};

use conformance::{App, HboneClient, Outcome, Pod, Report, World, mesh};

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let scene = Scene::new().await?;
    requests::run(report, &scene).await;
    bytes::run(report, &scene).await;
    Ok(())
}

/// A pod of the subject with an echoing application, and a caller that the suite plays.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) server: Pod,
    pub(crate) caller: Pod,
    pub(crate) app: App,
}

/// Where the application listens.
pub(crate) const APP: u16 = 8080;

impl Scene {
    async fn new() -> Outcome<Scene> {
        let mut world = World::start().await?;
        let server = world.pod("apps", "server").await?;
        let caller = world.bare_pod("callers", "caller", "caller")?;
        world.announce(caller.workload("node-elsewhere")).await?;
        let app = App::echo(&server.network, any(APP))?;
        let mut workload = server.workload(mesh::NODE);
        for service in services() {
            workload = mesh::joins(workload, &service);
        }
        let discovery = &world.control_plane.discovery;
        conformance::accepted(&discovery.services(services()).await?)?;
        world.announce(workload).await?;
        Ok(Scene {
            world,
            server,
            caller,
            app,
        })
    }

    /// A new tunnel from the caller to the server's proxy.
    pub(crate) async fn tunnel(&self) -> Outcome<HboneClient> {
        self.world.tunnel(&self.caller, &self.server).await
    }
}

/// One service of which the server is an endpoint.
fn services() -> [proto::workload::Service; 1] {
    [mesh::service("apps", "web", [10, 96, 0, 1].into(), 80, APP)]
}

/// Every address of a namespace.
pub(crate) fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}
