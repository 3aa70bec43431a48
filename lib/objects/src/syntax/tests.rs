use super::{
    cidr, dns_1035_label, dns_label, dns_subdomain, ip_block, label, port_name, qualified_name, unicast,
};

#[test]
fn names() {
    for good in ["a", "0", "web-1", &"a".repeat(63)] {
        assert!(dns_label(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
        assert!(dns_label(bad).is_err(), "{bad}");
    }
    assert!(
        dns_subdomain("a.b-c.d").is_ok() && dns_subdomain("a..b").is_err() && dns_subdomain("a.").is_err()
    );
    assert!(dns_1035_label("web").is_ok() && dns_1035_label("0web").is_err() && dns_1035_label("").is_err());
    assert!(port_name("http-1").is_ok() && port_name("1").is_err() && port_name("a--b").is_err());
    assert!(port_name("").is_err() && port_name("abcdefghijklmnop").is_err());
}

#[test]
fn labels() {
    assert!(label("app", "").is_ok() && label("app.kubernetes.io/name", "A_b.c-1").is_ok());
    for (key, value) in [
        ("", "a"),
        ("-a", "a"),
        ("a/b/c", "a"),
        ("A.b/c", "a"),
        ("a", "-"),
        ("a", "b c"),
    ] {
        assert!(label(key, value).is_err(), "{key}={value}");
    }
    assert!(label("a", &"b".repeat(64)).is_err() && qualified_name("/a").is_err());
}

#[test]
fn addresses() {
    let block = |text: &str| ip_block(text).map(|block| block.to_string());
    assert_eq!(block("1.2.3.4"), Ok("1.2.3.4/32".to_owned()));
    assert_eq!(block("5.6.0.0/16"), Ok("5.6.0.0/16".to_owned()));
    assert_eq!(block("::1"), Ok("::1/128".to_owned()));
    for bad in [
        "",
        "a",
        "1.2.3",
        "1.2.3.4/33",
        "1.2.3.4/",
        "1.2.3.4/+8",
        "1.2.3.4/-1",
        "::/129",
        "01.2.3.4",
    ] {
        assert!(ip_block(bad).is_err(), "{bad}");
    }
    assert!(cidr("10.0.0.0").is_err());
    for mapped in ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"] {
        assert!(
            ip_block(mapped).is_err_and(|problem| problem.contains("write the IPv4 address")),
            "{mapped}"
        );
    }
    for bad in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "169.254.1.1",
        "::",
        "::1",
        "ff02::1",
    ] {
        assert!(unicast(bad).is_err(), "{bad}");
    }
}

#[test]
fn blocks_contain_their_addresses() {
    let contains = |block: &str, address: &str| {
        ip_block(block)
            .expect("block")
            .contains(address.parse().expect("address"))
    };
    assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("0.0.0.0/0", "1.1.1.1") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("::/0", "2001:db8::1") && contains("2001:db8::/32", "2001:db8:1::"));
    assert!(contains("10.1.2.3", "10.1.2.3") && !contains("10.1.2.3", "10.1.2.4"));
}
