//! Requests in tunnels to a real proxy, on loopback.

use super::*;
use crate::on_demand::OnDemand;
use crate::testing::{
    Net, Node, TestIssuer, echo_application, in_time, pod, require_root, service, serving, shop,
};
use hbone::client::{Client, ConnectRequest};
use hbone::{ConnectError, Tunnel};
use mesh::route::HBONE_PORT;
use proto::workload::application_tunnel::Protocol;
use proto::workload::{ApplicationTunnel, Workload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A tunnel to the pod at `to`, opened by account `caller`.
async fn caller(issuer: &TestIssuer, caller: &str, to: SocketAddr, accepted: &str) -> (Client, SocketAddr) {
    let stream = TcpStream::connect(to).await.unwrap();
    let address = stream.local_addr().unwrap();
    let config = tls::ConfigCache::new().client(&issuer.certificate(&shop(caller)), &[shop(accepted)]);
    let (stream, _) = tls::connect(stream, &config).await.unwrap();
    let (client, driver) = hbone::client::handshake(stream, hbone::Settings::client())
        .await
        .unwrap();
    tokio::spawn(driver);
    (client, address)
}

async fn ask(client: &Client, authority: String) -> Result<Tunnel, ConnectError> {
    let request = ConnectRequest {
        authority,
        headers: Vec::new(),
    };
    in_time("an answer", client.connect(request))
        .await
        .map(|(tunnel, _)| tunnel)
}

fn status(answer: Result<Tunnel, ConnectError>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(ConnectError::Status(status)) => status,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_pod_serves_its_address_and_the_names_of_its_services() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(11)).await;
    let services = vec![
        service("web", Some(net.ip(100)), &[(80, port), (81, 15006)]),
        service("other", Some(net.ip(101)), &[(80, port)]),
    ];
    let workloads = vec![serving(pod("web", net.ip(11)), "web"), pod("caller", net.ip(1))];
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    node.serve("web", net.at(11, HBONE_PORT)).await;
    let (client, _) = caller(&issuer, "caller", net.at(11, HBONE_PORT), "web").await;
    for (authority, expected) in [
        (format!("{}:{port}", net.ip(11)), 200),
        ("web.shop.svc:80".to_owned(), 200),
        (format!("{}:80", net.ip(100)), 400),
        (format!("{}:{port}", net.ip(12)), 400),
        ("web.shop.svc:82".to_owned(), 503),
        ("web.shop.svc:81".to_owned(), 503),
        ("other.shop.svc:80".to_owned(), 503),
        ("nobody.shop.svc:80".to_owned(), 503),
        (format!("{}:15001", net.ip(11)), 503),
    ] {
        assert_eq!(
            status(ask(&client, authority.clone()).await),
            expected,
            "{authority}"
        );
    }
    let mut tunnel = ask(&client, "web.shop.svc:80".to_owned()).await.unwrap();
    tunnel.write_all(b"to the application").await.unwrap();
    let mut answer = [0; 18];
    in_time("an echo", tunnel.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"to the application");
}

/// A waypoint whose own proxy takes decrypted connections at `port`.
fn sandwiched(net: Net, protocol: Protocol, port: u16) -> Workload {
    Workload {
        application_tunnel: Some(ApplicationTunnel {
            protocol: protocol.into(),
            port: port.into(),
        }),
        ..pod("waypoint", net.ip(20))
    }
}

/// What the waypoint's proxy is sent before the caller's bytes, and from where.
async fn before_the_bytes(
    protocol: Protocol,
    listen: &str,
    setting: &str,
    authority: impl Fn(Net) -> String,
) -> (Vec<u8>, Net, SocketAddr, SocketAddr) {
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let listen = if listen.is_empty() {
        net.at(20, 0)
    } else {
        listen.parse().unwrap()
    };
    let proxy = TcpListener::bind(listen).await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let services = vec![service("web", Some(net.ip(100)), &[(80, 8080)])];
    let workloads = vec![sandwiched(net, protocol, port), pod("caller", net.ip(1))];
    let settings = [("LOCALHOST_APP_TUNNEL", setting)];
    let node = Node::new(&issuer, &settings, vec![], workloads, services).await;
    node.serve("waypoint", net.at(20, HBONE_PORT)).await;
    let (client, own) = caller(&issuer, "caller", net.at(20, HBONE_PORT), "waypoint").await;
    let mut tunnel = ask(&client, authority(net)).await.unwrap();
    tunnel.write_all(b"hello").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let (mut stream, from) = in_time("a connection", proxy.accept()).await.unwrap();
    let mut bytes = Vec::new();
    in_time("all bytes", stream.read_to_end(&mut bytes))
        .await
        .unwrap();
    assert!(bytes.ends_with(b"hello"));
    bytes.truncate(bytes.len() - 5);
    (bytes, net, own, from)
}

