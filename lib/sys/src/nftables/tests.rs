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

#[test]
fn a_dropped_connection_is_dropped_both_ways_and_no_other() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    if needs_root() {
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let namespace = Namespace::create().unwrap();
        let pair = |listener: &TcpListener| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let server = listener.accept().unwrap().0;
            for end in [&client, &server] {
                end.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            }
            (client, server)
        };
        let (mut dropped, mut other) = namespace
            .enter(|| {
                let listener = TcpListener::bind(address).unwrap();
                (pair(&listener), pair(&listener))
            })
            .unwrap();
        let (local, remote) = (dropped.1.local_addr().unwrap(), dropped.1.peer_addr().unwrap());
        assert!(drop_connection(&namespace, local, remote).unwrap());
        assert!(
            !drop_connection(&namespace, local, remote).unwrap(),
            "a second time"
        );
        let says = |from: &mut TcpStream, to: &mut TcpStream| {
            from.write_all(b"late").unwrap();
            to.read_exact(&mut [0; 4]).is_ok()
        };
        assert!(
            !says(&mut dropped.0, &mut dropped.1),
            "{address}: towards the pod"
        );
        assert!(!says(&mut dropped.1, &mut dropped.0), "{address}: from the pod");
        assert!(
            says(&mut other.0, &mut other.1) && says(&mut other.1, &mut other.0),
            "{address}"
        );
        let (local, remote) = (other.1.local_addr().unwrap(), other.1.peer_addr().unwrap());
        assert!(drop_connection(&namespace, local, remote).unwrap());
        assert!(!says(&mut other.0, &mut other.1), "{address}: another one");
        forget_dropped(&namespace).unwrap();
        forget_dropped(&namespace).unwrap();
        other.1.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Sent again by TCP, it arrives.
        assert!(
            other.1.read_exact(&mut [0; 4]).is_ok(),
            "{address}: nothing is left"
        );
    }
}
