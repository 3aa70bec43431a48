use super::*;

fn connect(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, kind];
    bytes.extend(address);
    bytes.extend(port.to_be_bytes());
    bytes
}

fn by_name(name: &str, port: u16) -> Vec<u8> {
    let mut address = vec![name.len() as u8];
    address.extend(name.as_bytes());
    connect(NAME, &address, port)
}

fn name(text: &str, port: u16) -> Result<Step<Request>, Malformed> {
    Ok(Step::Done(Request::Connect(Destination::Name(text.into(), port))))
}

fn address(text: &str) -> Result<Step<Request>, Malformed> {
    Ok(Step::Done(Request::Connect(Destination::Address(
        text.parse().unwrap(),
    ))))
}

#[test]
fn a_client_must_be_able_to_do_without_authentication() {
    assert_eq!(methods(&[5, 1, 0]), Ok(Step::Done(true)));
    assert_eq!(methods(&[5, 3, 2, 1, 0]), Ok(Step::Done(true)));
    assert_eq!(methods(&[5, 2, 2, 1]), Ok(Step::Done(false)));
    assert_eq!(methods(&[5, 0]), Ok(Step::Done(false)));
    assert_eq!(methods(&[4, 1, 0]), Err(Malformed::Version(4)));
    assert_eq!(methods(b"GET / HTTP/1.1"), Err(Malformed::Version(b'G')));
}

#[test]
fn every_kind_of_address_is_read() {
    assert_eq!(
        request(&connect(IPV4, &[10, 0, 0, 7], 80)),
        address("10.0.0.7:80")
    );
    let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    assert_eq!(
        request(&connect(IPV6, &v6.octets(), 8080)),
        address("[2001:db8::7]:8080")
    );
    let mapped: Ipv6Addr = "::ffff:10.0.0.7".parse().unwrap();
    assert_eq!(
        request(&connect(IPV6, &mapped.octets(), 80)),
        address("10.0.0.7:80")
    );
    assert_eq!(request(&by_name("Web.shop.SVC.", 80)), name("web.shop.svc.", 80));
    assert_eq!(request(&by_name("_grpc.web", 80)), name("_grpc.web", 80));
    // As a name, an address is still one.
    assert_eq!(request(&by_name("10.0.0.7", 80)), address("10.0.0.7:80"));
    assert_eq!(request(&by_name("2001:db8::7", 80)), address("[2001:db8::7]:80"));
}

#[test]
fn what_is_not_served_is_told_apart_from_what_is_malformed() {
    let mut bind = connect(IPV4, &[10, 0, 0, 7], 80);
    bind[1] = 2;
    assert_eq!(request(&bind), Ok(Step::Done(Request::OtherCommand(2))));
    assert_eq!(request(&[5, 1, 0, 9]), Ok(Step::Done(Request::OtherAddress(9))));
    let long = "a".repeat(64);
    for bad in [
        by_name("a..b", 80),
        by_name(".", 80),
        by_name("a b", 80),
        by_name("a/b", 80),
        by_name(&long, 80),
        by_name("web", 0),
        connect(NAME, &[0], 80),
        connect(NAME, &[2, 0xff, 0xfe], 80),
        vec![5, 1, 1, IPV4, 10, 0, 0, 7, 0, 80],
    ] {
        assert!(matches!(request(&bad), Err(Malformed::Message(_))), "{bad:?}");
    }
    assert_eq!(request(&[4, 1, 0, 80]), Err(Malformed::Version(4)));
}

#[test]
fn no_byte_beyond_the_message_is_asked_for() {
    let messages = [
        connect(IPV4, &[10, 0, 0, 7], 80),
        connect(IPV6, &[1; 16], 80),
        by_name("web.shop", 80),
    ];
    for message in messages {
        let whole = request(&message);
        assert!(matches!(whole, Ok(Step::Done(_))));
        for length in 0..message.len() {
            let Ok(Step::More(more)) = request(&message[..length]) else {
                panic!("{message:?} is whole after {length}");
            };
            assert!(more >= 1 && length + more <= message.len());
        }
        let mut longer = message.clone();
        longer.extend(b"data");
        assert_eq!(request(&longer), whole);
    }
    let message = [5, 3, 2, 1, 0];
    for length in 0..message.len() {
        assert!(matches!(methods(&message[..length]), Ok(Step::More(more)) if length + more <= 5));
    }
}

#[test]
fn replies_say_the_outcome() {
    assert_eq!(reply(Outcome::Connected), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reply(Outcome::Refused)[1], 5);
    assert_eq!(reply(Outcome::AddressNotSupported)[1], 8);
}
