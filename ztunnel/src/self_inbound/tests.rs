//! Tunnels to the proxy itself, on loopback: an application stands in for the page of metrics.

use super::*;
use crate::testing::{Net, Node, TestIssuer, echo_application, in_time, pod, require_root, shop};
use hbone::client::{Client, ConnectRequest};
use hbone::{ConnectError, Tunnel};
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node whose proxy is pod `shop/ztunnel-a` at `ip`, with metrics on `port`.
async fn node(issuer: &Arc<TestIssuer>, ip: IpAddr, port: u16) -> Node {
    let mesh_config = format!("statsPort: {port}\n");
    let settings = [
        ("POD_NAME", "ztunnel-a"),
        ("POD_NAMESPACE", "shop"),
        ("SERVICE_ACCOUNT", "ztunnel"),
        ("PROXY_CONFIG", mesh_config.as_str()),
    ];
    let mut own = pod("ztunnel-a", ip);
    own.service_account = "ztunnel".into();
    Node::new(issuer, &settings, vec![], vec![own], vec![]).await
}

/// Takes tunnels at `address`.
fn serve_at(node: &Node, address: SocketAddr) -> SelfInbound {
    assert!(node.context.config.self_inbound);
    let (pod, listener) = listen(&node.context, address).unwrap();
    serve(&node.context, pod, listener)
}

async fn tunnel(issuer: &TestIssuer, account: &str, to: SocketAddr) -> Client {
    let stream = TcpStream::connect(to).await.unwrap();
    let config = tls::ConfigCache::new().client(&issuer.certificate(&shop(account)), &[shop("ztunnel")]);
    let (stream, peer) = tls::connect(stream, &config).await.unwrap();
    assert_eq!(peer.identity, shop("ztunnel"), "with its own certificate");
    let (client, driver) = hbone::client::handshake(stream, hbone::Settings::client())
        .await
        .unwrap();
    tokio::spawn(driver);
    client
}

async fn ask(client: &Client, to: SocketAddr) -> Result<Tunnel, u16> {
    let request = ConnectRequest {
        authority: to.to_string(),
        headers: Vec::new(),
    };
    match in_time("an answer", client.connect(request)).await {
        Ok((tunnel, _)) => Ok(tunnel),
        Err(ConnectError::Status(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

async fn echo(tunnel: &mut Tunnel) {
    in_time("an echo", async {
        tunnel.write_all(b"metrics").await.unwrap();
        let mut back = [0; 7];
        tunnel.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"metrics");
    })
    .await;
}

#[tokio::test]
async fn the_metrics_alone_are_reached_through_a_tunnel_to_the_proxy() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(1)).await;
    let other = echo_application(net.ip(1)).await;
    let node = node(&issuer, net.ip(1), port).await;
    let own = serve_at(&node, net.at(1, INBOUND_PORT));
    let client = tunnel(&issuer, "collector", net.at(1, INBOUND_PORT)).await;
    echo(&mut ask(&client, net.at(1, port)).await.unwrap()).await;
    for (to, status) in [
        (net.at(1, other), 400),
        (net.at(2, port), 400),
        (net.at(1, 15000), 400),
        (net.at(1, INBOUND_PORT), 503),
    ] {
        assert_eq!(ask(&client, to).await.err(), Some(status), "{to}");
    }
    assert!(
        node.context.pods.list().is_empty(),
        "it is none of the pods that are served"
    );
    own.leave().await;
}

#[tokio::test]
async fn policy_for_the_proxys_own_pod_decides_at_once_and_later() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(1)).await;
    let mut node = node(&issuer, net.ip(1), port).await;
    let own = serve_at(&node, net.at(1, INBOUND_PORT));
    let client = tunnel(&issuer, "stranger", net.at(1, INBOUND_PORT)).await;
    let mut open = ask(&client, net.at(1, port)).await.unwrap();
    echo(&mut open).await;
    node.allow_only("collector").await;
    // What was open is closed, and nothing new opens.
    let ended = in_time("the end", open.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(ask(&client, net.at(1, port)).await.err(), Some(401));
    let collector = tunnel(&issuer, "collector", net.at(1, INBOUND_PORT)).await;
    echo(&mut ask(&collector, net.at(1, port)).await.unwrap()).await;
    own.leave().await;
}

#[tokio::test]
async fn it_is_not_taken_where_the_proxys_pod_is_not_named() {
    if !require_root() {
        return;
    }
    let issuer = TestIssuer::new();
    let node = Node::new(&issuer, &[], vec![], vec![], vec![]).await;
    assert!(start(&node.context).is_none());
}
