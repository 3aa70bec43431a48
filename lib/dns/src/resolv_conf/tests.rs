use super::*;

#[test]
fn takes_the_first_three_servers_of_both_families() {
    let text = "# made by kubelet\nsearch a.svc.cluster.local svc.cluster.local\n\
                nameserver 10.96.0.10\n  nameserver\tfd00::10  # second\nnameserver 10.0.0.3\n\
                nameserver 10.0.0.4\noptions ndots:5\n";
    let expected: Vec<SocketAddr> = ["10.96.0.10:53", "[fd00::10]:53", "10.0.0.3:53"]
        .iter()
        .map(|s| s.parse().unwrap())
        .collect();
    assert_eq!(name_servers(text), expected);
}

#[test]
fn skips_what_is_no_address() {
    assert_eq!(
        name_servers("nameserver\nnameserver example.org\nnameserver fe80::1%eth0\n;nameserver 1.1.1.1"),
        []
    );
    assert_eq!(name_servers("nameservers 1.1.1.1\n#nameserver 1.1.1.1"), []);
}
