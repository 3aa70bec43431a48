//! What the tests of this crate share.

use std::{net::IpAddr, time::Duration};

use crate::{Namespace, link::Netlink, process::Command};

/// Whether a test must be skipped, saying so.
pub(crate) fn needs_root() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        println!("skipped: needs root");
    }
    skipped
}

/// Two namespaces joined by a wire: 10.1.0.1 and fd00::1 on one side, 10.1.0.2 and fd00::2 on the other.
pub(crate) async fn joined() -> (Namespace, Namespace) {
    let near = Namespace::create().unwrap();
    let far = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&near).unwrap();
    let far_link = Netlink::in_namespace(&far).unwrap();
    link.veth("eth0", "eth0", &far).await.unwrap();
    for (link, v4, v6) in [(&link, "10.1.0.1", "fd00::1"), (&far_link, "10.1.0.2", "fd00::2")] {
        link.address("eth0", v4.parse::<IpAddr>().unwrap(), 24)
            .await
            .unwrap();
        link.address("eth0", v6.parse::<IpAddr>().unwrap(), 64)
            .await
            .unwrap();
        link.up("eth0").await.unwrap();
    }
    (near, far)
}

/// Runs a program in a namespace and returns what it wrote; it must succeed.
pub(crate) async fn run_in(namespace: &Namespace, program: &str, arguments: &[&str], stdin: &str) -> String {
    let command = Command::new(program).args(arguments).network(namespace);
    let output = command.run(stdin, Duration::from_secs(20)).await.unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        output.stderr
    );
    output.stdout
}
