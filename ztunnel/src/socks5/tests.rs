//! A SOCKS client in a pod, against peers that answer as a test wants.

use super::*;
use crate::pod_proxy::PodProxy;
use crate::testing::{
    Answer, Net, Node, Peer, TestIssuer, echo_application, in_time, name_server, pod, require_root, service,
    serving, shop,
};
use mesh::route::HBONE_PORT;
use proto::workload::{Service, TunnelProtocol, Workload};
use sys::Namespace;
use sys::link::Netlink;
use sys::socket::{ConnectOptions, ListenOptions};

/// What pod `shop/client` of the node finds on its loopback.
async fn socks(node: &Node) -> SocketAddr {
    let (pod, held) = node.pod("client");
    let outbound = Arc::new(Outbound::new(node.context.clone(), pod.clone()));
    let socks = Arc::new(Socks5::new(&node.context, &pod, &outbound));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let _held = held;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let socks = socks.clone();
            tokio::spawn(async move { socks.serve(stream).await });
        }
    });
    address
}

fn request(command: u8, host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, command, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        Err(_) => {
            bytes.extend([3, host.len() as u8]);
            bytes.extend(host.as_bytes());
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes
}

/// Asks over `stream`, and returns the reply's code.
async fn ask_on(stream: &mut TcpStream, request: &[u8]) -> u8 {
    in_time("a reply", async {
        stream.write_all(&[5, 1, 0]).await.unwrap();
        let mut method = [0; 2];
        stream.read_exact(&mut method).await.unwrap();
        assert_eq!(method, [5, 0]);
        stream.write_all(request).await.unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!((reply[0], reply[2], reply[3]), (5, 0, 1));
        reply[1]
    })
    .await
}

async fn ask_for(proxy: SocketAddr, request: &[u8]) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    (ask_on(&mut stream, request).await, stream)
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    in_time("an echo", async {
        stream.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text);
    })
    .await;
}

/// In good order, and not by a reset after it.
async fn assert_ended(stream: &mut TcpStream) {
    assert_eq!(in_time("the end", stream.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(stream.take_error().unwrap().is_none());
}

/// The client's pod and an endpoint of `web.shop.svc.cluster.local`, port 80.
fn web(net: Net) -> (Vec<Workload>, Vec<Service>) {
    let host = "web.shop.svc.cluster.local";
    let mut endpoint = pod("web", net.ip(11));
    endpoint
        .services
        .insert(format!("shop/{host}"), Default::default());
    let mut service = service("web", Some(net.ip(100)), &[(80, 8080)]);
    service.hostname = host.into();
    (vec![pod("client", net.ip(1)), endpoint], vec![service])
}

#[tokio::test]
async fn a_client_is_connected_through_the_mesh_by_address_and_by_name() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let (workloads, services) = web(net);
    let node = Node::new(&issuer, &[], vec![], workloads, services).await;
    let peer = Peer::start(&issuer, &shop("web"), net.at(11, HBONE_PORT), |_| Answer::Echo).await;
    let proxy = socks(&node).await;
    let vip = net.ip(100).to_string();
    let hosts = [
        vip.as_str(),
        "web.shop.svc.cluster.local",
        "WEB.shop.svc.cluster.local.",
        "web.shop.svc",
        "web.shop",
        "web",
    ];
    for host in hosts {
        let (code, mut stream) = ask_for(proxy, &request(1, host, 80)).await;
        assert_eq!(code, 0, "{host}");
        echo(&mut stream, host.as_bytes()).await;
    }
    let seen = peer.seen();
    assert_eq!(seen.len(), hosts.len());
    assert!(seen.iter().all(|seen| seen.caller == shop("client")));
    assert!(
        seen.iter()
            .all(|seen| seen.authority == format!("{}:8080", net.ip(11)))
    );
    // A name with a dot at its end is whole, as it is in the pod's own DNS.
    let (code, _) = ask_for(proxy, &request(1, "web.shop.", 80)).await;
    assert_eq!(code, Outcome::HostUnreachable as u8);
    // A client that does not wait for answers loses nothing of what it sent behind its request.
    let mut early = TcpStream::connect(proxy).await.unwrap();
    let mut all = vec![5, 1, 0];
    all.extend(request(1, "web", 80));
    all.extend(b"early");
    early.write_all(&all).await.unwrap();
    let mut answers = [0; 2 + 10 + 5];
    in_time("everything", early.read_exact(&mut answers))
        .await
        .unwrap();
    assert_eq!(answers[..4], [5, 0, 5, 0]);
    assert_eq!(answers[12..], *b"early");
}

#[tokio::test]
async fn names_of_others_are_looked_up_at_the_name_servers() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let port = echo_application(net.ip(50)).await;
    let servers = vec![name_server(&[net.ip(50)]).await];
    let node = Node::new(&issuer, &[], servers, vec![pod("client", net.ip(1))], vec![]).await;
    let proxy = socks(&node).await;
    let (code, mut stream) = ask_for(proxy, &request(1, "db.example", port)).await;
    assert_eq!(code, 0);
    echo(&mut stream, b"outside of the mesh").await;
    let (code, mut stream) = ask_for(proxy, &request(1, "absent.example", port)).await;
    assert_eq!(code, Outcome::HostUnreachable as u8);
    assert_ended(&mut stream).await;
}

