use super::*;
use crate::test_support::{joined, needs_root, run_in};

const RULE: Rule = Rule {
    mark: 0x111,
    mask: 0xfff,
    priority: 32764,
    table: 100,
};

#[tokio::test]
async fn rules_and_local_routes_come_and_go() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&namespace).unwrap();
    for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let rules_before = run_in(&namespace, "ip", &[flag, "rule"], "").await;
        assert!(!link.has_rule(family, RULE).await.unwrap());
        link.rule(family, RULE).await.unwrap();
        link.local_route(family, 100).await.unwrap();
        assert!(link.rule(family, RULE).await.unwrap_err().is_exists());
        assert!(link.local_route(family, 100).await.unwrap_err().is_exists());
        assert!(link.has_rule(family, RULE).await.unwrap());
        assert!(link.has_local_route(family, 100).await.unwrap());
        let rules = run_in(&namespace, "ip", &[flag, "rule"], "").await;
        assert!(
            rules.contains("32764:\tfrom all fwmark 0x111/0xfff lookup 100"),
            "{rules}"
        );
        let routes = run_in(&namespace, "ip", &[flag, "route", "show", "table", "100"], "").await;
        assert!(routes.contains("local default dev lo"), "{routes}");

        link.delete_rule(family, RULE).await.unwrap();
        link.delete_local_route(family, 100).await.unwrap();
        assert!(link.delete_rule(family, RULE).await.unwrap_err().is_missing());
        assert!(
            link.delete_local_route(family, 100)
                .await
                .unwrap_err()
                .is_missing()
        );
        assert!(!link.has_local_route(family, 100).await.unwrap());
        assert_eq!(run_in(&namespace, "ip", &[flag, "rule"], "").await, rules_before);
    }
}

#[tokio::test]
async fn bridges_routes_and_interfaces() {
    if needs_root() {
        return;
    }
    let (node, pod) = joined().await;
    let link = Netlink::in_namespace(&node).unwrap();
    let pod_link = Netlink::in_namespace(&pod).unwrap();
    link.bridge("br0").await.unwrap();
    link.set_master("eth0", "br0").await.unwrap();
    link.hairpin("eth0", true).await.unwrap();
    link.mtu("br0", 1400).await.unwrap();
    link.address("br0", "169.254.1.1".parse().unwrap(), 32)
        .await
        .unwrap();
    link.up("br0").await.unwrap();
    let shown = run_in(&node, "ip", &["-d", "link", "show", "eth0"], "").await;
    assert!(
        shown.contains("master br0") && shown.contains("hairpin on"),
        "{shown}"
    );

    let any4 = ("0.0.0.0".parse().unwrap(), 0);
    let gateway = Some("169.254.1.1".parse().unwrap());
    let unreachable = pod_link
        .route(any4, gateway, Some("eth0"), false)
        .await
        .unwrap_err();
    assert!(
        unreachable
            .to_string()
            .starts_with("cannot add a route to 0.0.0.0/0"),
        "{unreachable}"
    );
    pod_link.route(any4, gateway, Some("eth0"), true).await.unwrap();
    pod_link
        .route(
            ("::".parse().unwrap(), 0),
            Some("fd00::1".parse().unwrap()),
            None,
            false,
        )
        .await
        .unwrap();
    pod_link
        .route(("198.51.100.0".parse().unwrap(), 24), None, Some("eth0"), false)
        .await
        .unwrap();
    let routes = run_in(&pod, "ip", &["route"], "").await;
    assert!(
        routes.contains("default via 169.254.1.1 dev eth0") && routes.contains("onlink"),
        "{routes}"
    );
    assert!(routes.contains("198.51.100.0/24 dev eth0"), "{routes}");
    pod_link.delete_route(any4, gateway, Some("eth0")).await.unwrap();
    assert!(!run_in(&pod, "ip", &["route"], "").await.contains("default"));

    pod_link.down("eth0").await.unwrap();
    pod_link.delete("eth0").await.unwrap();
    let missing = link.index("eth0").await.unwrap_err();
    assert!(missing.is_missing(), "the other end goes too: {missing}");
    assert!(link.up("eth0").await.unwrap_err().is_missing());
}

#[tokio::test]
async fn settings_are_those_of_the_namespace() {
    if needs_root() {
        return;
    }
    let one = Namespace::create().unwrap();
    let two = Namespace::create().unwrap();
    let before = read_sysctl(&two, "ipv4.ip_forward").unwrap();
    sysctl(&one, "net.ipv4.ip_forward", "1").unwrap();
    sysctl(&two, "ipv4.ip_forward", "0").unwrap();
    assert_eq!(read_sysctl(&one, "net/ipv4/ip_forward").unwrap(), "1");
    assert_eq!(read_sysctl(&two, "ipv4.ip_forward").unwrap(), "0");
    sysctl(&two, "ipv4.ip_forward", &before).unwrap();
    // Through another mount it is still the namespace's own setting.
    let mounted = tempfile::tempdir().unwrap();
    let (none, bind) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
    nix::mount::mount(Some("/proc/sys/net"), mounted.path(), none, bind, none).unwrap();
    let written = sysctl_in(mounted.path(), &one, "ipv4.ip_forward", "0");
    nix::mount::umount2(mounted.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    written.unwrap();
    assert_eq!(read_sysctl(&one, "ipv4.ip_forward").unwrap(), "0");
    assert_eq!(read_sysctl(&two, "ipv4.ip_forward").unwrap(), before);
    assert!(sysctl(&one, "ipv4.no_such_setting", "1").is_err());
    assert!(sysctl(&one, "../kernel/hostname", "x").is_err());
    assert!(sysctl(&one, "ipv4/../../kernel/hostname", "x").is_err());
}
