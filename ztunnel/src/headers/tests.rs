use super::*;
use proptest::prelude::*;

#[test]
fn baggage_is_read_as_written() {
    let text = "k8s.cluster.name=c1,k8s.namespace.name=shop,k8s.pod.name=cart,service.name=cart,service.version=v2,cloud.region=r,cloud.availability_zone=z";
    let peer = parse_baggage(text);
    assert_eq!(peer.cluster.as_deref(), Some("c1"));
    assert_eq!(peer.namespace.as_deref(), Some("shop"));
    assert_eq!(peer.workload.as_deref(), Some("cart"));
    assert_eq!(peer.revision.as_deref(), Some("v2"));
    assert_eq!(
        (peer.region.as_deref(), peer.zone.as_deref()),
        (Some("r"), Some("z"))
    );
}

#[test]
fn baggage_that_is_odd_is_ignored() {
    assert_eq!(
        parse_baggage("k8s.namespace.name=,x=y,,="),
        PeerDescription::default()
    );
    assert_eq!(
        parse_baggage("k8s.namespace.name=sh\u{f6}p"),
        PeerDescription::default()
    );
    assert_eq!(parse_baggage(&"a=b,".repeat(10_000)), PeerDescription::default());
}

#[test]
fn forwarded_quotes_the_client() {
    assert_eq!(
        forwarded("10.0.0.1:80".parse().unwrap(), None),
        "for=\"10.0.0.1:80\""
    );
    assert_eq!(
        forwarded("[::1]:80".parse().unwrap(), Some("a.b.svc")),
        "for=\"[::1]:80\";host=a.b.svc"
    );
}

#[test]
fn traceparent_has_the_w3c_shape() {
    assert_eq!(
        traceparent([1, 2, 3]),
        "00-00000000000000010000000000000002-0000000000000003-00"
    );
    assert_eq!(traceparent([0, 0, 0]).len(), 55);
}

#[test]
fn authorities() {
    let address = |text: &str| Some(Authority::Address(text.parse().unwrap()));
    assert_eq!(parse_authority("10.1.2.3:8080"), address("10.1.2.3:8080"));
    assert_eq!(parse_authority("[fd00::1]:8080"), address("[fd00::1]:8080"));
    assert_eq!(parse_authority("[::ffff:10.1.2.3]:80"), address("10.1.2.3:80"));
    assert_eq!(
        parse_authority("Web.shop.svc.cluster.local:80"),
        Some(Authority::Hostname("web.shop.svc.cluster.local".into(), 80))
    );
    for wrong in [
        "",
        ":",
        "host",
        "host:",
        ":80",
        "10.1.2.3",
        "10.1.2.3:0",
        "host:0",
        "host:70000",
        "a..b:80",
        "fd00::1:80x",
        "[fe80::1%1]:80",
        "ho st:80",
    ] {
        assert_eq!(parse_authority(wrong), None, "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn nothing_a_peer_writes_panics(text in "\\PC{0,400}") {
        let _ = parse_authority(&text);
        let _ = parse_baggage(&text);
    }
}
