//! Who may call whom: `PeerAuthentication` and `AuthorizationPolicy`, on new connections and on those that are open,
//! seen from the application that accepts or does not.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etherparse::TcpHeader;
use socket2::{Domain, Protocol, Socket, Type};
use tests::manifests::{join, namespace, peer_authentication, service, sleeper};
use tests::stamps::{AT_ONCE, Application, Flood, Held, Sender, exchange_from, exchange_stamp};
use tests::{Capture, Lab, Place, Pod, Responder, Transport, ask, eventually, require_root};

/// For log lines and counters, which promise no moment.
const SOON: Duration = Duration::from_secs(5);

/// Plaintext pours in from outside the mesh, on several ports and from both nodes. STRICT ends all of it at the moment
/// `apply` returns: connections from before enrolment, from after it, and new ones. What carries an identity goes on.
#[test]
fn strict_ends_all_plaintext_when_apply_returns() {
    const PORTS: [u16; 3] = [7001, 7002, 7003];
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", false),
        namespace("outside", false),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("shop", "client", "client", "node-a"),
        sleeper("outside", "far", "default", "node-a"),
        sleeper("outside", "near", "default", "node-b"),
        service("shop", "server", "server", 80, "7001"),
    ]));
    let [server, client] = ["shop/server", "shop/client"].map(|name| lab.pod(name));
    let outsiders = ["outside/far", "outside/near"].map(|name| lab.pod(name));
    let clock = Instant::now();
    let application = Application::start(&server, &PORTS);

    // Older than enrolment; it leaves them alone as long as plaintext is allowed.
    let mut held = Held::open_all("older than enrolment", &outsiders, &server, &PORTS, clock);
    lab.label(&["namespace/shop", "istio.io/dataplane-mode=ambient"]);
    for connection in &mut held {
        connection
            .exchange()
            .unwrap_or_else(|error| panic!("enrolment broke {connection}: {error}"));
    }
    let through_proxy = application.proxied(&server, || {
        held.extend(Held::open_all(
            "younger than enrolment",
            &outsiders,
            &server,
            &PORTS,
            clock,
        ));
    });
    assert_eq!(
        through_proxy,
        outsiders.len() * PORTS.len(),
        "what is younger than enrolment passes the proxy"
    );
    let mut inside = Held::open("within the mesh", &client, server.at(7001), clock);
    inside.exchange().unwrap();

    let mut targets: Vec<SocketAddr> = PORTS.map(|port| server.at(port)).into();
    targets.push(SocketAddr::new(lab.service_address("shop", "server"), 80));
    let flood = Flood::start(&outsiders, &targets, clock);
    eventually("the flood flows through everything", SOON, || {
        flood.all_have_been_served(10)
    });
    let capture = Capture::start(
        &server,
        "lo",
        "tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)",
    );
    for connection in &mut held {
        connection
            .exchange()
            .unwrap_or_else(|error| panic!("{connection}, while PERMISSIVE: {error}"));
    }

    lab.apply(&peer_authentication("shop", "default", "STRICT"));
    let (strict, strict_by_wall) = (clock.elapsed(), since_epoch());

    for connection in &mut held {
        connection.expect_end();
    }
    inside.exchange().unwrap();
    // The flood goes on against closed doors. There is no condition to wait for: nothing must happen.
    let tried = flood.tried();
    thread::sleep(Duration::from_millis(1500));
    assert!(flood.tried() > tried + 20, "the flood has dried up");
    assert_eq!(
        flood.served_of_those_begun_after(strict),
        0,
        "plaintext connections served under STRICT"
    );
    let late = application.newest_message(|stamp| stamp.from != Sender::Inside);
    assert!(
        late < strict,
        "plaintext was delivered that was sent {:?} after STRICT",
        late.saturating_sub(strict)
    );
    eventually(
        "the application sees all plaintext connections end",
        AT_ONCE,
        || application.open() == 1,
    );
    // The kernel's own word, free of how quickly the test's threads run.
    let accepted: Vec<_> = capture
        .stop()
        .into_iter()
        .filter(|packet| PORTS.contains(&packet.src.port()))
        .collect();
    assert!(
        accepted.len() > 10,
        "the capture saw {} connections to the application",
        accepted.len()
    );
    assert!(
        accepted
            .iter()
            .all(|packet| matches!(packet.transport, Transport::Tcp { syn: true, .. }))
    );
    let late: Vec<_> = accepted
        .iter()
        .filter(|packet| packet.time > strict_by_wall)
        .collect();
    assert!(
        late.is_empty(),
        "the application accepted under STRICT: {late:#?}"
    );
    inside.exchange().unwrap();
    assert!(
        Held::try_open("of a moment", &client, server.at(7002), clock).is_ok(),
        "a new connection with an identity"
    );

    lab.apply(&peer_authentication("shop", "default", "PERMISSIVE"));
    let permissive = clock.elapsed();
    eventually("the flood flows again", SOON, || {
        flood.served_of_those_begun_after(permissive) > 10
    });
}

