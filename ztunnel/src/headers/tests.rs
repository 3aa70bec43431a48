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
    let trace = TraceContext::new([1, 2, 3]);
    let text = trace.to_string();
    assert_eq!(text, "00-00000000000000010000000000000002-0000000000000003-00");
    assert_eq!(trace.trace_id(), "00000000000000010000000000000002");
    assert_eq!(TraceContext::parse(&text), Some(trace));
    let least = TraceContext::new([0, 0, 0]).to_string();
    assert!(TraceContext::parse(&least).is_some(), "{least}");
}

#[test]
fn traceparent_is_read_strictly() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(TraceContext::parse(good).unwrap().to_string(), good);
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings";
    assert_eq!(TraceContext::parse(later).unwrap().to_string(), good);
    for wrong in [
        "",
        "00",
        "00-",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-\u{e9}",
    ] {
        assert_eq!(TraceContext::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn forwarded_is_read_as_written() {
    for (client, host) in [("10.0.0.1:80", None), ("[::1]:80", Some("a.b.svc"))] {
        let client = client.parse().unwrap();
        let read = parse_forwarded(&forwarded(client, host));
        assert_eq!(read.client, Some(client));
        assert_eq!(read.host.as_deref(), host);
    }
}

#[test]
fn forwarded_of_others_is_read_as_far_as_it_makes_sense() {
    let read =
        parse_forwarded("For=\"[2001:db8::17]:4711\";by=1.2.3.4;HOST=\"Web.Shop\", for=9.9.9.9:1;host=other");
    assert_eq!(read.client, Some("[2001:db8::17]:4711".parse().unwrap()));
    assert_eq!(read.host.as_deref(), Some("web.shop"));
    for nothing in [
        "",
        ";;;",
        "for=_hidden",
        "for=10.0.0.1",
        "host=a b",
        "host=",
        "host=\"",
        "=;=",
    ] {
        assert_eq!(parse_forwarded(nothing), Forwarded::default(), "{nothing:?}");
    }
    let long = format!("host={}", "a.".repeat(MAX_FORWARDED));
    assert_eq!(parse_forwarded(&long), Forwarded::default());
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
        "host:+80",
        "10.1.2.3:+80",
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
        let _ = parse_forwarded(&text);
        let _ = TraceContext::parse(&text);
    }

    #[test]
    fn what_is_read_is_written_alike(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,9})?") {
        if let Some(read) = TraceContext::parse(&text) {
            prop_assert_eq!(read.to_string()[2..].to_owned(), text[2..55].to_owned());
        }
    }
}
