use std::net::SocketAddr;

use sys::socket::{self, ConnectOptions, ListenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::*;
use crate::test_support::{needs_root, neighbours, run_in, traces};

const LIMIT: Duration = Duration::from_secs(10);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn listener(namespace: &Namespace, at: &str) -> TcpListener {
    socket::listen(namespace, address(at), &ListenOptions::default()).unwrap()
}

/// Connects from a namespace; an unanswered attempt fails soon.
async fn connect(namespace: &Namespace, mark: Option<u32>, to: &str) -> std::io::Result<TcpStream> {
    let options = ConnectOptions {
        mark,
        timeout: Some(Duration::from_secs(3)),
        ..ConnectOptions::default()
    };
    socket::connect(namespace, &options, address(to)).await
}

/// Connects and says which listener took it and where it was going.
async fn taken_by(
    from: &Namespace,
    mark: Option<u32>,
    to: &str,
    listeners: &[(&'static str, &TcpListener)],
) -> (&'static str, SocketAddr) {
    let (_client, taken) = tokio::join!(
        async {
            connect(from, mark, to)
                .await
                .unwrap_or_else(|error| panic!("{to}: {error}"))
        },
        async {
            let accepting = listeners
                .iter()
                .map(|(name, listener)| Box::pin(async move { (*name, listener.accept().await) }));
            let first = futures_util::future::select_all(accepting);
            tokio::time::timeout(LIMIT, first)
                .await
                .unwrap_or_else(|_| panic!("{to}: nobody took it"))
                .0
        }
    );
    let (name, accepted) = taken;
    (name, socket::original_destination(&accepted.unwrap().0).unwrap())
}

async fn exchange(a: &mut TcpStream, b: &mut TcpStream) {
    for (from, to) in [(1, 2), (2, 1)] {
        let (writer, reader) = if from < to {
            (&mut *a, &mut *b)
        } else {
            (&mut *b, &mut *a)
        };
        writer.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        tokio::time::timeout(LIMIT, reader.read_exact(&mut got))
            .await
            .expect("bytes arrive")
            .unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[tokio::test]
async fn redirects_as_the_proxy_expects_and_leaves_nothing_behind() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (near, pod) = neighbours().await;
    let before = traces(&pod).await;
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Nothing);

    assert!(firewall.install(&pod).await.unwrap());
    let installed = traces(&pod).await;
    assert!(!firewall.install(&pod).await.unwrap(), "nothing left to change");
    assert_eq!(traces(&pod).await, installed);
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Redirection);

    // Nobody listens yet: refused by the kernel, never direct.
    let target = listener(&near, "[::]:8080");
    for to in ["10.1.0.1:8080", "[fd00::1]:8080"] {
        let refused = connect(&pod, None, to).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    let application = listener(&pod, "[::]:8080");
    for to in ["10.1.0.2:8080", "[fd00::2]:8080"] {
        let refused = connect(&near, None, to).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }

    let outbound = listener(&pod, "[::]:15001");
    let inbound = listener(&pod, "[::]:15006");
    let tunnel = listener(&pod, "[::]:15008");
    let dns = listener(&pod, "[::]:15053");
    let all: Vec<(&'static str, &TcpListener)> = vec![
        ("target", &target),
        ("application", &application),
        ("outbound", &outbound),
        ("inbound", &inbound),
        ("tunnel", &tunnel),
        ("dns", &dns),
    ];
    let proxy = Some(0x539);
    let cases = [
        (&pod, None, "10.1.0.1:8080", "outbound"),
        (&pod, None, "[fd00::1]:8080", "outbound"),
        (&pod, None, "203.0.113.9:80", "outbound"),
        (&pod, proxy, "10.1.0.1:8080", "target"),
        (&pod, proxy, "[fd00::1]:8080", "target"),
        (&pod, None, "10.1.0.1:53", "dns"),
        (&pod, None, "[fd00::1]:53", "dns"),
        // A pod that calls itself is not captured.
        (&pod, None, "10.1.0.2:8080", "application"),
        (&pod, None, "[fd00::2]:8080", "application"),
        (&pod, None, "127.0.0.1:8080", "application"),
        (&pod, None, "[::1]:8080", "application"),
        (&near, None, "10.1.0.2:8080", "inbound"),
        (&near, None, "[fd00::2]:8080", "inbound"),
        (&near, None, "10.1.0.2:15008", "tunnel"),
        (&near, None, "[fd00::2]:15008", "tunnel"),
    ];
    for (from, mark, to, who) in cases {
        assert_eq!(taken_by(from, mark, to, &all).await, (who, address(to)), "{to}");
    }

    firewall.stop_redirecting(&pod).await.unwrap();
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Rest);
    assert_eq!(taken_by(&pod, None, "10.1.0.1:8080", &all).await.0, "target");
    assert_eq!(
        taken_by(&near, None, "[fd00::2]:8080", &all).await.0,
        "application"
    );

    firewall.remove(&pod).await.unwrap();
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Nothing);
    if firewall.backend.nftables {
        assert_eq!(traces(&pod).await, before);
    }
    firewall.remove(&pod).await.unwrap();
}

#[tokio::test]
async fn dns_queries_are_redirected_and_answers_come_from_the_server() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (near, pod) = neighbours().await;
    for (server, here, any) in [
        ("10.1.0.1:53", "127.0.0.1:15053", "0.0.0.0:0"),
        ("[fd00::1]:53", "[::1]:15053", "[::]:0"),
    ] {
        let upstream = socket::udp(&near, address(server), None).unwrap();
        // As a resolver library: connected, so only an answer from the server itself is taken. It is older than the
        // rules, too.
        let client = socket::udp(&pod, address(any), None).unwrap();
        client.connect(address(server)).await.unwrap();
        assert_eq!(ask(&client, &upstream).await, "upstream");

        firewall.install(&pod).await.unwrap();
        let proxy = socket::udp(&pod, address(here), Some(0x539)).unwrap();
        let fresh = socket::udp(&pod, address(any), None).unwrap();
        fresh.connect(address(server)).await.unwrap();
        for client in [&client, &fresh] {
            tokio::select! {
                answer = ask(client, &proxy) => assert_eq!(answer, "upstream"),
                () = serve(&upstream, "direct") => {}
            }
        }
        // The proxy's own query goes out, from a port that an application may use at the same time.
        let own = socket::udp(&pod, address(any), Some(0x539)).unwrap();
        own.connect(address(server)).await.unwrap();
        assert_eq!(ask(&own, &upstream).await, "upstream");
        firewall.stop_redirecting(&pod).await.unwrap();
        let direct = socket::udp(&pod, address(any), None).unwrap();
        direct.connect(address(server)).await.unwrap();
        assert_eq!(ask(&direct, &upstream).await, "upstream");
        firewall.remove(&pod).await.unwrap();
    }
}

