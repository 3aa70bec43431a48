//! Where the subject sends connections that do not go straight to a pod: waypoints, gateways, endpoints of services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conformance::mesh::{self, gateway, hostname, joins};
use conformance::{
    App, HBONE_PORT, HboneServer, Outcome, Pod, Reply, Report, ServerSettings, TlsSettings, World, accepted,
    echoes, ensure, ensure_eq, eventually_ok, gets_nothing,
};
use proto::workload::application_tunnel::Protocol;
use proto::workload::gateway_address::Destination;
use proto::workload::{
    ApplicationTunnel, GatewayAddress, NamespacedHostname, NetworkAddress, PortList, Service,
    WeightedWaypoint, WorkloadStatus,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::inbound::any;

const APP: u16 = 8080;

struct Scene {
    world: World,
    client: Pod,
    waypoint: Pod,
    at_waypoint: HboneServer,
    far: Pod,
    at_far: HboneServer,
    vips: u8,
}

pub(crate) async fn run(report: &mut Report) -> Outcome {
    let mut world = World::start().await?;
    let client = world.pod("callers", "client").await?;
    let (waypoint, at_waypoint) = world.peer("apps", "waypoint", |_| Reply::Echo).await?;
    let (far, at_far) = world.peer("apps", "far", |_| Reply::Echo).await?;
    let scene = &mut Scene {
        world,
        client,
        waypoint,
        at_waypoint,
        far,
        at_far,
        vips: 0,
    };
    report
        .clause(
            "endpoint-says-the-port-where-the-service-does-not",
            endpoint_port(scene),
        )
        .await;
    report
        .clause("unhealthy-endpoints-are-not-called", unhealthy(scene))
        .await;
    report
        .clause("a-service-without-endpoints-ends-the-call", no_endpoints(scene))
        .await;
    report
        .clause(
            "service-waypoint-is-asked-for-the-service-address",
            service_waypoint(scene),
        )
        .await;
    report
        .clause("waypoint-may-be-named-by-its-service", named_waypoint(scene))
        .await;
    report
        .clause("weighted-waypoints-replace-the-one", weighted(scene))
        .await;
    report
        .clause(
            "workload-waypoint-is-asked-for-the-pod-address",
            workload_waypoint(scene),
        )
        .await;
    report
        .clause("a-waypoint-reaches-its-workload-directly", from_waypoint(scene))
        .await;
    report
        .clause("a-gateway-gets-a-tunnel-in-the-tunnel", remote_network(scene))
        .await;
    report
        .clause("application-tunnel-with-proxy-header", proxy_header(scene))
        .await;
    report
        .clause("application-tunnel-without-header", plain_tunnel(scene))
        .await;
    report
        .clause(
            "a-waypoint-is-asked-for-the-address-of-its-service",
            asked_as_waypoint(scene),
        )
        .await;
    report
        .extension(
            "calls-another-endpoint-when-one-answers-503",
            another_endpoint(scene),
        )
        .await;
    Ok(())
}

impl Scene {
    fn vip(&mut self) -> SocketAddr {
        self.vips += 1;
        ([10, 96, 1, self.vips], 80).into()
    }

    /// Announces a service whose only endpoint is the far pod, and gives its address.
    async fn service(&mut self, name: &str, change: impl FnOnce(&mut Service)) -> Outcome<SocketAddr> {
        let vip = self.vip();
        let mut service = mesh::service("apps", name, vip.ip(), vip.port(), APP);
        change(&mut service);
        accepted(
            &self
                .world
                .control_plane
                .discovery
                .services([service.clone()])
                .await?,
        )?;
        self.world
            .announce(joins(self.far.workload("node-elsewhere"), &service))
            .await?;
        Ok(vip)
    }

    /// Calls from the client pod and expects an echo.
    async fn call(&self, to: SocketAddr) -> Outcome {
        let mut call = self.client.network.connect(to).await?;
        echoes(&mut call, "hello").await
    }
}

/// The last authority that a server was asked for must be this.
async fn last_authority(server: &HboneServer, expected: &str) -> Outcome {
    let last = server.requests().pop().map(|asked| asked.authority);
    ensure_eq!(last.as_deref(), Some(expected), "the last authority asked for");
    Ok(())
}

async fn endpoint_port(scene: &mut Scene) -> Outcome {
    let vip = scene.vip();
    let service = mesh::service("apps", "named", vip.ip(), 80, 0);
    accepted(
        &scene
            .world
            .control_plane
            .discovery
            .services([service.clone()])
            .await?,
    )?;
    let mut workload = scene.far.workload("node-elsewhere");
    let ports = PortList {
        ports: vec![mesh::service_port(80, 9999)],
    };
    workload
        .services
        .insert(format!("apps/{}", service.hostname), ports);
    scene.world.announce(workload).await?;
    scene.call(vip).await?;
    last_authority(&scene.at_far, &scene.far.at(9999).to_string()).await
}

async fn unhealthy(scene: &mut Scene) -> Outcome {
    let vip = scene.service("health", |_| {}).await?;
    let service = mesh::service("apps", "health", vip.ip(), 80, APP);
    let (ill, at_ill) = scene.world.peer("apps", "ill", |_| Reply::Echo).await?;
    let mut workload = joins(ill.workload("node-elsewhere"), &service);
    workload.status = WorkloadStatus::Unhealthy.into();
    scene.world.announce(workload).await?;
    for _ in 0..20 {
        scene.call(vip).await?;
    }
    ensure!(at_ill.requests().is_empty(), "the unhealthy endpoint was called");
    Ok(())
}

async fn no_endpoints(scene: &mut Scene) -> Outcome {
    let vip = scene.vip();
    let service = mesh::service("apps", "empty", vip.ip(), 80, APP);
    accepted(&scene.world.control_plane.discovery.services([service]).await?)?;
    gets_nothing(&scene.client.network, vip).await
}

async fn service_waypoint(scene: &mut Scene) -> Outcome {
    let waypoint = gateway(scene.waypoint.at(HBONE_PORT));
    let vip = scene
        .service("guarded", |service| service.waypoint = Some(waypoint))
        .await?;
    scene.call(vip).await?;
    last_authority(&scene.at_waypoint, &vip.to_string()).await?;
    let asked = scene.at_waypoint.requests().pop();
    let forwarded = asked.and_then(|asked| asked.headers.get("forwarded").cloned());
    let host = format!(";host={}", hostname("apps", "guarded"));
    let forwarded = forwarded
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ensure!(
        forwarded.ends_with(&host),
        "forwarded is {forwarded:?}, expected {host:?} at its end"
    );
    Ok(())
}

async fn named_waypoint(scene: &mut Scene) -> Outcome {
    let own = mesh::service("apps", "waypoint", scene.vip().ip(), 15008, 15008);
    accepted(
        &scene
            .world
            .control_plane
            .discovery
            .services([own.clone()])
            .await?,
    )?;
    scene
        .world
        .announce(joins(scene.waypoint.workload("node-elsewhere"), &own))
        .await?;
    let name = NamespacedHostname {
        namespace: "apps".to_owned(),
        hostname: own.hostname.clone(),
    };
    let waypoint = GatewayAddress {
        destination: Some(Destination::Hostname(name)),
        hbone_mtls_port: HBONE_PORT.into(),
    };
    let vip = scene
        .service("guarded-by-name", |service| service.waypoint = Some(waypoint))
        .await?;
    scene.call(vip).await?;
    last_authority(&scene.at_waypoint, &vip.to_string()).await
}

async fn weighted(scene: &mut Scene) -> Outcome {
    let (one, another) = (scene.far.at(HBONE_PORT), scene.waypoint.at(HBONE_PORT));
    let vip = scene
        .service("weighted", |service| {
            // Not this one, though it could answer too.
            service.waypoint = Some(gateway(one));
            service.weighted_waypoints = vec![WeightedWaypoint {
                destination: Some(gateway(another)),
                weight: 100,
            }];
        })
        .await?;
    for _ in 0..5 {
        scene.call(vip).await?;
        last_authority(&scene.at_waypoint, &vip.to_string()).await?;
    }
    Ok(())
}

async fn workload_waypoint(scene: &mut Scene) -> Outcome {
    let (pod, server) = scene.world.peer("apps", "behind", |_| Reply::Echo).await?;
    let mut workload = pod.workload("node-elsewhere");
    workload.waypoint = Some(gateway(scene.waypoint.at(HBONE_PORT)));
    scene.world.announce(workload).await?;
    scene.call(pod.at(APP)).await?;
    last_authority(&scene.at_waypoint, &pod.at(APP).to_string()).await?;
    ensure!(server.requests().is_empty(), "the pod itself was called");
    Ok(())
}

async fn from_waypoint(scene: &mut Scene) -> Outcome {
    let waypoint = scene.world.pod("apps", "captured-waypoint").await?;
    let (pod, server) = scene
        .world
        .peer("apps", "behind-captured", |_| Reply::Echo)
        .await?;
    let mut workload = pod.workload("node-elsewhere");
    workload.waypoint = Some(gateway(waypoint.at(HBONE_PORT)));
    scene.world.announce(workload).await?;
    let mut call = waypoint.network.connect(pod.at(APP)).await?;
    echoes(&mut call, "hello").await?;
    last_authority(&server, &pod.at(APP).to_string()).await
}

async fn remote_network(scene: &mut Scene) -> Outcome {
    const REMOTE: &str = "far-away";
    // Beyond the gateway, known there as the identity that the service is expected to have.
    let beyond = scene.world.bare_pod("apps", "beyond", "beyond")?;
    let inner = TlsSettings::tunnel(Some(scene.world.credentials(&beyond)?));
    let inner = Arc::new(HboneServer::within(ServerSettings::new(inner), |_| Reply::Echo));
    let ends_here = inner.clone();
    let (east_west, at_gateway) = scene
        .world
        .peer("gateways", "east-west", move |_| ends_here.reply())
        .await?;

    let vip = scene.vip();
    let mut service = mesh::service("apps", "remote", vip.ip(), 80, APP);
    service.subject_alt_names = vec![beyond.identity()];
    accepted(
        &scene
            .world
            .control_plane
            .discovery
            .services([service.clone()])
            .await?,
    )?;
    let mut gateway_workload = east_west.workload("node-elsewhere");
    gateway_workload.network = REMOTE.to_owned();
    scene.world.announce(gateway_workload).await?;
    let mut workload = joins(
        mesh::workload("apps", "beyond", "beyond", "node-there", &[]),
        &service,
    );
    workload.network = REMOTE.to_owned();
    workload.network_gateway = Some(GatewayAddress {
        destination: Some(Destination::Address(NetworkAddress {
            network: REMOTE.to_owned(),
            address: mesh::bytes_of(east_west.addresses.v4.into()),
            length: None,
        })),
        hbone_mtls_port: HBONE_PORT.into(),
    });
    scene.world.announce(workload).await?;

    scene.call(vip).await.map_err(|failure| {
        let heard = (at_gateway.requests(), at_gateway.failures(), inner.failures());
        conformance::Failure::new(format!("{failure}; heard by gateway and beyond: {heard:?}"))
    })?;
    let authority = format!("{}:80", service.hostname);
    last_authority(&at_gateway, &authority).await?;
    last_authority(&inner, &authority).await?;
    let tunnel = inner.seen().pop();
    let shown = tunnel.map(|tunnel| tunnel.facts.peer_uris()).transpose()?;
    ensure_eq!(
        shown,
        Some(vec![scene.client.identity()]),
        "who is shown in the inner tunnel"
    );
    let asked = inner.requests().pop();
    ensure!(
        asked.is_some_and(|asked| asked.headers.contains_key("x-forwarded-network")),
        "the inner CONNECT does not say from which network it comes"
    );
    Ok(())
}

/// A pod of the subject with an application tunnel, and what comes at its port when the client asks for a foreign address.
async fn through_application_tunnel(
    scene: &mut Scene,
    name: &str,
    protocol: Protocol,
) -> Outcome<(Pod, Vec<u8>)> {
    const PORT: u16 = 15088;
    let pod = scene.world.pod("apps", name).await?;
    let (heard, mut hears) = mpsc::channel(1);
    let serve = move |mut socket: TcpStream| {
        let heard = heard.clone();
        async move {
            let mut bytes = Vec::new();
            socket.read_to_end(&mut bytes).await?;
            let _ = heard.send(bytes).await;
            Ok(())
        }
    };
    // The proxy may call it at the pod's address or on loopback.
    let _app = App::serve(&pod.network, any(PORT), serve)?;
    let mut workload = pod.workload(mesh::NODE);
    workload.application_tunnel = Some(ApplicationTunnel {
        protocol: protocol.into(),
        port: PORT.into(),
    });
    scene.world.announce(workload).await?;
    let caller = scene.world.bare_pod("callers", "asks", "asks")?;
    let client = scene.world.tunnel(&caller, &pod).await?;
    let connected = eventually_ok(
        "a foreign authority is taken",
        Duration::from_secs(5),
        async || client.connect("10.96.77.77:80").await?.expect(200),
    );
    let mut tunnel = connected.await?.tunnel;
    tunnel.send("payload", true)?;
    let heard =
        conformance::within("what the application hears", Duration::from_secs(5), hears.recv()).await?;
    Ok((caller, heard.unwrap_or_default()))
}

async fn proxy_header(scene: &mut Scene) -> Outcome {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let (caller, heard) = through_application_tunnel(scene, "sandwiched", Protocol::Proxy).await?;
    ensure!(
        heard.starts_with(SIGNATURE),
        "no PROXY header, version 2: {heard:?}"
    );
    // Version 2, PROXY; TCP over IPv4.
    ensure_eq!(heard.get(12..14), Some(&[0x21, 0x11][..]), "command and family");
    ensure_eq!(
        heard.get(16..20),
        Some(&caller.addresses.v4.octets()[..]),
        "source"
    );
    ensure_eq!(heard.get(20..24), Some(&[10, 96, 77, 77][..]), "destination");
    ensure_eq!(
        heard.get(26..28),
        Some(&80u16.to_be_bytes()[..]),
        "port of the destination"
    );
    let identity = caller.identity();
    let mut record = vec![0xd0];
    record.extend(u16::try_from(identity.len())?.to_be_bytes());
    record.extend(identity.as_bytes());
    let has = heard.windows(record.len()).any(|window| window == record);
    ensure!(has, "no record 0xD0 with the caller's identity: {heard:?}");
    ensure!(
        heard.ends_with(b"payload"),
        "the payload does not follow: {heard:?}"
    );
    Ok(())
}

async fn plain_tunnel(scene: &mut Scene) -> Outcome {
    let (_, heard) = through_application_tunnel(scene, "plainly-sandwiched", Protocol::None).await?;
    ensure_eq!(heard, b"payload", "what the application heard");
    Ok(())
}

async fn asked_as_waypoint(scene: &mut Scene) -> Outcome {
    let waypoint = scene.world.pod("apps", "own-waypoint").await?;
    let vip = scene
        .service("served-by-own-waypoint", |service| {
            service.waypoint = Some(gateway(waypoint.at(HBONE_PORT)));
        })
        .await?;
    // An address goes to the same port of the waypoint, unmapped.
    let _app = App::echo(&waypoint.network, any(vip.port()))?;
    let caller = scene.world.bare_pod("callers", "asks-waypoint", "asks")?;
    let client = scene.world.tunnel(&caller, &waypoint).await?;
    let mut answer = client.connect(&vip.to_string()).await?.expect(200)?;
    echoes(&mut answer.tunnel, "hello").await?;
    let other = client.connect("10.96.78.78:80").await?.status;
    ensure_eq!(other, 400, "the address of a service that has no waypoint here");
    Ok(())
}

async fn another_endpoint(scene: &mut Scene) -> Outcome {
    let vip = scene.service("half", |_| {}).await?;
    let service = mesh::service("apps", "half", vip.ip(), 80, APP);
    let (broken, at_broken) = scene.world.peer("apps", "broken", |_| Reply::Status(503)).await?;
    scene
        .world
        .announce(joins(broken.workload("node-elsewhere"), &service))
        .await?;
    // Until it was tried at least once; each call succeeds all the same.
    for _ in 0..200 {
        scene.call(vip).await?;
        if !at_broken.requests().is_empty() {
            return Ok(());
        }
    }
    Err(conformance::Failure::new(
        "one of two endpoints was never chosen in 200 calls",
    ))
}
