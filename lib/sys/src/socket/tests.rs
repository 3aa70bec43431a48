use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    link::{Family, Netlink, Rule},
    test_support::{joined, needs_root, run_in},
};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("took too long")
}

#[test]
fn mapped_addresses_become_what_they_mean() {
    assert_eq!(normalise(address("[::ffff:10.0.0.1]:80")), address("10.0.0.1:80"));
    assert_eq!(normalise(address("[fd00::1]:80")), address("[fd00::1]:80"));
    assert_eq!(normalise(address("10.0.0.1:80")), address("10.0.0.1:80"));
}

#[tokio::test]
async fn connects_across_namespaces_by_both_families() {
    if needs_root() {
        return;
    }
    let (near, far) = joined().await;
    let options = ListenOptions {
        mark: Some(0x539),
        transparent: true,
        ..ListenOptions::default()
    };
    let listener = listen(&far, address("[::]:8080"), &options).unwrap();
    for destination in ["10.1.0.2:8080", "[fd00::2]:8080"] {
        let connect_options = ConnectOptions {
            mark: Some(0x539),
            keepalive: Some(Keepalive {
                user_timeout: true,
                ..Keepalive::default()
            }),
            ..ConnectOptions::default()
        };
        let (client, server) = within(async {
            tokio::join!(
                connect(&near, &connect_options, address(destination)),
                listener.accept()
            )
        })
        .await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        assert_eq!(local_address(&server).unwrap(), address(destination));
        assert_eq!(peer_address(&server).unwrap(), client.local_addr().unwrap());
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        within(server.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"ping");

        let accepted = SockRef::from(&server);
        assert!(
            accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap(),
            "inherited"
        );
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Keepalive::default().time);
        assert_eq!(
            accepted.tcp_keepalive_interval().unwrap(),
            Keepalive::default().interval
        );
        assert_eq!(
            accepted.tcp_keepalive_retries().unwrap(),
            Keepalive::default().retries
        );
        assert_eq!(accepted.mark().unwrap(), 0x539);
        let connected = SockRef::from(&client);
        assert!(connected.tcp_nodelay().unwrap() && connected.keepalive().unwrap());
        let half_an_hour = std::time::Duration::from_secs(1800);
        assert_eq!(connected.tcp_user_timeout().unwrap(), Some(half_an_hour));
        assert_eq!(connected.mark().unwrap(), 0x539);

        reset_on_close(&server).unwrap();
        drop(server);
        let ended = within(client.read(&mut got)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    // Nothing of this is reachable from the namespace of the test itself.
    let home = Namespace::current().unwrap();
    let options = ConnectOptions {
        timeout: Some(Duration::from_secs(1)),
        ..ConnectOptions::default()
    };
    assert!(connect(&home, &options, address("127.0.0.1:8080")).await.is_err());
}

#[tokio::test]
async fn udp_stays_in_its_namespace() {
    if needs_root() {
        return;
    }
    let (near, far) = joined().await;
    let server = udp(&far, address("10.1.0.2:53"), Some(0x539)).unwrap();
    let client = udp(&near, address("0.0.0.0:0"), None).unwrap();
    client.send_to(b"?", address("10.1.0.2:53")).await.unwrap();
    let mut buffer = [0; 8];
    let (length, from) = within(server.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((length, from.ip()), (1, IpAddr::from([10, 1, 0, 1])));
}

#[tokio::test]
async fn a_silent_destination_times_out() {
    if needs_root() {
        return;
    }
    let (near, far) = joined().await;
    run_in(&far, "iptables", &["-A", "INPUT", "-p", "tcp", "-j", "DROP"], "").await;
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(200)),
        ..ConnectOptions::default()
    };
    let error = within(connect(&near, &options, address("10.1.0.2:1")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("10.1.0.2:1"), "{error}");
}

#[tokio::test]
async fn original_destination_survives_redirection() {
    if needs_root() {
        return;
    }
    let (near, _far) = joined().await;
    for tables in ["iptables-restore", "ip6tables-restore"] {
        let rules = "*nat\n-A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001\nCOMMIT\n";
        run_in(&near, tables, &["--noflush"], rules).await;
    }
    let listener = listen(&near, address("[::]:15001"), &ListenOptions::default()).unwrap();
    let cases = [
        ("10.1.0.2:80", "10.1.0.2:80"),
        ("[fd00::2]:80", "[fd00::2]:80"),
        // Not redirected: the address it came to.
        ("10.1.0.1:15001", "10.1.0.1:15001"),
        ("[fd00::1]:15001", "[fd00::1]:15001"),
    ];
    for (destination, original) in cases {
        let options = ConnectOptions::default();
        let connecting = connect(&near, &options, address(destination));
        let (client, server) = within(async { tokio::join!(connecting, listener.accept()) }).await;
        client.unwrap();
        assert_eq!(
            original_destination(&server.unwrap().0).unwrap(),
            address(original)
        );
    }
}

/// The way a proxy in the pod shows the client's address to the application: spoofed source, answers led back by mark.
#[tokio::test]
async fn a_foreign_source_address_is_shown_to_the_application() {
    if needs_root() {
        return;
    }
    let (_near, pod) = joined().await;
    let rules = "*mangle\n\
        -A PREROUTING -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff\n\
        -A OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark\nCOMMIT\n";
    let link = Netlink::in_namespace(&pod).unwrap();
    let rule = Rule {
        mark: 0x111,
        mask: 0xfff,
        priority: 32764,
        table: 100,
    };
    for (family, tables) in [
        (Family::V4, "iptables-restore"),
        (Family::V6, "ip6tables-restore"),
    ] {
        run_in(&pod, tables, &["--noflush"], rules).await;
        link.rule(family, rule).await.unwrap();
        link.local_route(family, 100).await.unwrap();
    }
    // As every pod has: an answer needs a route before its mark can lead it elsewhere.
    link.route(
        ("0.0.0.0".parse().unwrap(), 0),
        Some("10.1.0.1".parse().unwrap()),
        None,
        false,
    )
    .await
    .unwrap();
    link.route(
        ("::".parse().unwrap(), 0),
        Some("fd00::1".parse().unwrap()),
        None,
        false,
    )
    .await
    .unwrap();
    let application = listen(&pod, address("[::]:8080"), &ListenOptions::default()).unwrap();
    for (source, destination) in [
        ("192.0.2.7:0", "10.1.0.2:8080"),
        ("[2001:db8::7]:0", "[fd00::2]:8080"),
        ("192.0.2.7:4321", "10.1.0.2:8080"),
    ] {
        let options = ConnectOptions {
            mark: Some(0x539),
            source: Some(address(source)),
            timeout: Some(Duration::from_secs(5)),
            ..ConnectOptions::default()
        };
        let (client, server) = within(async {
            tokio::join!(
                connect(&pod, &options, address(destination)),
                application.accept()
            )
        })
        .await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        let seen = peer_address(&server).unwrap();
        assert_eq!(seen.ip(), address(source).ip());
        if address(source).port() != 0 {
            assert_eq!(seen.port(), address(source).port());
        }
        server.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        within(client.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[test]
fn only_every_address_becomes_that_of_ipv4_on_a_kernel_without_ipv6() {
    let asked = |wanted: &str, code: i32| {
        let asked = std::cell::RefCell::new(Vec::new());
        let bound = with_or_without_ipv6(address(wanted), |address| {
            asked.borrow_mut().push(address.to_string());
            match address.is_ipv6() {
                true => Err(io::Error::from_raw_os_error(code)),
                false => Ok(()),
            }
        });
        (bound.map_err(|error| error.raw_os_error()), asked.into_inner())
    };
    for code in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
        let expected = ["[::]:15014", "0.0.0.0:15014"].map(str::to_owned).to_vec();
        assert_eq!(asked("[::]:15014", code), (Ok(()), expected));
    }
    // What somebody asked for by name is not replaced, and other errors are told.
    for (wanted, code) in [
        ("[::1]:15014", libc::EAFNOSUPPORT),
        ("[::]:15014", libc::EADDRINUSE),
    ] {
        assert_eq!(asked(wanted, code), (Err(Some(code)), vec![wanted.to_owned()]));
    }
}

/// Also where the node's settings say that IPv6 sockets are for IPv6 alone.
#[tokio::test]
async fn listens_here_for_both_families() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let listener = namespace
        .enter(|| {
            std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
            listen_here(address("[::]:15014"), false)
        })
        .unwrap()
        .unwrap();
    for destination in ["127.0.0.1:15014", "[::1]:15014"] {
        let options = ConnectOptions::default();
        let (client, server) = within(async {
            tokio::join!(
                connect(&namespace, &options, address(destination)),
                listener.accept()
            )
        })
        .await;
        assert_eq!(local_address(&server.unwrap().0).unwrap(), address(destination));
        client.unwrap();
    }
    // Another may share the port only where both say so.
    let taken = namespace
        .enter(|| listen_here(address("[::]:15014"), true))
        .unwrap();
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}
