//! Who is who: certificates that must not be believed, on either side of a tunnel, each with its reason in log and
//! metric; and what a tunnel's server answers. The peers that lie are the test's own.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use tests::manifests::{join, namespace, service, sleeper};
use tests::{
    Behaviour, Claims, Credentials, HBONE_PORT, HboneClient, Impostor, Lab, Place, Pod, Responder, Seen,
    Signer, ask, eventually, require_root,
};

const SOON: Duration = Duration::from_secs(5);
const SERVER: &str = "spiffe://cluster.local/ns/mesh/sa/server";

#[test]
fn clients_that_prove_nothing_are_refused_each_with_its_reason() {
    if !require_root() {
        return;
    }
    let (lab, [server, .., caller]) = mesh();
    let responder = Responder::start(&server, 7001);
    let (signer, stranger) = (Signer::of_lab(&lab), Signer::stranger());
    let good = Claims::of("mesh", "client");
    let foreign = "spiffe://example.org/ns/mesh/sa/client";
    let of = |uris: &[&str]| Some(signer.sign(&Claims::uris(uris)));
    let server_only = good.clone().only_for(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let clients: Vec<(&str, &str, Option<Credentials>)> = vec![
        ("no_certificate", "showed no certificate", None),
        (
            "untrusted_issuer",
            "authority we do not trust",
            Some(stranger.sign(&good)),
        ),
        (
            "certificate_expired",
            "expired at",
            Some(signer.sign(&good.clone().expired())),
        ),
        (
            "certificate_not_yet_valid",
            "not valid before",
            Some(signer.sign(&good.clone().early())),
        ),
        ("wrong_trust_domain", foreign, of(&[foreign])),
        (
            "several_identities",
            "2 URI names",
            of(&[SERVER, "spiffe://cluster.local/ns/mesh/sa/client"]),
        ),
        ("no_identity", "names no SPIFFE identity", of(&[])),
        (
            "malformed_identity",
            "https://cluster.local/ns/mesh/sa/client",
            of(&["https://cluster.local/ns/mesh/sa/client"]),
        ),
        (
            "wrong_purpose",
            "extended key usage",
            Some(signer.sign(&server_only)),
        ),
    ];
    for (reason, words, shown) in &clients {
        expect_refusal(&lab, &server, reason, words, || {
            let tunnel = HboneClient::open(&caller, server.at(HBONE_PORT), shown.as_ref(), SERVER);
            let error = tunnel
                .err()
                .unwrap_or_else(|| panic!("{reason}: the tunnel was accepted"));
            println!("{reason}: the client sees {error}");
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::TimedOut,
                "{reason}: the client hears nothing"
            );
        });
    }
    expect_refusal(&lab, &server, "not_tls", "does not speak TLS", || {
        let mut plain = caller.connect(server.at(HBONE_PORT)).unwrap();
        let request = format!("CONNECT {} HTTP/1.1\r\n\r\n", server.at(7001));
        plain.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = plain.read_to_end(&mut answer);
        assert!(
            !answer.starts_with(b"HTTP"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    });
    assert_eq!(
        responder.accepted(),
        0,
        "connections that reached the application"
    );

    // All of that was refused for its own fault: the same client with a good certificate is served.
    let tunnel =
        HboneClient::open(&caller, server.at(HBONE_PORT), Some(&signer.sign(&good)), SERVER).unwrap();
    assert!(tunnel.server_is_expected, "the server shows its own identity");
    assert_eq!(tunnel.connect(&server.at(7001).to_string()).status, 200);
    eventually("the application is reached", SOON, || responder.accepted() == 1);
}

#[test]
fn servers_that_are_somebody_else_are_refused_each_with_its_reason() {
    if !require_root() {
        return;
    }
    let (lab, [server, client, ..]) = mesh();
    let (signer, stranger) = (Signer::of_lab(&lab), Signer::stranger());
    let good = Claims::of("mesh", "server");
    let tls = |credentials| Behaviour::Tls(credentials, vec!["h2"], 200);
    let other = "spiffe://cluster.local/ns/mesh/sa/client";
    let foreign = "spiffe://example.org/ns/mesh/sa/server";
    let both = Claims::uris(&[SERVER, other]);
    let client_only = good.clone().only_for(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let impostors = vec![
        ("wrong_identity", other, tls(signer.sign(&Claims::uris(&[other])))),
        (
            "untrusted_issuer",
            "authority we do not trust",
            tls(stranger.sign(&good)),
        ),
        (
            "certificate_expired",
            "expired at",
            tls(signer.sign(&good.clone().expired())),
        ),
        (
            "certificate_not_yet_valid",
            "not valid before",
            tls(signer.sign(&good.clone().early())),
        ),
        (
            "wrong_trust_domain",
            foreign,
            tls(signer.sign(&Claims::uris(&[foreign]))),
        ),
        ("several_identities", "2 URI names", tls(signer.sign(&both))),
        (
            "no_identity",
            "names no SPIFFE identity",
            tls(signer.sign(&Claims::uris(&[]))),
        ),
        (
            "wrong_purpose",
            "extended key usage",
            tls(signer.sign(&client_only)),
        ),
        ("alpn", "h2", Behaviour::Tls(signer.sign(&good), vec![], 200)),
        (
            "not_tls",
            "does not speak TLS",
            Behaviour::Plaintext(b"HTTP/1.1 200 OK\r\n\r\n"),
        ),
    ];
    for (reason, words, behaviour) in impostors {
        let failures = || {
            let labels = [("reporter", "source"), ("reason", reason)];
            lab.metric(&client.node, "ztunnel_handshake_failures_total", &labels)
        };
        let (before, log) = (failures(), log_lines(&lab, &client.node));
        let impostor = Impostor::start(&server, behaviour);
        let answer = ask(&client, server.at(7001));
        assert!(answer.is_err(), "{reason}: answered by {answer:?}");
        let Seen {
            connections,
            requests,
            bytes,
            ..
        } = impostor.seen();
        assert!(connections > 0, "{reason}: the proxy has not called the impostor");
        assert!(
            requests.is_empty() && bytes == 0,
            "{reason}: the impostor was told {requests:?}"
        );
        eventually(&format!("{reason} is counted"), SOON, || failures() > before);
        let address = server.at(7001).to_string();
        expect_log(
            &lab,
            &client.node,
            log,
            &[reason, words, "TLS_FAILURE", "outbound", &address],
        );
        if reason == "wrong_identity" {
            // It also says who was expected.
            expect_log(&lab, &client.node, log, &[reason, &format!("expected {SERVER}")]);
        }
    }

    // The proof that an impostor would have been talked to, had it been right: one with the right identity is.
    let impostor = Impostor::start(&server, tls(signer.sign(&good)));
    let mut stream = client.connect(server.at(7001)).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
    let (method, authority, headers) = impostor.seen().requests.remove(0);
    assert_eq!(
        (method.as_str(), authority),
        ("CONNECT", server.at(7001).to_string())
    );
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        header("baggage"),
        "k8s.cluster.name=Kubernetes,k8s.namespace.name=mesh,k8s.pod.name=client,service.name=client,service.version=latest"
    );
    assert_eq!(
        header("forwarded"),
        format!("for=\"{}\"", stream.local_addr().unwrap())
    );
    let trace = header("traceparent");
    assert!(
        trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-00"),
        "{trace}"
    );
    assert_eq!(headers.len(), 3, "other headers: {headers:?}");
    drop((impostor, stream));

    // Only 200 is yes: any other status ends the connection.
    for status in [201, 204, 400, 401, 404, 500, 503] {
        let _impostor = Impostor::start(&server, Behaviour::Tls(signer.sign(&good), vec!["h2"], status));
        // A tunnel to the impostor before may still be under way to its end.
        eventually("this impostor is asked", SOON, || {
            assert!(
                ask(&client, server.at(7001)).is_err(),
                "status {status} counts as a connection"
            );
            !_impostor.seen().requests.is_empty()
        });
    }

    // With the impostors gone, the real proxy is found again.
    let _responder = Responder::start(&server, 7001);
    eventually("the real one serves", SOON, || {
        ask(&client, server.at(7001)).is_ok()
    });
}

#[test]
fn a_tunnel_answers_as_the_protocol_says() {
    if !require_root() {
        return;
    }
    let (lab, [server, client, neighbour, caller]) = mesh();
    let responders = [8080, 7001].map(|port| Responder::start(&server, port));
    let other = Responder::start(&neighbour, 7001);
    let good = Signer::of_lab(&lab).sign(&Claims::of("mesh", "client"));
    let tunnel = HboneClient::open(&caller, server.at(HBONE_PORT), Some(&good), SERVER).unwrap();
    let status = |authority: &str| tunnel.connect(authority).status;
    let vip = |name| SocketAddr::new(lab.service_address("mesh", name), 80).to_string();

    let mut answer = tunnel.connect(&server.at(7001).to_string());
    assert_eq!(answer.status, 200);
    let baggage = answer.headers["baggage"].to_str().unwrap();
    for member in [
        "k8s.cluster.name=Kubernetes",
        "k8s.namespace.name=mesh",
        "k8s.pod.name=server",
        "service.name=server",
    ] {
        assert!(
            baggage.split(',').any(|found| found == member),
            "{member} in {baggage}"
        );
    }
    // The application sees the address of the tunnel's client.
    let reply = format!("server {}\n", caller.ip);
    let question = format!("{:<1$}", "who are you?", reply.len() - 1) + "\n";
    let said = tunnel.exchange(&mut answer, question.as_bytes()).unwrap();
    assert_eq!(String::from_utf8_lossy(&said), reply);

    // Host names: those of services that the pod is an endpoint of, by the service's port.
    let (before, mapped) = (responders[0].accepted(), "server.mesh.svc.cluster.local:80");
    assert_eq!(status(mapped), 200);
    eventually("it is the target port that is called", SOON, || {
        responders[0].accepted() == before + 1
    });
    assert_eq!(
        status("server.mesh.svc.cluster.local:81"),
        503,
        "a port that the service has not"
    );
    assert_eq!(
        status("neighbour.mesh.svc.cluster.local:80"),
        503,
        "a service of another pod"
    );
    assert_eq!(
        status("nobody.mesh.svc.cluster.local:80"),
        503,
        "a service that is not"
    );

    // Addresses: the pod's own alone.
    for foreign in [
        neighbour.at(7001),
        client.at(7001),
        "127.0.0.1:7001".parse().unwrap(),
    ] {
        assert_eq!(status(&foreign.to_string()), 400, "{foreign} is not this pod");
    }
    for service in ["server", "neighbour"] {
        assert_eq!(status(&vip(service)), 400, "the address of the service {service}");
    }
    assert_eq!(status(&server.ip.to_string()), 400, "an authority without a port");

    // Never back into the proxy.
    for port in [15001, 15006, 15008, 15053] {
        assert_eq!(
            status(&server.at(port).to_string()),
            503,
            "port {port} of the proxy"
        );
        assert_eq!(
            status(&format!("{}:{port}", "127.0.0.1")),
            400,
            "port {port} of the proxy on loopback"
        );
    }
    assert_eq!(status(&server.at(7999).to_string()), 503, "nobody listens there");

    for method in [http::Method::GET, http::Method::POST, http::Method::OPTIONS] {
        let answer = tunnel.request(method.clone(), &server.at(7001).to_string());
        assert_eq!(answer.status, 400, "{method}");
        assert!(
            !answer.headers.contains_key("baggage"),
            "a refusal describes nobody"
        );
    }
    assert_eq!(
        other.accepted(),
        0,
        "the neighbour was called through the wrong tunnel"
    );
    // None of that has hurt the tunnel.
    assert_eq!(status(&server.at(7001).to_string()), 200);

    // Who decides is the certificate, not the address it comes from.
    lab.apply(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: guard, namespace: mesh}\n\
         spec:\n  selector: {matchLabels: {app: server}}\n  action: ALLOW\n  rules:\n  \
         - from: [{source: {principals: [cluster.local/ns/mesh/sa/neighbour]}}]\n",
    );
    assert_eq!(
        status(&server.at(7001).to_string()),
        401,
        "an identity that policy does not let in"
    );
    let friend = Signer::of_lab(&lab).sign(&Claims::of("mesh", "neighbour"));
    let friend = HboneClient::open(&caller, server.at(HBONE_PORT), Some(&friend), SERVER).unwrap();
    assert_eq!(
        friend.connect(&server.at(7001).to_string()).status,
        200,
        "one that it does, from the same address"
    );
    let log = ["DENY", "spiffe://cluster.local/ns/mesh/sa/client", "mesh/guard"];
    expect_log(&lab, &server.node, 0, &log);
}

/// A tunnel proves one pod's identity and carries that pod's connections, also beside another pod of the same account
/// on the same node. Whoever it leads to sees them apart.
#[test]
fn pods_of_one_account_share_no_tunnel() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("mesh", true),
        sleeper("mesh", "server", "server", "node-b"),
        sleeper("mesh", "one", "client", "node-a"),
        sleeper("mesh", "two", "client", "node-a"),
    ]));
    let [server, one, two] = ["mesh/server", "mesh/one", "mesh/two"].map(|name| lab.pod(name));
    let shown = Signer::of_lab(&lab).sign(&Claims::of("mesh", "server"));
    let impostor = Impostor::start(&server, Behaviour::Tls(shown, vec!["h2"], 200));
    // In turns, and with each open while the next one is made, so that a tunnel of the other is always there.
    let mut open = Vec::new();
    for pod in [&one, &two].into_iter().cycle().take(6) {
        let mut stream = pod.connect(server.at(7001)).unwrap();
        tests::echo(&mut stream, b"over whose tunnel?").unwrap();
        open.push(stream);
    }
    let seen = impostor.seen();
    assert_eq!((seen.requests.len(), seen.tunnels.len()), (6, 6), "{seen:?}");
    for ((_, _, headers), tunnel) in seen.requests.iter().zip(&seen.tunnels) {
        let forwarded = headers["forwarded"].to_str().unwrap();
        let own = format!("for=\"{}:", tunnel.ip());
        assert!(
            forwarded.starts_with(&own),
            "the connection of {forwarded} came over the tunnel of {tunnel}"
        );
    }
    let mut tunnels = seen.tunnels;
    tunnels.sort_unstable();
    tunnels.dedup();
    let mut pods = [one.ip, two.ip];
    pods.sort_unstable();
    let ends: Vec<std::net::IpAddr> = tunnels.iter().map(|tunnel| tunnel.ip()).collect();
    assert_eq!(
        ends, pods,
        "one tunnel of each pod, and each for all of its connections"
    );
}

