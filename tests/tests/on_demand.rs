//! A proxy that asks for workloads and services when they are needed.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tests::manifests::{join, namespace, peer_authentication, server, service, sleeper};
use tests::{Capture, Lab, echo_once, eventually, require_root, serve_echo};

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_a_connection_needs_is_asked_for_and_nothing_goes_out_before_the_answer() {
    if !require_root() {
        return;
    }
    const MARKER: &[u8] = b"MARKER-that-must-never-be-on-the-wire-0123456789";
    let lab = Lab::up_with(
        &["--node-proxy-env", "node-a=XDS_ON_DEMAND=true"],
        &join([
            namespace("mesh", true),
            namespace("outside", false),
            sleeper("mesh", "client", "client", "node-a"),
            server("mesh", "web", "web", "node-b"),
            sleeper("mesh", "other", "other", "node-b"),
            sleeper("outside", "visitor", "visitor", "node-b"),
            service("mesh", "web", "web", 80, "8080"),
            peer_authentication("mesh", "default", "STRICT"),
        ]),
    );
    let (client, web) = (lab.pod("mesh/client"), lab.pod("mesh/web"));
    let visitor = lab.pod("outside/visitor");
    // Nobody has asked for the server on that node.
    let to = serve_echo(&web, PORT);
    let unknown = serve_echo(&lab.pod("mesh/other"), PORT);
    let capture = Capture::start(&lab.fabric(), "node-a", "tcp");
    // The very first connection waits for the answer and goes through a tunnel; plaintext would be refused.
    echo_once(&client, to, MARKER).unwrap();
    let vip = std::net::SocketAddr::new(lab.service_address("mesh", "web"), 80);
    let page = client.http_get(vip, "/").unwrap();
    assert_eq!(page.status, 200);
    let packets = capture.stop();
    for packet in packets.iter().filter(|packet| packet.has_address(web.ip)) {
        assert!(!packet.contains(MARKER), "plaintext on the wire: {packet:?}");
        assert!(packet.has_port(15008), "not a tunnel: {packet:?}");
    }
    // What does not exist for the mesh is asked for too, and then reached as it is.
    let plain = serve_echo(&visitor, PORT);
    echo_once(&client, plain, b"outside of the mesh").unwrap();

    // A control plane that does not answer: nothing unknown goes anywhere, what is known goes on.
    let cut = lab.ztctl(&["fault", "control-plane", "--partition"]);
    assert_eq!(cut.code, 0, "{}", cut.stderr);
    let capture = Capture::start(&lab.fabric(), "node-a", "tcp");
    assert!(
        echo_once(&client, unknown, MARKER).is_err(),
        "its place is not known"
    );
    echo_once(&client, to, b"known").unwrap();
    let packets = capture.stop();
    let sent = packets.iter().filter(|packet| packet.has_address(unknown.ip()));
    assert_eq!(sent.count(), 0, "something was sent before the answer");
    let mended = lab.ztctl(&["fault", "control-plane", "--clear"]);
    assert_eq!(mended.code, 0, "{}", mended.stderr);
    eventually("what was not known is reached", LIMIT, || {
        echo_once(&client, unknown, b"by a tunnel").is_ok()
    });
}
