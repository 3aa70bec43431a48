//! Outbound connections against peers that answer as a test wants, on loopback.

mod changes;
mod gateway;
mod self_call;
mod waypoints;

use crate::testing::{
    Answer, Net, Node, PATIENCE, Peer, TestIssuer, echo_application, in_time, pod, require_root, service,
    serving, shop,
};
use mesh::route::HBONE_PORT;
use proto::workload::{Service, TunnelProtocol, Workload};
use std::io::ErrorKind;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes and gets them back.
async fn echo(stream: &mut TcpStream, text: &[u8]) {
    in_time("an echo", async {
        stream.write_all(text).await.unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, text);
    })
    .await;
}

/// How a connection ends that carries no byte.
async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut byte = [0; 1];
    let read = in_time("an end", stream.read(&mut byte)).await;
    read.map_err(|error| error.kind())
}

/// The client's pod, and two endpoints of service `web` at port 80, which is 8080 of theirs.
fn two_endpoints(net: Net) -> (Vec<Workload>, Vec<Service>) {
    let workloads = vec![
        pod("client", net.ip(1)),
        serving(pod("one", net.ip(11)), "web"),
        serving(pod("two", net.ip(12)), "web"),
    ];
    (workloads, vec![service("web", Some(net.ip(100)), &[(80, 8080)])])
}

#[tokio::test]
async fn an_endpoint_that_answers_503_is_replaced_by_another_and_passed_over_after() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (workloads, services) = two_endpoints(net);
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let broken = Peer::start(&issuer, &shop("one"), net.at(11, HBONE_PORT), |_| {
        Answer::Status(503)
    })
    .await;
    let sound = Peer::start(&issuer, &shop("two"), net.at(12, HBONE_PORT), |_| Answer::Echo).await;
    let client = node.client("client");
    let mut until_broken = 0;
    while broken.seen().is_empty() {
        assert!(until_broken < 200, "the broken one is never chosen");
        until_broken += 1;
        echo(&mut client.connect(net.at(100, 80)).await, b"served all the same").await;
    }
    // What one pod found out, others of the node know.
    let other = node.client("client");
    for _ in 0..20 {
        echo(&mut other.connect(net.at(100, 80)).await, b"by the sound one").await;
    }
    assert_eq!(broken.seen().len(), 1);
    assert_eq!(sound.seen().len(), until_broken + 20);
    assert_eq!(sound.authorities()[0], format!("{}:8080", net.ip(12)));
    let forwarded = sound.seen()[0].forwarded.clone().unwrap();
    assert!(forwarded.ends_with(";host=web.shop.svc"), "{forwarded}");
}

#[tokio::test]
async fn a_denial_is_final_and_the_client_sees_a_reset() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (workloads, services) = two_endpoints(net);
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let one = Peer::start(&issuer, &shop("one"), net.at(11, HBONE_PORT), |_| {
        Answer::Status(401)
    })
    .await;
    let two = Peer::start(&issuer, &shop("two"), net.at(12, HBONE_PORT), |_| {
        Answer::Status(401)
    })
    .await;
    let client = node.client("client");
    for number in 1..=10 {
        let mut stream = client.connect(net.at(100, 80)).await;
        assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        assert_eq!(
            one.seen().len() + two.seen().len(),
            number,
            "one CONNECT for each"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_or_somebody_else_is_replaced_by_another() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (mut workloads, services) = two_endpoints(net);
    // Nobody listens at its address.
    workloads.push(serving(pod("absent", net.ip(13)), "web"));
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let impostor = shop("impostor");
    let _one = Peer::start(&issuer, &impostor, net.at(11, HBONE_PORT), |_| Answer::Echo).await;
    let two = Peer::start(&issuer, &shop("two"), net.at(12, HBONE_PORT), |_| Answer::Echo).await;
    let client = node.client("client");
    for number in 1..=20 {
        echo(&mut client.connect(net.at(100, 80)).await, b"in the end").await;
        assert_eq!(two.seen().len(), number);
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_costs_little_where_there_is_another() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (workloads, services) = two_endpoints(net);
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind(net.at(11, HBONE_PORT))
        .await
        .unwrap();
    let _two = Peer::start(&issuer, &shop("two"), net.at(12, HBONE_PORT), |_| Answer::Echo).await;
    let client = node.client("client");
    let accepted = silent.accept();
    tokio::pin!(accepted);
    let mut worst = std::time::Duration::ZERO;
    for _ in 0..200 {
        let before = Instant::now();
        echo(&mut client.connect(net.at(100, 80)).await, b"in time").await;
        worst = worst.max(before.elapsed());
        if futures_util::poll!(accepted.as_mut()).is_ready() {
            assert!(worst < PATIENCE / 2, "{worst:?}");
            return;
        }
    }
    panic!("the silent one is never chosen");
}

#[tokio::test]
async fn an_endpoint_outside_of_the_mesh_is_replaced_too() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(12)).await;
    let outside = |name, host| Workload {
        tunnel_protocol: TunnelProtocol::None.into(),
        ..serving(pod(name, net.ip(host)), "web")
    };
    let workloads = vec![pod("client", net.ip(1)), outside("one", 11), outside("two", 12)];
    let services = vec![service("web", Some(net.ip(100)), &[(80, port)])];
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let client = node.client("client");
    for _ in 0..20 {
        echo(&mut client.connect(net.at(100, 80)).await, b"plain").await;
    }
}

#[tokio::test]
async fn an_application_that_refuses_or_resets_is_a_reset_and_never_an_empty_success() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let workloads = vec![
        pod("client", net.ip(1)),
        pod("refusing", net.ip(11)),
        pod("resetting", net.ip(12)),
    ];
    let node = Node::new(&issuer, &[], vec![], workloads, vec![]).await;
    let refusing = shop("refusing");
    let _refusing = Peer::start(&issuer, &refusing, net.at(11, HBONE_PORT), |_| {
        Answer::Status(503)
    })
    .await;
    let resetting = shop("resetting");
    let _resetting = Peer::start(&issuer, &resetting, net.at(12, HBONE_PORT), |_| {
        Answer::ResetAfterFirst
    })
    .await;
    let client = node.client("client");
    let mut refused = client.connect(net.at(11, 8080)).await;
    assert_eq!(end(&mut refused).await, Err(ErrorKind::ConnectionReset));
    let mut reset = client.connect(net.at(12, 8080)).await;
    reset.write_all(b"first").await.unwrap();
    assert_eq!(end(&mut reset).await, Err(ErrorKind::ConnectionReset));
    // Plaintext: nobody of the mesh is at this address, and nobody listens there.
    let mut nobody = client.connect(net.at(13, 1)).await;
    assert_eq!(end(&mut nobody).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn registry_only_refuses_what_the_mesh_does_not_know() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(13)).await;
    for (policy, passes) in [("ALLOW_ANY", true), ("REGISTRY_ONLY", false)] {
        let settings = [("ZTUNNEL_OUTBOUND_POLICY", policy)];
        let node = Node::new(&issuer, &settings, vec![], vec![pod("client", net.ip(1))], vec![]).await;
        let client = node.client("client");
        let mut stream = client.connect(net.at(13, port)).await;
        if passes {
            echo(&mut stream, b"outside").await;
        } else {
            assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        }
    }
}
