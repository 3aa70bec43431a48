//! Changes that end open connections, and such that do not.

use super::*;

#[tokio::test]
async fn a_peer_that_is_gone_or_has_another_identity_ends_its_connections_and_no_others() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let names = ["gone", "renamed", "staying", "unready"];
    let workloads = names.iter().zip(11..).map(|(name, host)| pod(name, net.ip(host)));
    let workloads = workloads.chain([pod("client", net.ip(1))]).collect();
    let mut node = Node::new(&issuer, &[], vec![], workloads, vec![]).await;
    let mut peers = Vec::new();
    for (name, host) in names.iter().zip(11..) {
        peers.push(Peer::start(&issuer, &shop(name), net.at(host, HBONE_PORT), |_| Answer::Echo).await);
    }
    let client = node.client("client");
    let mut streams = Vec::new();
    for host in 11..15 {
        let mut stream = client.connect(net.at(host, 80)).await;
        echo(&mut stream, b"open").await;
        streams.push(stream);
    }
    let mut renamed = pod("renamed", net.ip(12));
    renamed.service_account = "other".into();
    let mut unready = pod("unready", net.ip(14));
    unready.status = proto::workload::WorkloadStatus::Unhealthy.into();
    node.tell(
        vec![renamed, unready],
        vec![],
        vec!["Kubernetes//Pod/shop/gone".into()],
    )
    .await;
    // The change is taken once they have been told to close.
    assert_eq!(end(&mut streams[0]).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut streams[1]).await, Err(ErrorKind::ConnectionReset));
    echo(&mut streams[2], b"open still").await;
    echo(&mut streams[3], b"finishes what it has begun").await;
    let scrape = node.context.metrics.encode();
    for reason in ["peer_gone", "peer_changed"] {
        let counted = |line: &str| line.contains("closed_early") && line.contains(reason);
        assert!(scrape.lines().any(counted), "{reason} in {scrape}");
    }
}

#[tokio::test]
async fn plaintext_to_an_address_that_becomes_one_of_the_mesh_ends() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(13)).await;
    let mut node = Node::new(&issuer, &[], vec![], vec![pod("client", net.ip(1))], vec![]).await;
    let client = node.client("client");
    let mut stream = client.connect(net.at(13, port)).await;
    echo(&mut stream, b"nobody known").await;
    node.tell(vec![pod("other", net.ip(14))], vec![], vec![]).await;
    echo(&mut stream, b"not concerned").await;
    node.tell(vec![pod("known", net.ip(13))], vec![], vec![]).await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn without_its_own_workload_nothing_of_a_pod_goes_on() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(13)).await;
    let mut node = Node::new(&issuer, &[], vec![], vec![pod("client", net.ip(1))], vec![]).await;
    let client = node.client("client");
    let mut stream = client.connect(net.at(13, port)).await;
    echo(&mut stream, b"known").await;
    node.tell(vec![], vec![], vec!["Kubernetes//Pod/shop/client".into()])
        .await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn load_is_counted_while_connections_last() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let workloads = vec![pod("client", net.ip(1)), pod("web", net.ip(11))];
    let node = Node::new(&issuer, &[], vec![], workloads, vec![]).await;
    let _peer = Peer::start(&issuer, &shop("web"), net.at(11, HBONE_PORT), |_| Answer::Echo).await;
    let client = node.client("client");
    let open = || {
        node.context
            .load
            .now()
            .open_connections("Kubernetes//Pod/shop/web")
    };
    let mut streams = Vec::new();
    for number in 1..=3 {
        let mut stream = client.connect(net.at(11, 80)).await;
        echo(&mut stream, b"open").await;
        assert_eq!(open(), number);
        streams.push(stream);
    }
    drop(streams);
    crate::testing::until("closed connections are no load", || open() == 0).await;
}