/// The other order: STRICT is there first, and does nothing to a pod outside the mesh. Its plaintext connections end
/// when the pod enters.
#[test]
fn enrolment_under_strict_ends_older_plaintext() {
    const PORTS: [u16; 2] = [7001, 7002];
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", false),
        namespace("outside", false),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("outside", "far", "default", "node-a"),
        sleeper("outside", "near", "default", "node-b"),
        peer_authentication("shop", "default", "STRICT"),
    ]));
    let server = lab.pod("shop/server");
    let outsiders = ["outside/far", "outside/near"].map(|name| lab.pod(name));
    let clock = Instant::now();
    let application = Application::start(&server, &PORTS);
    let mut held = Held::open_all("older than enrolment", &outsiders, &server, &PORTS, clock);
    let flood = Flood::start(&outsiders, &PORTS.map(|port| server.at(port)), clock);
    eventually("the flood flows through everything", SOON, || {
        flood.all_have_been_served(10)
    });

    lab.label(&["namespace/shop", "istio.io/dataplane-mode=ambient"]);
    let enrolled = clock.elapsed();

    for connection in &mut held {
        connection.expect_end();
    }
    let tried = flood.tried();
    thread::sleep(Duration::from_millis(800));
    assert!(flood.tried() > tried + 20, "the flood has dried up");
    assert_eq!(
        flood.served_of_those_begun_after(enrolled),
        0,
        "plaintext connections served under STRICT"
    );
    let late = application.newest_message(|_| true);
    assert!(
        late < enrolled,
        "plaintext was delivered {:?} after enrolment",
        late.saturating_sub(enrolled)
    );
    eventually("the application sees all of them end", AT_ONCE, || {
        application.open() == 0
    });

    // Out of the mesh again, STRICT means nothing again.
    lab.label(&["namespace/shop", "istio.io/dataplane-mode-"]);
    let left = clock.elapsed();
    eventually("the flood flows again", SOON, || {
        flood.served_of_those_begun_after(left) > 10
    });
}

/// Ways around the proxy that a client might try, with what it sent before the pod was in the mesh, or before its first
/// packet: the kernel of the pod must not mistake what follows for something older.
#[test]
fn nothing_that_was_sent_before_opens_a_way_around_the_proxy() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", false),
        namespace("outside", false),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
        sleeper("outside", "slow", "default", "node-a"),
        peer_authentication("shop", "default", "STRICT"),
    ]));
    let [server, caller, slow] = ["shop/server", "outside/caller", "outside/slow"].map(|name| lab.pod(name));
    let clock = Instant::now();
    let application = Application::start(&server, &[7001]);
    let mut old = Held::open("older than enrolment", &caller, server.at(7001), clock);
    // A handshake of which only the last packet is missing.
    let silence = [
        "OUTPUT",
        "-p",
        "tcp",
        "--dport",
        "7001",
        "--tcp-flags",
        "SYN,RST,ACK",
        "ACK",
        "-j",
        "DROP",
    ];
    let firewall = |verb| {
        let all: Vec<&str> = ["iptables", verb].into_iter().chain(silence).collect();
        slow.run(&all).expect_code(0);
    };
    firewall("-A");
    let half_open = slow.connect(server.at(7001)).unwrap();
    assert_eq!(application.accepted(), 1, "the handshake is not done");

    lab.label(&["namespace/shop", "istio.io/dataplane-mode=ambient"]);
    old.expect_end();
    firewall("-D");
    let completed = exchange_stamp(&half_open, Sender::Outside, clock);
    assert!(
        completed.is_err(),
        "a handshake begun before enrolment was completed after it"
    );

    // The same two ports once more, while the kernel still remembers the connection that was ended.
    let port = old.local_port();
    drop(old);
    for round in 0..3 {
        let again = exchange_from(&caller, port, server.at(7001), clock);
        assert!(
            again.is_err(),
            "round {round}: served from the port of an ended connection"
        );
    }
    // A packet from the middle of a connection that never was, and then its beginning.
    for (port, flags) in [
        (41_001, Stray::Ack),
        (41_002, Stray::FinAck),
        (41_003, Stray::SynAck),
        (41_004, Stray::Rst),
    ] {
        for _ in 0..3 {
            send_stray(&caller, port, server.at(7001), flags);
        }
        let around = exchange_from(&caller, port, server.at(7001), clock);
        assert!(around.is_err(), "served after a stray {flags:?}");
    }
    assert_eq!(
        application.accepted(),
        1,
        "connections that the application has accepted"
    );
    assert_eq!(application.open(), 0, "connections that the application has open");
}