/// Asks; `server` answers.
async fn ask(client: &UdpSocket, server: &UdpSocket) -> String {
    let asking = async {
        client.send(b"?").await.unwrap();
        let mut buffer = [0; 64];
        tokio::select! {
            length = client.recv(&mut buffer) => {
                let length = length.unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            }
            () = serve(server, "upstream") => "nothing".into(),
        }
    };
    tokio::time::timeout(LIMIT, asking).await.expect("an answer")
}

async fn serve(server: &UdpSocket, answer: &str) {
    let mut buffer = [0; 64];
    loop {
        let (_, from) = server.recv_from(&mut buffer).await.unwrap();
        server.send_to(answer.as_bytes(), from).await.unwrap();
    }
}

/// A connection that is older than the rules is never picked up half-way, whichever side opened it; one that was
/// redirected goes on after the redirection has ended.
#[tokio::test]
async fn open_connections_survive_enrolment_and_unenrolment() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (near, pod) = neighbours().await;
    let target = listener(&near, "[::]:8080");
    let application = listener(&pod, "[::]:8080");
    let mut old = Vec::new();
    for (from, to, accepting) in [
        (&pod, "10.1.0.1:8080", &target),
        (&pod, "[fd00::1]:8080", &target),
        (&near, "10.1.0.2:8080", &application),
        (&near, "[fd00::2]:8080", &application),
        (&pod, "10.1.0.2:8080", &application),
    ] {
        let client = connect(from, None, to).await.unwrap();
        old.push((client, accepting.accept().await.unwrap().0));
    }
    for (client, server) in &mut old {
        exchange(client, server).await;
    }

    firewall.install(&pod).await.unwrap();
    for (client, server) in &mut old {
        exchange(client, server).await;
    }
    let outbound = listener(&pod, "[::]:15001");
    let inbound = listener(&pod, "[::]:15006");
    let mut redirected = Vec::new();
    for (from, to, accepting) in [
        (&pod, "10.1.0.1:8080", &outbound),
        (&pod, "[fd00::1]:8080", &outbound),
        (&near, "10.1.0.2:8080", &inbound),
        (&near, "[fd00::2]:8080", &inbound),
    ] {
        let client = connect(from, None, to).await.unwrap();
        redirected.push((client, accepting.accept().await.unwrap().0));
    }
    firewall.stop_redirecting(&pod).await.unwrap();
    for (client, server) in redirected.iter_mut().chain(&mut old) {
        exchange(client, server).await;
    }
    // And back again in the middle.
    firewall.install(&pod).await.unwrap();
    for (client, server) in redirected.iter_mut().chain(&mut old) {
        exchange(client, server).await;
    }
    firewall.stop_redirecting(&pod).await.unwrap();
    drop(redirected);
    firewall.remove(&pod).await.unwrap();
    for (client, server) in &mut old {
        exchange(client, server).await;
    }
}

