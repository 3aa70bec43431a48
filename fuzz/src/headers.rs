//! What a CONNECT says: its authority and headers.

use std::net::SocketAddr;

use ztunnel::headers::{
    Authority, MAX_AUTHORITY, TraceContext, forwarded, parse_authority, parse_baggage, parse_forwarded,
};

pub(crate) fn authority(input: &[u8]) -> bool {
    let Some(authority) = text(input).and_then(parse_authority) else {
        return false;
    };
    // Written again, it names the same place.
    let written = match &authority {
        Authority::Address(address) => address.to_string(),
        Authority::Hostname(host, port) => format!("{host}:{port}"),
    };
    assert!(written.len() <= MAX_AUTHORITY);
    assert_eq!(parse_authority(&written).as_ref(), Some(&authority));
    true
}

pub(crate) fn baggage(input: &[u8]) -> bool {
    let Some(text) = text(input) else {
        return false;
    };
    let peer = parse_baggage(text);
    let values = [
        peer.cluster,
        peer.namespace,
        peer.workload,
        peer.service,
        peer.revision,
        peer.region,
        peer.zone,
    ];
    let found: Vec<String> = values.into_iter().flatten().collect();
    for value in &found {
        assert!(!value.is_empty() && text.contains(value));
        assert!(!value.contains(','));
    }
    !found.is_empty()
}

pub(crate) fn forwarded_for(input: &[u8]) -> bool {
    let Some(text) = text(input) else {
        return false;
    };
    let said = parse_forwarded(text);
    if let Some(client) = said.client.filter(|client| is_plain(*client)) {
        let written = forwarded(client, said.host.as_deref());
        assert_eq!(parse_forwarded(&written), said);
    }
    said.client.is_some()
}

/// Without a scope id or flow label, which are of no use to anybody else.
fn is_plain(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V4(_)) || address.to_string().parse() == Ok(address)
}

pub(crate) fn traceparent(input: &[u8]) -> bool {
    let Some(trace) = text(input).and_then(TraceContext::parse) else {
        return false;
    };
    assert_eq!(trace.trace_id().len(), 32);
    assert_eq!(TraceContext::parse(&trace.to_string()), Some(trace));
    true
}

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
