//! Records between node agent and node proxy.

use std::time::Instant;

use zds::frame::{decode_request, encode_request};
use zds::{PodInfo, Request};

/// Several records, each after its length in one byte times four, and a byte that counts its descriptors.
fn records(mut input: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    std::iter::from_fn(move || {
        let [length, descriptors, rest @ ..] = input else {
            return None;
        };
        let (record, rest) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        input = rest;
        Some((record, usize::from(*descriptors % 3)))
    })
}

/// What an agent sends to the proxy.
pub(crate) fn proxy(input: &[u8]) -> bool {
    let (mut connection, _hello) = zds::proxy::Connection::new();
    let mut accepted = false;
    for (record, descriptors) in records(input) {
        if let Ok(request) = decode_request(record) {
            round_trip(&request);
        }
        match connection.received(record, descriptors) {
            Ok(zds::proxy::Received::Event(_)) => {
                accepted = true;
                assert!(connection.answer(Ok(())).is_some(), "every event wants an answer");
            }
            Ok(zds::proxy::Received::Refused { answer, .. }) => assert!(answer.len() <= zds::MAX_RECORD),
            Err(_) => break,
        }
    }
    accepted
}

/// What a proxy sends to the agent.
pub(crate) fn agent(input: &[u8]) -> bool {
    let now = Instant::now();
    let mut connection = zds::agent::Connection::new([], now);
    let info = PodInfo {
        name: "pod".into(),
        namespace: "namespace".into(),
        service_account: "account".into(),
    };
    connection.add("uid", info).expect("short names fit a record");
    let mut accepted = false;
    for (record, _) in records(input) {
        if connection.received(record).is_err() {
            break;
        }
        accepted = true;
        while let Some(Ok(_)) = connection.next_request(now) {}
    }
    accepted
}

fn round_trip(request: &Request) {
    // What came in one record fits one record again.
    let record = encode_request(request).expect("it was read from a record");
    assert_eq!(decode_request(&record).as_ref(), Ok(request));
}
