//! A real Envoy as the subject's peer: as a caller, as the far end, and as a waypoint in between.

use std::time::Duration;

use conformance::envoy::{
    Envoy, configuration, envoy_path, http_listener, internal_cluster, plain_cluster, tunnel_cluster,
    tunnel_listener, tunneling_listener,
};
use conformance::mesh::{self, exact};
use conformance::{
    App, HBONE_PORT, Outcome, Pod, Report, World, accepted, ensure, ensure_eq, eventually, exchange_pattern,
};
use proto::security::{Action, Match, Scope};

use crate::http;
use crate::inbound::any;

const APP: u16 = 8080;
const LARGE: usize = 64 << 20;
const CALLS: u64 = 100;
const SMALL: usize = 64 << 10;

const CLAUSES: [&str; 6] = [
    "as-caller-64-mib-both-ways",
    "as-caller-100-calls-at-once",
    "as-far-end-64-mib-both-ways",
    "as-far-end-100-calls-at-once",
    "as-waypoint-64-mib-both-ways",
    "as-waypoint-100-calls-at-once",
];

pub(crate) async fn run(report: &mut Report) -> Outcome {
    if !report.wants(&CLAUSES) {
        return Ok(());
    }
    let demanded = ["CI", "REQUIRE_ROOT"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true"));
    if envoy_path().is_none() && !demanded {
        for clause in CLAUSES {
            report.left_out(clause, "Envoy is not installed: run scripts/envoy");
        }
        return Ok(());
    }
    caller(report).await?;
    far_end(report).await?;
    waypoint(report).await
}

/// The application's own namespace calls Envoy, which tunnels to the subject.
async fn caller(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let server = world.pod("apps", "server").await?;
    let _app = App::echo(&server.network, any(APP))?;
    let place = world.bare_pod("callers", "envoy", "envoy")?;
    let (shown, root) = (world.credentials(&place)?, &world.authority.root);
    let listener = tunneling_listener("calls", Some(APP), server.at(APP), "subject");
    let cluster = tunnel_cluster("subject", server.at(HBONE_PORT), &server.identity(), &shown, root);
    let settings = configuration(&[listener], &[cluster]);
    let envoy = Envoy::start(&place.network, world.directory(), "caller", &settings).await?;
    report.clause(CLAUSES[0], large(&envoy, &place, &place)).await;
    report.clause(CLAUSES[1], many(&envoy, &place, &place)).await;
    Ok(())
}

/// The subject tunnels to Envoy, which hands on to the application beside it.
async fn far_end(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let client = world.pod("callers", "client").await?;
    let place = world.bare_pod("apps", "envoy", "envoy")?;
    world.announce(place.workload("node-elsewhere")).await?;
    let _app = App::echo(&place.network, ([127, 0, 0, 1], APP).into())?;
    let listener = tunnel_listener(&world.credentials(&place)?, &world.authority.root, "application");
    let cluster = plain_cluster("application", ([127, 0, 0, 1], APP).into());
    let settings = configuration(&[listener], &[cluster]);
    let envoy = Envoy::start(&place.network, world.directory(), "far", &settings).await?;
    report.clause(CLAUSES[2], large(&envoy, &client, &place)).await;
    report.clause(CLAUSES[3], many(&envoy, &client, &place)).await;
    Ok(())
}

async fn large(envoy: &Envoy, from: &Pod, to: &Pod) -> Outcome {
    let call = from.network.connect(to.at(APP)).await?;
    let exchanged = exchange_pattern(call, 11, LARGE).await;
    explained(envoy, exchanged)
}

async fn many(envoy: &Envoy, from: &Pod, to: &Pod) -> Outcome {
    let mut calls = tokio::task::JoinSet::new();
    for seed in 0..CALLS {
        calls.spawn(exchange_pattern(
            from.network.connect(to.at(APP)).await?,
            seed,
            SMALL,
        ));
    }
    while let Some(call) = calls.join_next().await {
        explained(envoy, call?)?;
    }
    Ok(())
}

fn explained(envoy: &Envoy, outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| conformance::Failure::new(format!("{failure}; Envoy said: {}", envoy.log())))
}

/// Client, subject, waypoint, subject again, application. The application takes calls from the waypoint only.
async fn waypoint(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let client = world.pod("callers", "client").await?;
    let server = world.pod("apps", "server").await?;
    let place = world.bare_pod("apps", "waypoint", "waypoint")?;
    let app = App::serve(&server.network, any(APP), http::serve_back)?;

    let (shown, root) = (world.credentials(&place)?, &world.authority.root);
    let settings = configuration(
        &[
            tunnel_listener(&shown, root, "http"),
            http_listener("http", "onward"),
            tunneling_listener("onward", None, server.at(APP), "subject"),
        ],
        &[
            internal_cluster("http", "http"),
            internal_cluster("onward", "onward"),
            tunnel_cluster("subject", server.at(HBONE_PORT), &server.identity(), &shown, root),
        ],
    );
    let envoy = Envoy::start(&place.network, world.directory(), "waypoint", &settings).await?;

    let mut own = place.workload("node-elsewhere");
    own.native_tunnel = true;
    world.announce(own).await?;
    let vip = std::net::SocketAddr::from(([10, 96, 0, 3], 80));
    let mut service = mesh::service("apps", "web", vip.ip(), 80, APP);
    service.waypoint = Some(mesh::gateway(place.at(HBONE_PORT)));
    let discovery = &world.control_plane.discovery;
    accepted(&discovery.services([service.clone()]).await?)?;
    let only = Match {
        principals: vec![exact(&place.identity().replace("spiffe://", ""))],
        ..Match::default()
    };
    let policy = mesh::policy(
        "apps",
        "waypoint-only",
        Scope::Namespace,
        Action::Allow,
        vec![only],
    );
    accepted(&discovery.policies([policy]).await?)?;
    world
        .announce(mesh::joins(server.workload(mesh::NODE), &service))
        .await?;

    let scene = &Waypoint {
        client,
        place,
        vip,
        app,
        envoy,
    };
    report.clause(CLAUSES[4], scene.large()).await;
    report.clause(CLAUSES[5], scene.many()).await;
    Ok(())
}

struct Waypoint {
    client: Pod,
    place: Pod,
    vip: std::net::SocketAddr,
    app: App,
    envoy: Envoy,
}

impl Waypoint {
    async fn large(&self) -> Outcome {
        let call = self.client.network.connect(self.vip).await?;
        explained(&self.envoy, http::post(call, 12, LARGE).await)?;
        for peer in self.app.peers() {
            ensure_eq!(
                peer.ip().to_canonical(),
                std::net::IpAddr::from(self.place.addresses.v4),
                "the address that the application sees"
            );
        }
        let line = format!("tunnel {} {} 200", self.vip, self.client.identity());
        eventually("Envoy logs the tunnel", Duration::from_secs(5), || {
            self.envoy.log().contains(&line)
        })
        .await
        .map_err(|failure| {
            conformance::Failure::new(format!("{failure}: no {line:?} in {}", self.envoy.log()))
        })
    }

    async fn many(&self) -> Outcome {
        let mut calls = tokio::task::JoinSet::new();
        for seed in 0..CALLS {
            calls.spawn(http::post(
                self.client.network.connect(self.vip).await?,
                seed,
                SMALL,
            ));
        }
        while let Some(call) = calls.join_next().await {
            explained(&self.envoy, call?)?;
        }
        ensure!(!self.app.peers().is_empty(), "nobody has called the application");
        Ok(())
    }
}
