//! Through waypoints, and to workloads that have a host name instead of an address.

use super::*;
use crate::testing::{gateway as at, name_server};

#[tokio::test]
async fn a_service_with_a_waypoint_is_asked_for_there_as_it_was_addressed() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (mut workloads, mut services) = two_endpoints(net);
    workloads.push(pod("waypoint", net.ip(20)));
    services[0].waypoint = Some(at(net.ip(20)));
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let waypoint = Peer::start(&issuer, &shop("waypoint"), net.at(20, HBONE_PORT), |_| {
        Answer::Echo
    })
    .await;
    let client = node.client("client");
    echo(&mut client.connect(net.at(100, 80)).await, b"by the waypoint").await;
    assert_eq!(waypoint.authorities(), [format!("{}:80", net.ip(100))]);
    let seen = &waypoint.seen()[0];
    assert!(
        seen.forwarded.as_ref().unwrap().ends_with(";host=web.shop.svc"),
        "{seen:?}"
    );
    assert_eq!((&seen.caller, &seen.network), (&shop("client"), &None));
}

#[tokio::test]
async fn a_workload_with_a_waypoint_is_asked_for_there_and_never_reached_around_it() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let mut web = pod("web", net.ip(11));
    web.waypoint = Some(at(net.ip(20)));
    let workloads = vec![pod("client", net.ip(1)), web, pod("waypoint", net.ip(20))];
    let node = Node::new(&issuer, &[], vec![], workloads, vec![]).await;
    let itself = Peer::start(&issuer, &shop("web"), net.at(11, HBONE_PORT), |_| Answer::Echo).await;
    let client = node.client("client");
    // Nobody listens at the waypoint yet.
    let mut stream = client.connect(net.at(11, 8080)).await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    let waypoint = Peer::start(&issuer, &shop("waypoint"), net.at(20, HBONE_PORT), |_| {
        Answer::Echo
    })
    .await;
    echo(&mut client.connect(net.at(11, 8080)).await, b"by the waypoint").await;
    assert_eq!(waypoint.authorities(), [format!("{}:8080", net.ip(11))]);
    assert_eq!(itself.seen(), []);
}

#[tokio::test]
async fn a_host_name_is_resolved_when_a_connection_needs_it() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(40)).await;
    let named = |name: &str, hostname: &str| Workload {
        addresses: Vec::new(),
        hostname: hostname.into(),
        tunnel_protocol: TunnelProtocol::None.into(),
        ..serving(pod(name, net.ip(40)), name)
    };
    let workloads = vec![
        pod("client", net.ip(1)),
        named("db", "db.example"),
        named("lost", "lost.example"),
    ];
    let services = vec![
        service("db", Some(net.ip(100)), &[(80, port)]),
        service("lost", Some(net.ip(101)), &[(80, port)]),
    ];
    let servers = vec![name_server(&[net.ip(40)]).await];
    let node = Node::new(&issuer, &[], servers, workloads, services).await;
    let client = node.client("client");
    echo(&mut client.connect(net.at(100, 80)).await, b"by its name").await;
    echo(&mut client.connect(net.at(100, 80)).await, b"by its name again").await;
    let mut lost = client.connect(net.at(101, 80)).await;
    assert_eq!(end(&mut lost).await, Err(ErrorKind::ConnectionReset));

    // Each connection counts once, looked up anew or not, found or not.
    let scrape = node.context.metrics.encode();
    for (name, count) in [("db.example", 2), ("lost.example", 1)] {
        let series = "istio_on_demand_dns_total{source_workload=\"unknown\"";
        let ending = format!("hostname=\"{name}\"}} {count}");
        let counted =
            |line: &str| line.starts_with(series) && line.contains("sa/client\"") && line.ends_with(&ending);
        assert!(scrape.lines().any(counted), "{name} in {scrape}");
    }
}