/// 200 means that the application has the connection, not that somebody will try.
#[test]
fn success_is_told_only_once_the_application_is_connected() {
    if !require_root() {
        return;
    }
    let (lab, [server, .., caller]) = mesh();
    let good = Signer::of_lab(&lab).sign(&Claims::of("mesh", "client"));
    let tunnel = HboneClient::open(&caller, server.at(HBONE_PORT), Some(&good), SERVER).unwrap();
    // A listener whose queue is full: the kernel answers no further SYN until somebody accepts.
    let listener = server.listen_on(server.at(7001), 0);
    let mut queued = Vec::new();
    while let Ok(stream) = server.connect_within(server.at(7001), Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 10, "the queue does not fill");
    }
    let pending = tunnel.begin(http::Method::CONNECT, &server.at(7001).to_string());
    thread::sleep(Duration::from_millis(700));
    assert!(
        !pending.is_finished(),
        "an answer before the application was connected"
    );
    accept_until(&listener, caller.ip);
    let answer = tunnel.finish(pending).unwrap();
    assert_eq!(answer.status, 200);
    drop(queued);
}

/// Accepts until somebody calls from this address.
fn accept_until(listener: &TcpListener, from: std::net::IpAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let (stream, caller) = listener.accept().unwrap();
        if caller.ip() == from {
            // Kept open until the test is over.
            std::mem::forget(stream);
            return;
        }
    }
    panic!("nobody calls from {from}");
}