#[test]
fn strict_and_permissive_by_namespace_workload_and_port() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", true),
        namespace("other", true),
        namespace("outside", false),
        sleeper("shop", "one", "one", "node-b"),
        sleeper("shop", "two", "two", "node-a"),
        sleeper("other", "three", "three", "node-b"),
        sleeper("other", "client", "client", "node-a"),
        sleeper("outside", "caller", "default", "node-a"),
    ]));
    let doors = Doors::open(&lab, &["shop/one", "shop/two", "other/three"], &[7001, 7002]);
    let [client, caller] = ["other/client", "outside/caller"].map(|name| lab.pod(name));
    let expect = |what: &str, open: [[bool; 2]; 3]| {
        assert_eq!(
            doors.tried_by(&caller),
            open.as_flattened(),
            "{what}: one, two, three at two ports each"
        );
        assert_eq!(
            doors.tried_by(&client),
            [true; 6],
            "{what}: with an identity, all doors are open"
        );
    };
    let (yes, no) = ([true; 2], [false; 2]);

    expect("without anything", [yes, yes, yes]);
    lab.apply(&peer_authentication("shop", "default", "STRICT"));
    expect("STRICT for the namespace", [no, no, yes]);
    lab.apply(&mtls_of("shop", "one", "one", "PERMISSIVE", &[]));
    expect("PERMISSIVE for one of its workloads", [yes, no, yes]);
    lab.apply(&mtls_of("shop", "two", "two", "STRICT", &[(7001, "PERMISSIVE")]));
    expect("PERMISSIVE for one port of the other", [yes, [true, false], yes]);
    lab.apply(&mtls_of("shop", "one", "one", "PERMISSIVE", &[(7002, "STRICT")]));
    expect(
        "STRICT for one port of the first",
        [[true, false], [true, false], yes],
    );
    lab.apply(&mtls_of("other", "three", "three", "STRICT", &[]));
    expect(
        "STRICT for a workload of another namespace",
        [[true, false], [true, false], no],
    );
    lab.delete(&["peerauthentication/one", "-n", "shop"]);
    expect("the first falls back to its namespace", [no, [true, false], no]);
    lab.delete(&["peerauthentication/default", "-n", "shop"]);
    expect("and its namespace to the default", [yes, [true, false], no]);
    lab.delete(&["peerauthentication/two", "-n", "shop"]);
    lab.delete(&["peerauthentication/three", "-n", "other"]);
    // The root namespace speaks for the whole mesh.
    lab.apply(&peer_authentication("istio-system", "default", "STRICT"));
    expect("STRICT for the mesh", [no, no, no]);
    lab.apply(&peer_authentication("shop", "default", "PERMISSIVE"));
    expect("a namespace that differs from the mesh", [yes, yes, no]);

    let words = [
        "mtls_required",
        "DENY",
        &caller.ip.to_string(),
        "PeerAuthentication requires mTLS",
    ];
    expect_log(&lab, "node-b", &words);
}

