use std::time::Duration;

use super::*;
use crate::socket::udp;
use crate::test_support::{joined, needs_root, run_in};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_destination_of_a_redirected_datagram_is_known() {
    if needs_root() {
        return;
    }
    let (near, _far) = joined().await;
    for tables in ["iptables-restore", "ip6tables-restore"] {
        let rules = "*nat\n-A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 15053\nCOMMIT\n";
        run_in(&near, tables, &["--noflush"], rules).await;
    }
    let conntrack = Conntrack::in_namespace(&near).unwrap();
    for (local, any, original) in [
        ("127.0.0.1:15053", "0.0.0.0:0", "10.1.0.2:53"),
        ("[::1]:15053", "[::]:0", "[fd00::2]:53"),
        // Not redirected: the address it came to.
        ("127.0.0.1:15054", "0.0.0.0:0", "127.0.0.1:15054"),
    ] {
        let server = udp(&near, address(local), None).unwrap();
        let client = udp(&near, address(any), None).unwrap();
        client.send_to(b"query", address(original)).await.unwrap();
        let mut buffer = [0; 16];
        let (_, from) = tokio::time::timeout(Duration::from_secs(20), server.recv_from(&mut buffer))
            .await
            .expect("the datagram is redirected")
            .unwrap();
        assert_eq!(
            conntrack.original_destination(from, address(local)).unwrap(),
            Some(address(original))
        );
        let stranger = SocketAddr::new(from.ip(), from.port() ^ 1);
        assert_eq!(
            conntrack.original_destination(stranger, address(local)).unwrap(),
            None
        );
    }
    let mixed = conntrack.original_destination(address("10.1.0.1:1"), address("[::1]:15053"));
    assert_eq!(mixed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn answers_that_are_cut_are_errors_and_late_ones_are_passed_over() {
    let tuple = [
        attribute(TUPLE_IP, &attribute(IP_V4_DESTINATION, &[10, 0, 0, 1])),
        attribute(TUPLE_PROTOCOL, &attribute(PROTOCOL_DESTINATION_PORT, &[0, 53])),
    ];
    let mut message = vec![0; HEADER + FAMILY_HEADER];
    message[4..6].copy_from_slice(&MESSAGE_NEW.to_ne_bytes());
    message[8..12].copy_from_slice(&7u32.to_ne_bytes());
    message.extend(attribute(TUPLE_ORIGINAL, &tuple.concat()));
    let whole = answer(&message, 7).unwrap();
    assert_eq!(whole, Answer::Original(address("10.0.0.1:53")));
    assert_eq!(answer(&message, 8).unwrap(), Answer::Other);
    for cut in 0..message.len() {
        assert!(answer(&message[..cut], 7).is_err(), "{cut}");
    }
}