/// What the kernel remembers of a connection that is older than the rules is no way past them: opened again from the
/// same port, it would not be translated.
#[tokio::test]
async fn a_connection_that_the_kernel_remembers_is_not_opened_again_past_the_proxy() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (near, pod) = neighbours().await;
    let application = listener(&pod, "[::]:8080");
    let inbound = listener(&pod, "[::]:15006");
    for (source, to) in [
        ("10.1.0.1:40001", "10.1.0.2:8080"),
        ("[fd00::1]:40001", "[fd00::2]:8080"),
    ] {
        let options = ConnectOptions {
            source: Some(address(source)),
            timeout: Some(Duration::from_secs(3)),
            ..ConnectOptions::default()
        };
        let mut client = socket::connect(&near, &options, address(to)).await.unwrap();
        let (mut server, _) = application.accept().await.unwrap();
        firewall.install(&pod).await.unwrap();
        exchange(&mut client, &mut server).await;
        // As policy ends such a connection.
        socket::reset_on_close(&server).unwrap();
        drop(server);
        let ended = tokio::time::timeout(LIMIT, client.read(&mut [0])).await.unwrap();
        assert!(!matches!(ended, Ok(1)), "{to}: ended");
        drop(client);

        // Refused, or taken by the proxy.
        if let Ok(_client) = socket::connect(&near, &options, address(to)).await {
            tokio::select! {
                _ = inbound.accept() => {}
                past = application.accept() => panic!("{to}: past the proxy: {past:?}"),
            }
        }
        firewall.stop_redirecting(&pod).await.unwrap();
        firewall.remove(&pod).await.unwrap();
    }
}

/// The control for the test above: rules that look at more than first packets do break what is open.
#[tokio::test]
async fn without_the_match_on_first_packets_open_connections_break() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (near, pod) = neighbours().await;
    let target = listener(&near, "[::]:8080");
    let mut client = connect(&pod, None, "10.1.0.1:8080").await.unwrap();
    let mut server = target.accept().await.unwrap().0;
    exchange(&mut client, &mut server).await;
    let script = rules::install_script(&rules::wanted(Family::V4), &[]).unwrap();
    let (redirecting, _) = script.split_once("*filter").unwrap();
    let without = redirecting.replace("--tcp-flags FIN,SYN,RST,ACK SYN ", "");
    assert_ne!(without, script);
    firewall.restore(&pod, Family::V4, &without).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(2), server.read_exact(&mut [0; 5])).await;
    assert!(!matches!(answered, Ok(Ok(_))), "picked up half-way");
}