#[test]
fn an_allow_policy_lets_one_identity_in_and_says_whom_it_refused() {
    if !require_root() {
        return;
    }
    let (lab, [client, intruder, server, outsider]) = quartet();
    let responder = Responder::start(&server, 7001);
    for caller in [&client, &intruder, &outsider] {
        ask(caller, server.at(7001))
            .unwrap_or_else(|error| panic!("{} without a policy: {error}", caller.name));
    }
    lab.apply(&policy("allow-client", "ALLOW", &from_principal("client")));
    let accepted = responder.accepted();
    ask(&client, server.at(7001)).unwrap();
    for caller in [&intruder, &outsider] {
        let refused = ask(caller, server.at(7001));
        assert!(refused.is_err(), "{} was let in: {refused:?}", caller.name);
    }
    assert_eq!(responder.accepted(), accepted + 1, "what reaches the application");

    // Who, whom, by which policy, on the destination's node.
    let identity = "spiffe://cluster.local/ns/shop/sa/intruder";
    let by = "shop/allow-client";
    expect_log(
        &lab,
        "node-b",
        &["DENY", identity, by, "shop", &server.at(7001).to_string()],
    );
    expect_log(
        &lab,
        "node-b",
        &["DENY", "outsider", &outsider.ip.to_string(), by],
    );
    let denied = |labels: &[(&str, &str)]| {
        let mut all = vec![
            ("reporter", "destination"),
            ("response_flags", "DENY"),
            ("destination_workload", "server"),
        ];
        all.extend(labels);
        lab.metric("node-b", "istio_tcp_connections_failed_total", &all)
    };
    let by_identity = [
        ("source_principal", identity),
        ("connection_security_policy", "mutual_tls"),
    ];
    assert_eq!(denied(&by_identity), 1.0, "refusals of the intruder's identity");
    let by_nobody = [
        ("source_principal", "unknown"),
        ("connection_security_policy", "unknown"),
    ];
    assert_eq!(denied(&by_nobody), 1.0, "refusals of plaintext");
    let reason = [("reporter", "destination"), ("reason", "no_allow_policy_matched")];
    assert_eq!(
        lab.metric("node-b", "ztunnel_refusals_total", &reason),
        2.0,
        "refusals by reason"
    );
    // The caller's side knows that it was policy, and where to look.
    expect_log(&lab, "node-a", &["denied_by_peer", identity, "401"]);

    lab.delete(&["authorizationpolicy/allow-client", "-n", "shop"]);
    for caller in [&client, &intruder, &outsider] {
        ask(caller, server.at(7001))
            .unwrap_or_else(|error| panic!("{} after the policy: {error}", caller.name));
    }
}

#[test]
fn a_deny_policy_refuses_by_identity_address_and_port() {
    if !require_root() {
        return;
    }
    let (lab, [client, intruder, server, outsider]) = quartet();
    let _responders = [7001, 7002].map(|port| Responder::start(&server, port));
    let passes =
        |port: u16| [&client, &intruder, &outsider].map(|caller| ask(caller, server.at(port)).is_ok());

    lab.apply(&policy("deny", "DENY", &from_principal("intruder")));
    assert_eq!(
        passes(7001),
        [true, false, true],
        "DENY by identity: client, intruder, outsider"
    );
    expect_log(
        &lab,
        "node-b",
        &[
            "spiffe://cluster.local/ns/shop/sa/intruder",
            "denied by rule 0 of DENY policy shop/deny",
        ],
    );
    lab.apply(&policy(
        "deny",
        "DENY",
        "- from: [{source: {namespaces: [shop]}}]",
    ));
    assert_eq!(passes(7001), [false, false, true], "DENY by namespace");
    let address = format!("- from: [{{source: {{ipBlocks: [{}]}}}}]", outsider.ip);
    lab.apply(&policy("deny", "DENY", &address));
    assert_eq!(passes(7001), [true, true, false], "DENY by address");
    let address = format!("- from: [{{source: {{ipBlocks: [{}/32]}}}}]", client.ip);
    lab.apply(&policy("deny", "DENY", &address));
    assert_eq!(
        passes(7001),
        [false, true, true],
        "DENY by the address of a caller with an identity"
    );
    lab.apply(&policy(
        "deny",
        "DENY",
        "- to: [{operation: {ports: [\"7002\"]}}]",
    ));
    assert_eq!(passes(7001), [true; 3], "DENY of another port");
    assert_eq!(passes(7002), [false; 3], "DENY of this port");
    // DENY goes before ALLOW.
    lab.apply(&policy("allow", "ALLOW", &from_principal("client")));
    assert_eq!(passes(7002), [false; 3], "DENY and ALLOW of one port");
    assert_eq!(passes(7001), [true, false, false], "ALLOW of the rest");
    // Of another workload, nothing.
    lab.apply(&policy("deny", "DENY", &from_principal("client")).replace("app: server", "app: nobody"));
    assert_eq!(passes(7002), [true, false, false], "DENY for somebody else");
}

