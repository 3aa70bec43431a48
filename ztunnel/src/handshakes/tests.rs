use super::*;

fn address(number: usize) -> IpAddr {
    IpAddr::from([10, 0, (number / 256) as u8, (number % 256) as u8])
}

#[test]
fn one_address_has_a_share_and_keeps_nobody_else_out() {
    let handshakes = Handshakes::default();
    let mut silent: Vec<Beginning> = (0..MAX_UNFINISHED_OF_ONE)
        .map(|_| handshakes.begin(address(1)).unwrap())
        .collect();
    assert!(handshakes.begin(address(1)).is_none());
    assert!(handshakes.begin(address(2)).is_some());
    silent.pop();
    assert!(handshakes.begin(address(1)).is_some());
}

#[test]
fn all_together_are_bounded_and_nothing_is_kept_of_those_who_are_done() {
    let handshakes = Handshakes::default();
    let all: Vec<Beginning> = (0..MAX_UNFINISHED)
        .map(|number| handshakes.begin(address(number)).unwrap())
        .collect();
    assert!(handshakes.begin(address(MAX_UNFINISHED)).is_none());
    drop(all);
    assert!(handshakes.lock().by_address.is_empty());
    assert!(handshakes.begin(address(MAX_UNFINISHED)).is_some());
}
