//! Node proxies with the capabilities that the chart gives them, and no others, do all of their work.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::manifests::{join, namespace, peer_authentication, server, sleeper};
use tests::{Lab, binary, echo_once, require_root, serve_echo};

const PORT: u16 = 7000;

#[test]
fn proxies_with_the_capabilities_of_the_chart_do_all_of_their_work() {
    if !require_root() {
        return;
    }
    let added = capabilities();
    let reserved = tempfile::tempdir().unwrap();
    let wrapper = reserved.path().join("ztunnel");
    let kept: String = added
        .iter()
        .map(|name| format!(",+{}", name.to_ascii_lowercase()))
        .collect();
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all{kept} --inh-caps=-all --no-new-privs {} \"$@\"\n",
        binary("ztunnel").display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let proxies = ["node-a", "node-b"].map(|node| format!("{node}={}", wrapper.display()));
    let lab = Lab::up_with(
        &["--node-proxy", &proxies[0], "--node-proxy", &proxies[1]],
        &join([
            namespace("mesh", true),
            namespace("outside", false),
            sleeper("mesh", "client", "client", "node-a"),
            server("mesh", "web", "web", "node-b"),
            sleeper("outside", "visitor", "visitor", "node-a"),
        ]),
    );
    let pid = lab.status()["nodes"][0]["ztunnel"]["pid"].as_u64();
    let status =
        fs::read_to_string(format!("/proc/{}/status", pid.expect("the proxy's process id"))).unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    let effective = u64::from_str_radix(effective, 16).unwrap();
    assert_eq!(effective.count_ones() as usize, added.len(), "{status}");

    let (client, visitor) = (lab.pod("mesh/client"), lab.pod("outside/visitor"));
    let web = serve_echo(&lab.pod("mesh/web"), PORT);
    echo_once(&client, web, b"through a tunnel").unwrap();
    echo_once(&visitor, web, b"in plaintext").unwrap();
    let strict = lab.file("strict.yaml", &peer_authentication("mesh", "default", "STRICT"));
    let applied = lab.ztctl(&["apply", "-f", &strict]);
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    assert!(echo_once(&visitor, web, b"in plaintext").is_err());
    echo_once(&client, web, b"through a tunnel").unwrap();
    // Another one takes over on the same ports.
    let replaced = lab.ztctl(&["restart", "ztunnel/node-b", "--surge"]);
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);
    echo_once(&client, web, b"after an upgrade").unwrap();
}

/// What the chart adds for ztunnel.
fn capabilities() -> Vec<String> {
    let rendered = charts::rendered("defaults").unwrap();
    let container = rendered
        .iter()
        .map(|object| &object["spec"]["template"]["spec"]["containers"][0])
        .find(|container| container["name"] == "ztunnel")
        .unwrap();
    let added = container["securityContext"]["capabilities"]["add"]
        .as_array()
        .unwrap();
    added
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
