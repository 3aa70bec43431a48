//! A proxy that starts while the control plane is away: it decides by what it has on disk.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tests::manifests::{join, namespace, peer_authentication, sleeper};
use tests::{Lab, echo_once, eventually, http_get, require_root, serve_echo};

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(60);

/// What the readiness page of a node's proxy says.
fn readiness(lab: &Lab, node: &str) -> String {
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, 15021));
    let answer = http_get(&lab.node(node), page, "/healthz/ready");
    answer.map_or_else(
        |error| error.to_string(),
        |answer| format!("{} {}", answer.status, answer.body),
    )
}

fn contains(file: &Path, text: &str) -> bool {
    let bytes = fs::read(file).unwrap_or_default();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_proxy_that_starts_while_the_control_plane_is_away_enforces_what_it_has_on_disk() {
    if !require_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("state");
    let setting = format!("node-b=ZTUNNEL_STATE_DIR={}", directory.display());
    let lab = Lab::up_with(
        &["--node-proxy-env", &setting],
        &join([
            namespace("mesh", true),
            namespace("open", true),
            namespace("outside", false),
            sleeper("mesh", "client", "client", "node-a"),
            sleeper("mesh", "strict", "strict", "node-b"),
            sleeper("open", "permissive", "permissive", "node-b"),
            sleeper("outside", "visitor", "visitor", "node-a"),
        ]),
    );
    let (client, visitor) = (lab.pod("mesh/client"), lab.pod("outside/visitor"));
    let strict = serve_echo(&lab.pod("mesh/strict"), PORT);
    let permissive = serve_echo(&lab.pod("open/permissive"), PORT);
    echo_once(&visitor, strict, b"not strict yet").unwrap();
    lab.apply(&peer_authentication("mesh", "default", "STRICT"));
    assert!(echo_once(&visitor, strict, b"plaintext").is_err());
    echo_once(&client, strict, b"through a tunnel").unwrap();
    let file = directory.join("mesh-state");
    eventually("the policy is on disk", LIMIT, || {
        contains(&file, "strict") && contains(&file, "open/permissive")
    });

    let cut = lab.ztctl(&["fault", "control-plane", "--partition"]);
    assert_eq!(cut.code, 0, "{}", cut.stderr);
    lab.restart("ztunnel/node-b", true);
    eventually("the state from disk is in force", LIMIT, || {
        let page = readiness(&lab, "node-b");
        page.starts_with("200 ") && page.contains("from disk")
    });
    // It serves who needs no certificate, and knows who may not be served so.
    eventually("plaintext is served where it is allowed", LIMIT, || {
        echo_once(&visitor, permissive, b"plaintext").is_ok()
    });
    for _ in 0..20 {
        assert!(
            echo_once(&visitor, strict, b"plaintext").is_err(),
            "the policy on disk holds"
        );
    }
    assert!(lab.logs("ztunnel/node-b").contains("from disk are in force"));

    let mended = lab.ztctl(&["fault", "control-plane", "--clear"]);
    assert_eq!(mended.code, 0, "{}", mended.stderr);
    eventually("tunnels are served again", LIMIT, || {
        echo_once(&client, strict, b"through a tunnel").is_ok()
    });
    eventually("the control plane is followed again", LIMIT, || {
        !readiness(&lab, "node-b").contains("from disk")
    });
    assert!(echo_once(&visitor, strict, b"plaintext").is_err());
    lab.apply(&peer_authentication("mesh", "default", "PERMISSIVE"));
    echo_once(&visitor, strict, b"plaintext again").unwrap();
}
