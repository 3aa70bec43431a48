use proptest::prelude::*;

use super::*;
use crate::testing::ip;

fn prefix(text: &str) -> Result<IpPrefix, AddressError> {
    let (address, length) = text.split_once('/').unwrap();
    IpPrefix::new(ip(address), length.parse().unwrap())
}

#[test]
fn prefixes_contain_what_their_bits_say() {
    let table = [
        ("10.1.2.3/16", "10.1.255.255", true),
        ("10.1.2.3/16", "10.2.0.0", false),
        ("10.1.2.3/32", "10.1.2.3", true),
        ("10.1.2.3/32", "10.1.2.2", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "10.0.0.1", false),
        ("::/0", "2001:db8::1", true),
        ("2001:db8::/33", "2001:db8:7fff::1", true),
        ("2001:db8::/33", "2001:db8:8000::1", false),
        ("::1/128", "::1", true),
        // Nobody has these.
        ("0.0.0.0/0", "0.0.0.0", false),
        ("::/0", "::", false),
        // IPv4-mapped ones are IPv4, on both sides.
        ("::ffff:10.0.0.0/104", "10.9.9.9", true),
        ("10.0.0.0/8", "::ffff:10.9.9.9", true),
        ("::/0", "::ffff:10.9.9.9", false),
    ];
    for (text, address, expected) in table {
        assert_eq!(
            prefix(text).unwrap().contains(ip(address)),
            expected,
            "{address} in {text}"
        );
    }
}

#[test]
fn prefixes_are_normalised() {
    assert_eq!(prefix("10.1.2.3/8").unwrap(), prefix("10.0.0.0/8").unwrap());
    assert_eq!(
        prefix("::ffff:10.1.2.3/128").unwrap(),
        IpPrefix::host(ip("10.1.2.3"))
    );
    assert_eq!(prefix("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    assert!(prefix("10.1.2.3/32").unwrap().is_host());
    assert!(!prefix("10.1.2.3/31").unwrap().is_host());
    assert!(!prefix("2001:db8::/32").unwrap().is_host());
}

#[test]
fn impossible_prefixes_are_refused() {
    assert!(matches!(
        prefix("10.0.0.0/33"),
        Err(AddressError::PrefixTooLong { most: 32, .. })
    ));
    assert!(matches!(
        prefix("::/129"),
        Err(AddressError::PrefixTooLong { most: 128, .. })
    ));
    // 256 + 8: a narrowing cast would make a short prefix of it.
    assert!(prefix("10.0.0.0/264").is_err());
    assert!(matches!(
        prefix("::ffff:10.0.0.0/95"),
        Err(AddressError::MappedPrefix { .. })
    ));
}

#[test]
fn addresses_have_4_or_16_bytes() {
    assert_eq!(ip_from_bytes(&[10, 0, 0, 1]), Ok(ip("10.0.0.1")));
    assert_eq!(ip_from_bytes(&[0; 16]), Ok(ip("::")));
    for length in [0, 1, 3, 5, 15, 17] {
        assert_eq!(ip_from_bytes(&vec![0; length]), Err(AddressError::Length(length)));
    }
}

#[test]
fn network_addresses_are_canonical() {
    assert_eq!(
        NetworkAddress::new("n", ip("::ffff:10.0.0.1")),
        NetworkAddress::new("n", ip("10.0.0.1"))
    );
    assert_eq!(NetworkAddress::new("n", ip("10.0.0.1")).to_string(), "n/10.0.0.1");
}

proptest! {
    /// Bit by bit: an address is inside when its first bits are the prefix's.
    #[test]
    fn contains_compares_bits(a in any::<u32>(), b in any::<u32>(), length in 0u32..=32, keep in 0u32..=32) {
        let b = if keep == 0 { b } else { (a >> (32 - keep) << (32 - keep)) | (b.checked_shr(keep).unwrap_or(0)) };
        let bit = |value: u32, n: u32| value >> (31 - n) & 1;
        let expected = b != 0 && (0..length).all(|n| bit(a, n) == bit(b, n));
        let prefix = IpPrefix::new(Ipv4Addr::from(a).into(), length).unwrap();
        prop_assert_eq!(prefix.contains(Ipv4Addr::from(b).into()), expected);
    }
}