#[tokio::test]
async fn the_client_is_told_what_became_of_its_request() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let mut plain = pod("plain", net.ip(12));
    plain.tunnel_protocol = TunnelProtocol::None.into();
    let workloads = vec![
        pod("client", net.ip(1)),
        pod("denies", net.ip(11)),
        plain,
        serving(pod("broken", net.ip(13)), "broken"),
    ];
    let services = vec![
        service("broken", Some(net.ip(101)), &[(80, 8080)]),
        service("empty", Some(net.ip(102)), &[(80, 8080)]),
    ];
    let settings = [
        ("ZTUNNEL_OUTBOUND_POLICY", "REGISTRY_ONLY"),
        ("UNSTABLE_ENABLE_SOCKS5", "true"),
    ];
    let node = Node::new(&issuer, &settings, vec![], workloads, services).await;
    let _denies = Peer::start(&issuer, &shop("denies"), net.at(11, HBONE_PORT), |_| {
        Answer::Status(401)
    })
    .await;
    let _broken = Peer::start(&issuer, &shop("broken"), net.at(13, HBONE_PORT), |_| {
        Answer::Status(503)
    })
    .await;
    let proxy = socks(&node).await;
    let ip = |host| net.ip(host).to_string();
    for (request, outcome) in [
        (request(1, &ip(11), 80), Outcome::Forbidden),
        (request(1, "203.0.113.9", 80), Outcome::Forbidden),
        // Nobody listens there.
        (request(1, &ip(12), 9), Outcome::Refused),
        (request(1, &ip(101), 80), Outcome::HostUnreachable),
        (request(1, &ip(102), 80), Outcome::HostUnreachable),
        (request(1, "no-such-name.shop.svc", 80), Outcome::HostUnreachable),
        // The proxy's own ports.
        (request(1, "127.0.0.1", SOCKS5_PORT), Outcome::Forbidden),
        (request(1, "127.0.0.1", 15001), Outcome::Forbidden),
        // BIND and UDP ASSOCIATE.
        (request(2, &ip(11), 80), Outcome::CommandNotSupported),
        (request(3, &ip(11), 80), Outcome::CommandNotSupported),
        (vec![5, 1, 0, 9], Outcome::AddressNotSupported),
        (request(1, "no name", 80), Outcome::Failed),
        // What comes behind a request that is refused does not turn the answer into a reset.
        (
            [&[5, 1, 0, 9][..], &[0; 16]].concat(),
            Outcome::AddressNotSupported,
        ),
        (
            [request(2, &ip(11), 80), vec![0; 16]].concat(),
            Outcome::CommandNotSupported,
        ),
        (
            [request(1, &ip(11), 80), vec![0; 16]].concat(),
            Outcome::Forbidden,
        ),
    ] {
        let (code, mut stream) = ask_for(proxy, &request).await;
        assert_eq!(code, outcome as u8, "{request:?}");
        assert_ended(&mut stream).await;
    }
}

#[tokio::test]
async fn who_does_not_speak_socks_is_not_served() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let node = Node::new(&issuer, &[], vec![], vec![pod("client", net.ip(1))], vec![]).await;
    let proxy = socks(&node).await;
    let mut authenticating = TcpStream::connect(proxy).await.unwrap();
    authenticating.write_all(&[5, 1, 2]).await.unwrap();
    let mut answer = Vec::new();
    in_time("the end", authenticating.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, [5, 0xff]);
    for opening in [&b"\x04\x01\x00\x50"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(opening).await.unwrap();
        let ended = in_time("the end", stream.read(&mut [0; 1])).await;
        // Closed with what it sent unread, which is a reset.
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}

#[tokio::test]
async fn a_pod_finds_it_on_its_own_loopback_where_the_settings_say_so() {
    if !require_root() {
        return;
    }
    let (net, issuer) = (Net::new(), TestIssuer::new());
    for (setting, there) in [("true", true), ("false", false)] {
        let settings = [("UNSTABLE_ENABLE_SOCKS5", setting)];
        let node = Node::new(&issuer, &settings, vec![], vec![pod("client", net.ip(1))], vec![]).await;
        let network = Namespace::create().unwrap();
        let link = Netlink::in_namespace(&network).unwrap();
        link.up("lo").await.unwrap();
        let (served, _held) = node.pod("client");
        let pod = Pod {
            network: network.clone(),
            ..(*served).clone()
        };
        let proxy = PodProxy::start(node.context.clone(), Arc::new(pod))
            .await
            .unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, SOCKS5_PORT));
        let connected = socket::connect(&network, &ConnectOptions::default(), to).await;
        assert_eq!(connected.is_ok(), there);
        if let Ok(mut stream) = connected {
            // An application of the pod itself: what dials it does so from within the pod.
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
            let application = socket::listen(&network, local, &ListenOptions::default()).unwrap();
            let code = ask_on(&mut stream, &request(1, "127.0.0.1", 8080)).await;
            assert_eq!(code, 0);
            let (mut accepted, _) = in_time("the connection", application.accept()).await.unwrap();
            accepted.write_all(b"from within").await.unwrap();
            drop(accepted);
            let mut text = String::new();
            in_time("the text", stream.read_to_string(&mut text))
                .await
                .unwrap();
            assert_eq!(text, "from within");
        }
        proxy.leave(crate::connections::CloseReason::Stopping).await;
    }
}
