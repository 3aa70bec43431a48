use super::*;
use crate::test_support::{needs_root, run_in};

#[tokio::test]
async fn removes_what_is_empty_and_nothing_else() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    assert!(
        remove_if_empty(&namespace, TableFamily::V4, "nat").unwrap(),
        "none there is as good"
    );
    for (family, program) in [
        (TableFamily::V4, "iptables-nft"),
        (TableFamily::V6, "ip6tables-nft"),
    ] {
        let save = format!("{program}-save");
        run_in(
            &namespace,
            program,
            &["-t", "nat", "-A", "OUTPUT", "-j", "ACCEPT"],
            "",
        )
        .await;
        let before = run_in(&namespace, &save, &[], "").await;
        assert!(!remove_if_empty(&namespace, family, "nat").unwrap());
        let rule = "-A OUTPUT -j ACCEPT";
        assert!(before.contains(rule) && run_in(&namespace, &save, &[], "").await.contains(rule));

        run_in(&namespace, program, &["-t", "nat", "-F", "OUTPUT"], "").await;
        run_in(&namespace, program, &["-t", "nat", "-N", "MINE"], "").await;
        assert!(
            !remove_if_empty(&namespace, family, "nat").unwrap(),
            "somebody's chain"
        );
        run_in(&namespace, program, &["-t", "nat", "-X", "MINE"], "").await;
        assert!(run_in(&namespace, &save, &[], "").await.contains("*nat"));
        assert!(remove_if_empty(&namespace, family, "nat").unwrap());
        assert!(!run_in(&namespace, &save, &[], "").await.contains("*nat"));
    }
}
