//! Through the gateway of another network, to a real proxy there.

use super::*;
use proto::workload::gateway_address::Destination;
use proto::workload::{GatewayAddress, NetworkAddress};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What both sides know: the client here, `remote` on the other network behind the gateway, service `web` of it.
struct TwoNetworks {
    net: Net,
    issuer: Arc<TestIssuer>,
    here: Node,
    gateway: Peer,
    /// TLS sessions that have reached the remote pod.
    remote_tunnels: Arc<AtomicUsize>,
}

fn raw(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn remote(net: Net) -> Workload {
    let gateway = NetworkAddress {
        network: String::new(),
        address: raw(net.ip(20)).into(),
        length: None,
    };
    Workload {
        network: "far".into(),
        network_gateway: Some(GatewayAddress {
            destination: Some(Destination::Address(gateway)),
            hbone_mtls_port: HBONE_PORT.into(),
        }),
        ..serving(pod("remote", net.ip(30)), "web")
    }
}

async fn two_networks(net: Net, application: u16) -> TwoNetworks {
    let issuer = TestIssuer::new();
    let mut web = service("web", Some(net.ip(100)), &[(80, application)]);
    web.subject_alt_names = vec![shop("remote").to_string()];
    let workloads = vec![pod("client", net.ip(1)), pod("gateway", net.ip(20)), remote(net)];
    let here = Node::new(&issuer, &[], vec![], workloads, vec![web.clone()]).await;
    let there = Node::new(
        &issuer,
        &[("NETWORK", "far")],
        vec![],
        vec![remote(net)],
        vec![web],
    )
    .await;
    let remote_tunnels = there.serve("remote", net.at(30, HBONE_PORT)).await;
    let to: SocketAddr = net.at(30, HBONE_PORT);
    let gateway = Peer::start(&issuer, &shop("gateway"), net.at(20, HBONE_PORT), move |_| {
        Answer::Forward(to)
    })
    .await;
    TwoNetworks {
        net,
        issuer,
        here,
        gateway,
        remote_tunnels,
    }
}

#[tokio::test]
async fn a_second_tunnel_runs_inside_the_gateways_and_connections_share_it() {
    if !require_root() {
        return;
    }
    let net = Net::new();
    let port = echo_application(net.ip(30)).await;
    let mesh = two_networks(net, port).await;
    let client = mesh.here.client("client");
    let mut first = client.connect(mesh.net.at(100, 80)).await;
    echo(&mut first, b"first").await;
    let mut second = client.connect(mesh.net.at(100, 80)).await;
    echo(&mut second, b"second").await;
    echo(&mut first, b"and first again").await;

    let seen = mesh.gateway.seen();
    assert_eq!(seen.len(), 1, "one stream through the gateway: {seen:?}");
    assert_eq!(seen[0].authority, "web.shop.svc:80");
    assert_eq!(seen[0].network, None, "not for the gateway");
    assert_eq!(mesh.gateway.tunnels(), 1);
    assert_eq!(
        mesh.remote_tunnels.load(Ordering::SeqCst),
        1,
        "one session inside"
    );

    // Another pod shares nothing, whatever its identity.
    let other = mesh.here.client("client");
    echo(&mut other.connect(mesh.net.at(100, 80)).await, b"other").await;
    assert_eq!(mesh.gateway.tunnels(), 2);
    assert_eq!(mesh.remote_tunnels.load(Ordering::SeqCst), 2);

    // A half-closed connection ends in an orderly manner through both.
    first.shutdown().await.unwrap();
    assert_eq!(end(&mut first).await, Ok(0));
}

#[tokio::test]
async fn a_refusal_behind_the_gateway_is_a_reset_and_tries_other_sessions() {
    if !require_root() {
        return;
    }
    // Nothing listens on the application's port.
    let mesh = two_networks(Net::new(), 9).await;
    let client = mesh.here.client("client");
    let mut stream = client.connect(mesh.net.at(100, 80)).await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(
        mesh.remote_tunnels.load(Ordering::SeqCst),
        3,
        "the gateway could have chosen another workload"
    );
}

#[tokio::test]
async fn whoever_answers_inside_must_be_of_the_service() {
    if !require_root() {
        return;
    }
    let mesh = two_networks(Net::new(), 8080).await;
    let impostor = mesh.net.at(31, HBONE_PORT);
    let inside = Peer::start(&mesh.issuer, &shop("impostor"), impostor, |_| Answer::Echo).await;
    let gateway = mesh.net.at(21, HBONE_PORT);
    let leading_astray = Peer::start(&mesh.issuer, &shop("gateway"), gateway, move |_| {
        Answer::Forward(impostor)
    })
    .await;
    let mut astray = remote(mesh.net);
    let address = NetworkAddress {
        network: String::new(),
        address: raw(mesh.net.ip(21)).into(),
        length: None,
    };
    if let Some(named) = &mut astray.network_gateway {
        named.destination = Some(Destination::Address(address));
    }
    let mut here = mesh.here;
    here.tell(vec![astray, pod("gateway", mesh.net.ip(21))], vec![], vec![])
        .await;
    let client = here.client("client");
    let mut stream = client.connect(mesh.net.at(100, 80)).await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    assert!(!leading_astray.seen().is_empty());
    assert_eq!(inside.seen(), [], "no request reached the impostor");
}