/// Server (node-b), client (node-a) and neighbour (node-b) in the mesh, and a caller outside of it, whose
/// connections nobody captures.
fn mesh() -> (Lab, [Pod; 4]) {
    let lab = Lab::up(&join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "server", "server", "node-b"),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "neighbour", "neighbour", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
        service("mesh", "server", "server", 80, "8080"),
        service("mesh", "neighbour", "neighbour", 80, "7001"),
    ]));
    let pods = ["mesh/server", "mesh/client", "mesh/neighbour", "outside/caller"].map(|name| lab.pod(name));
    (lab, pods)
}

/// `act` fails one handshake at this pod's proxy, for this reason, which log and metric tell.
fn expect_refusal(lab: &Lab, pod: &Pod, reason: &str, words: &str, act: impl FnOnce()) {
    let failures = |labels: &[(&str, &str)]| {
        let mut all = vec![("reporter", "destination")];
        all.extend(labels);
        lab.metric(&pod.node, "ztunnel_handshake_failures_total", &all)
    };
    let (before, all_before) = (failures(&[("reason", reason)]), failures(&[]));
    let log = log_lines(lab, &pod.node);
    act();
    eventually(&format!("{reason} is counted"), SOON, || {
        failures(&[("reason", reason)]) == before + 1.0
    });
    assert_eq!(
        failures(&[]),
        all_before + 1.0,
        "{reason}: other failures were counted"
    );
    let name = format!("{}/{}", pod.namespace, pod.name);
    expect_log(lab, &pod.node, log, &[reason, words, &name]);
}

fn log_lines(lab: &Lab, node: &str) -> usize {
    lab.logs(&format!("ztunnel/{node}")).lines().count()
}

/// Behind that many lines, one of the proxy's log says all of this.
#[track_caller]
fn expect_log(lab: &Lab, node: &str, after: usize, words: &[&str]) {
    eventually(
        &format!("the log of {node}'s proxy says in one line {words:?}"),
        SOON,
        || {
            let log = lab.logs(&format!("ztunnel/{node}"));
            log.lines()
                .skip(after)
                .any(|line| words.iter().all(|word| line.contains(word)))
        },
    );
}