#[tokio::test]
async fn drift_is_set_right_and_strangers_rules_stay() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let (_near, pod) = neighbours().await;
    run_in(
        &pod,
        "iptables",
        &["-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.1", "-j", "ACCEPT"],
    )
    .await;
    let before = traces(&pod).await;
    firewall.install(&pod).await.unwrap();
    let installed = traces(&pod).await;

    run_in(&pod, "iptables", &["-t", "nat", "-F", "ISTIO_OUTPUT"]).await;
    run_in(
        &pod,
        "ip6tables",
        &["-t", "mangle", "-D", "OUTPUT", "-j", "ISTIO_OUTPUT"],
    )
    .await;
    run_in(
        &pod,
        "iptables",
        &["-t", "raw", "-A", "PREROUTING", "-j", "ISTIO_PRERT"],
    )
    .await;
    run_in(&pod, "ip", &["-6", "rule", "del", "pref", "32764"]).await;
    run_in(&pod, "ip", &["route", "flush", "table", "100"]).await;
    assert_ne!(traces(&pod).await, installed);
    assert!(firewall.install(&pod).await.unwrap());
    assert_eq!(traces(&pod).await, installed);

    firewall.remove(&pod).await.unwrap();
    if firewall.backend.nftables {
        assert_eq!(traces(&pod).await, before);
    }
}

#[tokio::test]
async fn a_pod_without_ipv6_gets_no_ipv6_rules() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let pod = Namespace::create().unwrap();
    link::sysctl(&pod, "ipv6/conf/lo/disable_ipv6", "1").unwrap();
    firewall.install(&pod).await.unwrap();
    assert!(run_in(&pod, "iptables-save", &[]).await.contains("ISTIO_OUTPUT"));
    assert!(!run_in(&pod, "ip6tables-save", &[]).await.contains("ISTIO_OUTPUT"));
    assert!(!run_in(&pod, "ip", &["-6", "rule"]).await.contains("0x111"));
}

#[tokio::test]
async fn the_legacy_variant_does_the_same() {
    if needs_root() {
        return;
    }
    let Some(v4) = Programs::find("iptables-legacy") else {
        println!("skipped: iptables-legacy is not installed");
        return;
    };
    let backend = Backend {
        name: "iptables-legacy",
        v4,
        v6: Programs::find("ip6tables-legacy"),
        nftables: false,
    };
    let firewall = Firewall {
        settings: Path::new("/proc/sys/net").into(),
        backend,
        commands: Arc::new(Semaphore::new(1)),
    };
    let (_near, pod) = neighbours().await;
    match firewall.install(&pod).await {
        Err(error) => {
            println!("skipped: this kernel has no legacy tables: {error}");
            return;
        }
        Ok(changed) => assert!(changed),
    }
    assert!(!firewall.install(&pod).await.unwrap(), "compares equal");
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Redirection);
    let outbound = listener(&pod, "[::]:15001");
    let taken = taken_by(&pod, None, "10.1.0.1:80", &[("outbound", &outbound)]).await;
    assert_eq!(taken, ("outbound", address("10.1.0.1:80")));
    firewall.stop_redirecting(&pod).await.unwrap();
    firewall.remove(&pod).await.unwrap();
    assert_eq!(firewall.inspect(&pod).await.unwrap(), Found::Nothing);
    assert!(!run_in(&pod, "iptables-legacy-save", &[]).await.contains("ISTIO"));
}

#[tokio::test]
async fn a_failing_command_is_named_with_its_complaint() {
    if needs_root() {
        return;
    }
    let firewall = Firewall::choose("/proc/sys/net".as_ref()).await.unwrap();
    let pod = Namespace::create().unwrap();
    let error = firewall
        .restore(&pod, Family::V4, "*nat\n-A OUTPUT -j NO_SUCH\nCOMMIT\n")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("-restore failed: ") && text.len() > 40, "{text}");
}
