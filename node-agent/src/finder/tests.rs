use super::*;
use crate::test_support::needs_root;

#[test]
fn finds_by_uid_and_checks_addresses() {
    if needs_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let finder = PinnedNamespaces::new(directory.path()).unwrap();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let missing = finder.find("uid-1", &[address("10.0.0.5")]).unwrap_err();
    assert!(missing.is_missing(), "{missing}");

    let pod = Namespace::create().unwrap();
    let pin = directory.path().join("uid-1");
    // The moment between making the file and binding the namespace to it.
    std::fs::write(&pin, "").unwrap();
    assert!(
        finder
            .find("uid-1", &[address("10.0.0.5")])
            .unwrap_err()
            .is_missing()
    );
    std::fs::remove_file(&pin).unwrap();
    pod.pin(&pin).unwrap();
    let other = finder.find("uid-1", &[address("10.0.0.5")]).unwrap_err();
    assert!(matches!(other, FindError::OtherAddresses { .. }), "{other}");
    let loopback = finder.find("uid-1", &[address("127.0.0.1")]).unwrap_err();
    assert!(
        matches!(loopback, FindError::OtherAddresses { .. }),
        "loopback is everybody's: {loopback}"
    );

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let link = sys::link::Netlink::in_namespace(&pod).unwrap();
        link.address("lo", address("10.0.0.5"), 32).await.unwrap();
    });
    let found = finder
        .find("uid-1", &[address("fd00::5"), address("10.0.0.5")])
        .unwrap();
    assert_eq!(found.id(), pod.id());
    Namespace::unpin(&pin).unwrap();
}

#[test]
fn the_nodes_own_namespace_is_refused() {
    if needs_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let finder = PinnedNamespaces::new(directory.path()).unwrap();
    let own = Namespace::current().unwrap();
    let pin = directory.path().join("uid-1");
    own.pin(&pin).unwrap();
    let refused = finder.find("uid-1", &own.addresses().unwrap()).unwrap_err();
    assert!(matches!(refused, FindError::NotThePods { .. }), "{refused}");
    Namespace::unpin(&pin).unwrap();
}

#[test]
fn a_uid_cannot_lead_elsewhere() {
    let finder = PinnedNamespaces::new("/does/not/exist").unwrap();
    for uid in ["", "..", "../other", "a/b", "a.b", "a\0b"] {
        assert!(
            matches!(finder.find(uid, &[]).unwrap_err(), FindError::BadUid(_)),
            "{uid:?}"
        );
    }
}