#[test]
fn a_change_closes_the_open_connections_that_are_no_longer_allowed_and_only_those() {
    if !require_root() {
        return;
    }
    let (lab, [client, intruder, server, outsider]) = quartet();
    let clock = Instant::now();
    let application = Application::start(&server, &[7001, 7002]);
    let open = |who: &Pod, port| Held::try_open("of old", who, server.at(port), clock);
    let mut of_client = open(&client, 7001).unwrap();
    let mut others = [open(&intruder, 7001).unwrap(), open(&outsider, 7001).unwrap()];
    eventually("all are open", SOON, || application.open() == 3);

    lab.apply(&policy("guard", "ALLOW", &from_principal("client")));
    others.iter_mut().for_each(Held::expect_end);
    of_client.exchange().unwrap();
    eventually("the application sees two ends", AT_ONCE, || {
        application.open() == 1
    });
    let identity = "spiffe://cluster.local/ns/shop/sa/intruder";
    expect_log(
        &lab,
        "node-b",
        &["policy_changed", "DENY", identity, "shop/guard"],
    );
    expect_log(
        &lab,
        "node-b",
        &["policy_changed", "DENY", &outsider.ip.to_string(), "shop/guard"],
    );
    let closed = || {
        let labels = [("reporter", "destination"), ("reason", "policy_changed")];
        lab.metric("node-b", "ztunnel_connections_closed_early_total", &labels)
    };
    assert_eq!(closed(), 2.0, "connections that the change closed");
    assert!(open(&intruder, 7001).is_err(), "the intruder is let in again");

    // The other way round, by changing the policy in place.
    lab.apply(&policy("guard", "ALLOW", &from_principal("intruder")));
    of_client.expect_end();
    let mut of_intruder = open(&intruder, 7001).unwrap();
    assert!(open(&client, 7001).is_err(), "the client is let in again");

    // By port: two connections of one caller, of which one ends.
    let mut elsewhere = open(&intruder, 7002).unwrap();
    lab.apply(&policy(
        "ports",
        "DENY",
        "- to: [{operation: {ports: [\"7002\"]}}]",
    ));
    elsewhere.expect_end();
    of_intruder.exchange().unwrap();

    // Without policies, new connections of all again; nothing that is open is touched.
    lab.delete(&["authorizationpolicy/guard", "-n", "shop"]);
    lab.delete(&["authorizationpolicy/ports", "-n", "shop"]);
    of_intruder.exchange().unwrap();
    for (caller, port) in [(&client, 7001), (&outsider, 7001), (&intruder, 7002)] {
        open(caller, port).unwrap_or_else(|error| panic!("{} to {port}: {error}", caller.name));
    }
}

/// Not the policy changes here but the workload: a label moves it into a policy's reach.
#[test]
fn a_label_that_brings_a_workload_under_a_policy_closes_too() {
    if !require_root() {
        return;
    }
    let (lab, [client, intruder, server, _]) = quartet();
    let clock = Instant::now();
    let _application = Application::start(&server, &[7001]);
    lab.apply(
        &policy("guard", "ALLOW", &from_principal("client")).replace("app: server", "guarded: \"true\""),
    );
    let mut of_client = Held::open("client", &client, server.at(7001), clock);
    let mut of_intruder = Held::open("intruder", &intruder, server.at(7001), clock);
    of_client.exchange().unwrap();
    of_intruder.exchange().unwrap();

    lab.label(&["pod/server", "guarded=true", "-n", "shop"]);
    of_intruder.expect_end();
    of_client.exchange().unwrap();
    assert!(
        Held::try_open("of a moment", &intruder, server.at(7001), clock).is_err(),
        "the intruder is let in again"
    );
    lab.label(&["pod/server", "guarded-", "-n", "shop"]);
    Held::try_open("of a moment", &intruder, server.at(7001), clock).unwrap();
}