#[tokio::test]
async fn the_proxy_of_a_sandwiched_waypoint_is_told_who_calls_and_what() {
    if !require_root() {
        return;
    }
    for by_name in [false, true] {
        let authority = |net: Net| {
            if by_name {
                "web.shop.svc:80".to_owned()
            } else {
                format!("{}:80", net.ip(100))
            }
        };
        let (header, net, own, from) =
            before_the_bytes(Protocol::Proxy, "127.0.0.1:0", "true", authority).await;
        assert_eq!(
            header,
            crate::proxy_header::header(own, net.at(100, 80), Some(&shop("caller")))
        );
        assert!(from.ip().to_string() == "127.0.0.1", "{from}");
    }
    let authority = |net: Net| format!("{}:80", net.ip(100));
    let (header, net, own, from) = before_the_bytes(Protocol::Proxy, "", "false", authority).await;
    assert_eq!(
        header,
        crate::proxy_header::header(own, net.at(100, 80), Some(&shop("caller")))
    );
    assert_eq!(from.ip(), own.ip(), "the caller's own address");
}

#[tokio::test]
async fn without_proxy_protocol_the_bytes_come_bare_from_the_callers_address() {
    if !require_root() {
        return;
    }
    let authority = |net: Net| format!("{}:80", net.ip(100));
    let (header, _, own, from) = before_the_bytes(Protocol::None, "", "true", authority).await;
    assert_eq!(header, b"");
    assert_eq!(from.ip(), own.ip());
}

/// A waypoint is asked for a service that it has not heard of yet: it asks the control plane, once, and then knows.
#[tokio::test]
async fn what_a_request_names_is_looked_up_on_demand() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(20)).await;
    let workloads = vec![pod("waypoint", net.ip(20)), pod("caller", net.ip(1))];
    let mut node = Node::new(&issuer, &[], vec![], workloads, vec![]).await;
    let (asker, mut demands) = xds_client::on_demand(proto::workload::ADDRESS_TYPE_URL);
    node.context.state.ask_through(OnDemand::new(asker, "Kubernetes"));
    node.serve("waypoint", net.at(20, HBONE_PORT)).await;
    let behind = |name: &str, host: u8| {
        let mut behind = service(name, Some(net.ip(host)), &[(80, port), (port, port)]);
        behind.hostname = format!("{name}.shop.svc.cluster.local");
        behind.waypoint = Some(crate::testing::gateway(net.ip(20)));
        behind
    };
    let (late, named) = (behind("late", 100), behind("named", 101));
    let (late_key, named_key) = (
        format!("/{}", net.ip(100)),
        "shop/named.shop.svc.cluster.local".to_owned(),
    );
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Some(demand) = demands.next().await {
            seen.lock().unwrap().push(demand.name().to_owned());
            let known = [(&late_key, &late), (&named_key, &named)];
            let found = known.iter().find(|(key, _)| *key == demand.name());
            if let Some((_, service)) = found {
                node.tell(vec![], vec![(*service).clone()], vec![]).await;
            }
            demand.answer(found.is_some());
        }
    });
    let (client, _) = caller(&issuer, "caller", net.at(20, HBONE_PORT), "waypoint").await;
    for (authority, expected) in [
        (format!("{}:{port}", net.ip(100)), 200),
        ("named.shop.svc.cluster.local:80".to_owned(), 200),
        ("nobody.shop.svc.cluster.local:80".to_owned(), 503),
        // Nobody can tell in which namespace to look.
        ("example.com:80".to_owned(), 503),
        (format!("{}:{port}", net.ip(102)), 400),
        // Known by now.
        (format!("{}:{port}", net.ip(100)), 200),
    ] {
        let answer = status(ask(&client, authority.clone()).await);
        assert_eq!(answer, expected, "{authority}");
    }
    let expected = [
        format!("/{}", net.ip(100)),
        "shop/named.shop.svc.cluster.local".to_owned(),
        "shop/nobody.shop.svc.cluster.local".to_owned(),
        format!("/{}", net.ip(102)),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
}

/// The pod is not known, so each request waits until it is.
#[tokio::test]
async fn of_requests_that_wait_some_are_refused_and_later_ones_served() {
    if !require_root() {
        return;
    }
    const MOST: usize = 3;
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(11)).await;
    let mut node = Node::new(&issuer, &[], vec![], vec![pod("caller", net.ip(1))], vec![]).await;
    node.serve_with("web", net.at(11, HBONE_PORT), Waiting::at_most(MOST))
        .await;
    let (client, _) = caller(&issuer, "caller", net.at(11, HBONE_PORT), "web").await;
    let request = || ConnectRequest {
        authority: format!("{}:{port}", net.ip(11)),
        headers: Vec::new(),
    };
    let requests = (0..=MOST).map(|_| Box::pin(client.connect(request())));
    let one = futures_util::future::select_all(requests);
    let (refused, _, waiting) = in_time("a refusal", one).await;
    assert!(
        matches!(refused, Err(ConnectError::Status(503))),
        "{:?}",
        refused.err()
    );
    node.tell(vec![pod("web", net.ip(11))], vec![], vec![]).await;
    for answer in in_time("answers", futures_util::future::join_all(waiting)).await {
        assert_eq!(status(answer.map(|(tunnel, _)| tunnel)), 200);
    }
    assert_eq!(status(ask(&client, request().authority).await), 200);
}
