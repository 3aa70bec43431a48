use super::*;
use crate::testing::{Node, TestIssuer, in_time, pod, require_root};
use std::io::ErrorKind;
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

/// A connection that passes by the proxy, both ends.
async fn direct(application: &TcpListener, client: &Namespace) -> (TcpStream, TcpStream) {
    let to = SocketAddr::from((POD, APPLICATION));
    let options = ConnectOptions::default();
    let (connected, accepted) = tokio::join!(socket::connect(client, &options, to), application.accept());
    (connected.unwrap(), accepted.unwrap().0)
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
    let (network, client) = joined().await;
    let (served, _held) = node.pod("server");
    let pod = Pod {
        network: network.clone(),
        ..(*served).clone()
    };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, APPLICATION));
    let application = socket::listen(&network, any, &ListenOptions::default()).unwrap();
    let proxy = PodProxy::start(node.context.clone(), Arc::new(pod))
        .await
        .unwrap();

    // While it is in the mesh, what is older than that is judged.
    let (mut older, _accepted) = direct(&application, &client).await;
    node.allow_only("nobody").await;
    let end = in_time("its end", older.read(&mut [0; 1])).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // A tunnel that nobody makes keeps it from going at once.
    let tunnels = SocketAddr::from((POD, INBOUND_PORT));
    let options = ConnectOptions::default();
    let held_up = socket::connect(&client, &options, tunnels).await.unwrap();
    let leaving = tokio::spawn(proxy.leave(CloseReason::PodLeft));
    in_time("the end of the listeners", async {
        while socket::connect(&client, &options, tunnels).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node.context.pods.list().len(), 1, "it is on its way");
    let (mut direct, mut accepted) = direct(&application, &client).await;
    node.allow_only("somebody-else").await;
    in_time("the bytes", async {
        direct.write_all(b"after it has left").await.unwrap();
        let mut text = [0; 17];
        accepted.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"after it has left");
    })
    .await;
    drop(held_up);
    in_time("the end of leaving", leaving).await.unwrap();
    assert!(node.context.pods.list().is_empty());
}
