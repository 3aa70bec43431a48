use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn ipv4_with_an_identity() {
    let identity = Identity::new("cluster.local", "shop", "client");
    let bytes = header(address("10.0.0.1:1000"), address("10.9.0.1:80"), Some(&identity));
    let uri = b"spiffe://cluster.local/ns/shop/sa/client";
    let mut expected = vec![
        0x0d,
        0x0a,
        0x0d,
        0x0a,
        0x00,
        0x0d,
        0x0a,
        0x51,
        0x55,
        0x49,
        0x54,
        0x0a,
        0x21,
        0x11,
        0,
        12 + 3 + 40,
        10,
        0,
        0,
        1,
        10,
        9,
        0,
        1,
        0x03,
        0xe8,
        0,
        80,
        0xd0,
        0,
        40,
    ];
    expected.extend(uri);
    assert_eq!(bytes, expected);
}

#[test]
fn ipv6_without_an_identity() {
    let bytes = header(address("[fd00::1]:1000"), address("[fd00::2]:80"), None);
    assert_eq!(bytes[12..16], [0x21, 0x21, 0, 36]);
    assert_eq!(bytes.len(), 16 + 36);
    assert_eq!((bytes[31], bytes[47]), (1, 2));
    assert_eq!(bytes[48..], [0x03, 0xe8, 0, 80]);
}

#[test]
fn mixed_families_are_written_as_ipv6() {
    let bytes = header(address("10.0.0.1:1000"), address("[fd00::2]:80"), None);
    assert_eq!(bytes[12..16], [0x21, 0x21, 0, 36]);
    assert_eq!(bytes[26..32], [0xff, 0xff, 10, 0, 0, 1]);
}
