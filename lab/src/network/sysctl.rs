//! Kernel settings of a new namespace. They are made before any link, so that links are born with them.

use sys::Namespace;
use sys::link::sysctl;

use crate::error::{LabError, other};

/// What a namespace is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Passes on packets of others.
    Router,
    /// Has only its own.
    Host,
}

/// A new namespace may inherit the host's IPv4 settings, so nothing is taken for granted.
pub(super) fn apply(namespace: &Namespace, ipv6: bool, role: Role) -> Result<(), LabError> {
    let router = role == Role::Router;
    // Switching forwarding resets other settings: it comes first.
    let mut settings = vec![("ipv4.ip_forward", if router { "1" } else { "0" })];
    if ipv6 {
        settings.push(("ipv6.conf.all.forwarding", if router { "1" } else { "0" }));
    }
    for (all, default, value) in [
        // Pods are reached by their node also from the same node: no "better way" is to be told.
        (
            "ipv4.conf.all.send_redirects",
            "ipv4.conf.default.send_redirects",
            "0",
        ),
        (
            "ipv4.conf.all.accept_redirects",
            "ipv4.conf.default.accept_redirects",
            "0",
        ),
        // Transparent proxies keep foreign source addresses.
        ("ipv4.conf.all.rp_filter", "ipv4.conf.default.rp_filter", "0"),
        // A new pod tells its neighbours who has its address now.
        ("ipv4.conf.all.arp_notify", "ipv4.conf.default.arp_notify", "1"),
        (
            "ipv6.conf.all.disable_ipv6",
            "ipv6.conf.default.disable_ipv6",
            if ipv6 { "0" } else { "1" },
        ),
        // Addresses are unique by construction; waiting to find out would cost seconds.
        ("ipv6.conf.all.accept_dad", "ipv6.conf.default.accept_dad", "0"),
        ("ipv6.conf.all.accept_ra", "ipv6.conf.default.accept_ra", "0"),
    ] {
        settings.push((all, value));
        settings.push((default, value));
    }
    // Where the kernel has this, frames inside a bridge would pass the packet rules and be readdressed there, so that a
    // pod could not reach itself through a Service.
    let bridges = [
        "bridge.bridge-nf-call-iptables",
        "bridge.bridge-nf-call-ip6tables",
        "bridge.bridge-nf-call-arptables",
    ];
    if router && std::path::Path::new("/proc/sys/net/bridge").exists() {
        settings.extend(bridges.map(|key| (key, "0")));
    }
    let no_ipv6_here = !std::path::Path::new("/proc/sys/net/ipv6").exists();
    for (key, value) in settings {
        if no_ipv6_here && key.starts_with("ipv6.") && !ipv6 {
            continue;
        }
        sysctl(namespace, key, value).map_err(other("setting up a network namespace"))?;
    }
    Ok(())
}