/// Callers in the mesh on node-a, the server on node-b, and one outside.
fn quartet() -> (Lab, [Pod; 4]) {
    let lab = Lab::up(&join([
        namespace("shop", true),
        namespace("outside", false),
        sleeper("shop", "client", "client", "node-a"),
        sleeper("shop", "intruder", "intruder", "node-a"),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("outside", "outsider", "default", "node-a"),
    ]));
    let pods = ["shop/client", "shop/intruder", "shop/server", "outside/outsider"].map(|name| lab.pod(name));
    (lab, pods)
}

fn policy(name: &str, action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n  action: {action}\n  rules:\n  {rule}\n"
    )
}

fn from_principal(account: &str) -> String {
    format!("- from: [{{source: {{principals: [cluster.local/ns/shop/sa/{account}]}}}}]")
}

/// `PeerAuthentication` of the pods with this label `app`.
fn mtls_of(namespace: &str, name: &str, app: &str, mode: &str, ports: &[(u16, &str)]) -> String {
    let ports: String = ports
        .iter()
        .map(|(port, mode)| format!("    {port}: {{mode: {mode}}}\n"))
        .collect();
    let port_level = if ports.is_empty() {
        String::new()
    } else {
        format!("  portLevelMtls:\n{ports}")
    };
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  mtls: {{mode: {mode}}}\n{port_level}"
    )
}

/// A packet that begins nothing.
#[derive(Clone, Copy, Debug)]
enum Stray {
    Ack,
    FinAck,
    SynAck,
    Rst,
}

fn send_stray(from: &Pod, port: u16, to: SocketAddr, stray: Stray) {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip, to.ip()) else {
        panic!("IPv4 only");
    };
    let mut header = TcpHeader::new(port, to.port(), 1000, 1024);
    header.acknowledgment_number = 2000;
    header.ack = !matches!(stray, Stray::Rst);
    header.fin = matches!(stray, Stray::FinAck);
    header.syn = matches!(stray, Stray::SynAck);
    header.rst = matches!(stray, Stray::Rst);
    header.checksum = header
        .calc_checksum_ipv4_raw(source.octets(), destination.octets(), &[])
        .unwrap();
    let send = || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.send_to(&header.to_bytes(), &SocketAddr::new(to.ip(), 0).into())
    };
    from.inside(send).unwrap();
}

/// A line of the proxy's log that says all of this.
#[track_caller]
fn expect_log(lab: &Lab, node: &str, words: &[&str]) {
    eventually(
        &format!("the log of {node}'s proxy says in one line {words:?}"),
        SOON,
        || {
            let log = lab.logs(&format!("ztunnel/{node}"));
            log.lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        },
    );
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Responders at several ports of several pods.
struct Doors(Vec<(SocketAddr, Responder)>);

impl Doors {
    fn open(lab: &Lab, pods: &[&str], ports: &[u16]) -> Doors {
        let pods: Vec<Pod> = pods.iter().map(|name| lab.pod(name)).collect();
        let doors = pods.iter().flat_map(|pod| {
            ports
                .iter()
                .map(|port| (pod.at(*port), Responder::start(pod, *port)))
        });
        Doors(doors.collect())
    }

    /// Which of them let the caller in. One that does not must not have accepted it either.
    fn tried_by(&self, caller: &Pod) -> Vec<bool> {
        let enters = |(address, responder): &(SocketAddr, Responder)| {
            let before = responder.accepted();
            let inside = ask(caller, *address).is_ok();
            assert_eq!(
                responder.accepted() - before,
                usize::from(inside),
                "{} at {address}",
                caller.name
            );
            inside
        };
        self.0.iter().map(enters).collect()
    }
}
