use super::*;
use crate::testing::{Node, TestIssuer, in_time, pod, require_root};
use proto::workload::{TunnelProtocol, Workload};
use sys::Namespace;
use sys::link::Netlink;
use sys::socket::{ConnectOptions, ListenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const POD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const APPLICATION: u16 = 8080;

/// The namespaces of a pod and of a client beside it.
async fn joined() -> (Namespace, Namespace) {
    let (pod, client) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    let link = Netlink::in_namespace(&pod).unwrap();
    link.veth("eth0", "eth0", &client).await.unwrap();
    for (network, address) in [(&pod, POD), (&client, CLIENT)] {
        let link = Netlink::in_namespace(network).unwrap();
        link.up("lo").await.unwrap();
        link.address("eth0", address.into(), 24).await.unwrap();
        link.up("eth0").await.unwrap();
    }
    (pod, client)
}

/// The pod in a namespace of its own, with its proxy: its client, its application, and what keeps it going.
async fn proxied(node: &Node) -> (Namespace, TcpListener, PodProxy, crate::identities::Held) {
    let (network, client) = joined().await;
    let (served, held) = node.pod("server");
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, APPLICATION));
    let application = socket::listen(&network, any, &ListenOptions::default()).unwrap();
    let pod = Pod {
        network,
        ..(*served).clone()
    };
    let proxy = PodProxy::start(node.context.clone(), Arc::new(pod)).await;
    (client, application, proxy.unwrap(), held)
}

/// A connection that passes by the proxy, both ends.
async fn direct(application: &TcpListener, client: &Namespace) -> (TcpStream, TcpStream) {
    let to = SocketAddr::from((POD, APPLICATION));
    let options = ConnectOptions::default();
    let (connected, accepted) = tokio::join!(socket::connect(client, &options, to), application.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// How many connections were ended that did not come through the proxy. On a kernel that cannot destroy sockets their
/// packets are dropped, and the ends see nothing.
fn ended(node: &Node) -> usize {
    let scrape = node.context.metrics.encode();
    let mut lines = scrape.lines();
    let line = lines.find(|line| line.contains("unproxied_connection"));
    let count = line.and_then(|line| line.rsplit_once(' '));
    count.map_or(0, |(_, count)| count.parse().unwrap())
}

async fn lives((client, application): &mut (TcpStream, TcpStream)) {
    in_time("the bytes", async {
        client.write_all(b"directly").await.unwrap();
        let mut text = [0; 8];
        application.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"directly");
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_takes_no_tunnels_is_reached_directly() {
    if !require_root() {
        return;
    }
    let issuer = TestIssuer::new();
    let workload = |tunnel: TunnelProtocol| Workload {
        tunnel_protocol: tunnel.into(),
        ..pod("server", POD.into())
    };
    let leaves = vec![workload(TunnelProtocol::None)];
    let mut node = Node::new(&issuer, &[], vec![], leaves.clone(), vec![]).await;
    let (client, application, _proxy, _held) = proxied(&node).await;
    // The proxy has not been told that it leaves, and every change of the policies or of its workload judges it.
    let mut connection = direct(&application, &client).await;
    node.allow_only("nobody").await;
    node.tell(leaves, vec![], vec![]).await;
    lives(&mut connection).await;
    assert_eq!(ended(&node), 0);
    // It joins again: what is open by then is older than that.
    node.tell(vec![workload(TunnelProtocol::Hbone)], vec![], vec![])
        .await;
    assert_eq!(ended(&node), 1);
}

#[tokio::test]
async fn what_a_pod_that_leaves_accepts_directly_is_none_of_our_business() {
    if !require_root() {
        return;
    }
    let issuer = TestIssuer::new();
    let settings = [("TERMINATION_GRACE_PERIOD_SECONDS", "60")];
    let workloads = vec![pod("server", POD.into())];
    let mut node = Node::new(&issuer, &settings, vec![], workloads, vec![]).await;
    let (client, application, proxy, _held) = proxied(&node).await;

    // While it is in the mesh, what is older than that is judged.
    let _older = direct(&application, &client).await;
    node.allow_only("nobody").await;
    assert_eq!(ended(&node), 1);

    // Something that is being served keeps it from going at once.
    let held_up = proxy.serving.acceptor.open.token();
    let tunnels = SocketAddr::from((POD, INBOUND_PORT));
    let options = ConnectOptions::default();
    let leaving = tokio::spawn(proxy.leave(CloseReason::PodLeft));
    in_time("the end of the listeners", async {
        while socket::connect(&client, &options, tunnels).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node.context.pods.list().len(), 1, "it is on its way");
    let mut connection = direct(&application, &client).await;
    node.allow_only("somebody-else").await;
    lives(&mut connection).await;
    drop(held_up);
    in_time("the end of leaving", leaving).await.unwrap();
    assert!(node.context.pods.list().is_empty());
}
