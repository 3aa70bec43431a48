use proptest::prelude::*;

use super::*;

fn block(text: &str) -> IpPrefix {
    let (address, length) = text.split_once('/').unwrap();
    IpPrefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// Addresses that lie close together, at both ends of both families, so that blocks often nest and often contain them.
fn address() -> impl Strategy<Value = IpAddr> {
    (0..4, 0..12_u8).prop_map(|(kind, low)| match kind {
        0 => IpAddr::from([10, 0, 0, low]),
        1 => IpAddr::from(u32::from(low).to_be_bytes()),
        2 => IpAddr::from(u128::from(low).to_be_bytes()),
        _ => IpAddr::from((u128::MAX - u128::from(low)).to_be_bytes()),
    })
}

fn any_block() -> impl Strategy<Value = IpPrefix> {
    (address(), 0..8_u32, prop::bool::weighted(0.9)).prop_map(|(address, back, is_long)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpPrefix::new(address, if is_long { most - back } else { back }).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn blocks_contain_what_the_list_does(
        list in prop::collection::vec(any_block(), 0..20),
        addresses in prop::collection::vec(address(), 8),
    ) {
        let index = BlockIndex::new(&list);
        for ip in addresses {
            let expected = list.iter().any(|block| block.contains(ip));
            prop_assert_eq!(index.contains(ip), expected, "{} in {:?}", ip, list);
        }
    }

    #[test]
    fn ports_are_those_of_the_list(list in prop::collection::vec(0..20_u16, 0..20), port in 0..20_u16) {
        prop_assert_eq!(PortIndex::new(&list).contains(port), list.contains(&port));
    }
}

#[test]
fn covered_blocks_are_left_out() {
    let list = [
        "10.1.0.0/16",
        "10.0.0.0/8",
        "::/0",
        "10.1.2.3/32",
        "11.0.0.0/8",
        "fd00::/8",
        "10.0.0.0/8",
    ];
    let index = BlockIndex::new(&list.map(block));
    assert_eq!(index.apart, ["10.0.0.0/8", "11.0.0.0/8", "::/0"].map(block));
    // The unspecified address is in no block, and yet blocks that begin with it lie in others.
    let index = BlockIndex::new(&["0.0.0.0/8", "0.0.0.0/0"].map(block));
    assert_eq!(index.apart, [block("0.0.0.0/0")]);
    assert!(!index.contains([0; 4].into()) && index.contains([10, 0, 0, 1].into()));
    assert!(index.contains("::ffff:10.0.0.1".parse().unwrap()));
    assert_eq!(PortIndex::new(&[80, 22, 80]).0, [22, 80]);
}
