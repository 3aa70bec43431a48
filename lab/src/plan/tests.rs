use super::*;

#[test]
fn addresses_of_nodes_and_pods_are_found_back() {
    let nodes = nodes(26);
    assert_eq!(nodes[0].name, "node-a");
    assert_eq!(nodes[25].name, "node-z");
    assert_eq!(nodes[1].pod_v4(7), Ipv4Addr::new(10, 244, 2, 7));
    assert_eq!(nodes[0].pod_v6(2).to_string(), "fd00:10:244:1::2");
    assert_eq!(nodes[25].fabric_v4(), Ipv4Addr::new(172, 31, 0, 36));
}

#[test]
fn service_addresses_are_found_back() {
    assert_eq!(service_index(service_v4(300).into()), Some(300));
    assert_eq!(service_index(service_v6(300).into()), Some(300));
    assert_eq!(service_index(IpAddr::V4(Ipv4Addr::new(10, 97, 0, 1))), None);
    assert_eq!(service_index("fd00:10:97::1".parse().unwrap()), None);
}
