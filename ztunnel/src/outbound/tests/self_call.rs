//! An application that calls the listener by which its own connections are captured.

use super::end;
use crate::connections::CloseReason;
use crate::pod_proxy::{OUTBOUND_PORT, PodProxy};
use crate::pods::Pod;
use crate::testing::{Node, TestIssuer, pod, require_root, until};
use proto::workload::TunnelProtocol;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use sys::Namespace;
use sys::link::Netlink;
use sys::socket::{self, ConnectOptions};

#[tokio::test]
async fn a_connection_to_the_listener_itself_is_refused_and_not_dialled_again() {
    if !require_root() {
        return;
    }
    let issuer = TestIssuer::new();
    // Its workload takes no tunnels, as one on its way into the mesh; the other address nobody has told of.
    let (told, untold) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let mut client = pod("client", told.into());
    client.tunnel_protocol = TunnelProtocol::None.into();
    let node = Node::new(&issuer, &[], vec![], vec![client], vec![]).await;
    let network = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&network).unwrap();
    for address in [told, untold].map(IpAddr::from) {
        link.address("lo", address, 32).await.unwrap();
    }
    link.up("lo").await.unwrap();
    let (served, _held) = node.pod("client");
    let pod = Pod {
        network: network.clone(),
        ..(*served).clone()
    };
    let proxy = PodProxy::start(node.context.clone(), Arc::new(pod))
        .await
        .unwrap();
    for address in [told, untold] {
        let to = SocketAddr::from((address, OUTBOUND_PORT));
        let connected = socket::connect(&network, &ConnectOptions::default(), to).await;
        // The reset may be there before connecting has returned.
        if let Ok(mut stream) = connected {
            assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        }
    }
    until("the end of the connections", || {
        node.context.connections.count() == 0
    })
    .await;
    let text = node.context.metrics.encode();
    let refused: Vec<_> = text
        .lines()
        .filter(|line| line.contains("\"self_call\""))
        .collect();
    assert!(
        matches!(refused[..], [only] if only.ends_with(" 2")),
        "{refused:?}"
    );
    proxy.leave(CloseReason::Stopping).await;
}
