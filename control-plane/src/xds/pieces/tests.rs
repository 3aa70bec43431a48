use std::sync::Arc;

use bytes::Buf;
use prost::Message;
use proto::discovery::{DeltaDiscoveryResponse, Resource};

use super::*;
use crate::xds::ResourceKind;
use crate::xds::resource::{self, Links};
use crate::xds::resources::Resources;
use crate::xds::table::Table;

fn resource(name: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        version: "1".to_owned(),
        ..Resource::default()
    }
}

/// The message in the pieces, and how long each of them is.
fn read(response: Response) -> (DeltaDiscoveryResponse, Vec<usize>) {
    let pieces: Vec<Bytes> = Pieces::new(response).unwrap().collect();
    let lengths = pieces.iter().map(Bytes::len).collect();
    let mut all = Bytes::from(pieces.concat());
    assert_eq!(all.get_u8(), 0, "not compressed");
    assert_eq!(all.get_u32() as usize, all.len(), "the length that it says");
    (DeltaDiscoveryResponse::decode(all).unwrap(), lengths)
}

#[test]
fn a_response_is_what_prost_would_write() {
    let response = Response {
        kind: ResourceKind::Address,
        nonce: "n-1".to_owned(),
        revision: 7,
        resources: Resources::These(vec![resource("a").encode_to_vec().into(), Bytes::new()]),
        removed: vec!["b".into(), "c".into()],
    };
    let expected = DeltaDiscoveryResponse {
        system_version_info: "7".to_owned(),
        resources: vec![resource("a"), Resource::default()],
        type_url: ResourceKind::Address.type_url().to_owned(),
        removed_resources: vec!["b".to_owned(), "c".to_owned()],
        nonce: "n-1".to_owned(),
    };
    let (read, lengths) = read(response);
    assert_eq!(read, expected);
    assert_eq!(lengths.len(), 1, "what is short is one piece");
}

#[test]
fn a_response_that_says_nothing_is_a_message_too() {
    let response = Response {
        kind: ResourceKind::Authorization,
        nonce: "n-2".to_owned(),
        revision: 0,
        resources: Resources::These(Vec::new()),
        removed: Vec::new(),
    };
    let (read, _) = read(response);
    assert_eq!((read.nonce.as_str(), read.resources.len()), ("n-2", 0));
}

#[test]
fn a_large_response_is_never_whole_in_memory() {
    let mut table = Table::default();
    for number in 0..5000 {
        let name = format!("workload-{number:04}");
        let payload = vec![7; 300 + number % 100];
        table.put(resource::Resource::new(
            ResourceKind::Address,
            &name,
            payload,
            Links::default(),
        ));
    }
    let whole = table.whole(true);
    let response = Response {
        kind: ResourceKind::Address,
        nonce: "n-3".to_owned(),
        revision: 9,
        resources: Resources::All(whole.clone()),
        removed: vec!["gone".into()],
    };
    let (read, lengths) = read(response);
    let names: Vec<_> = read.resources.iter().map(|one| one.name.as_str()).collect();
    assert!(names.is_sorted() && names.len() == 5000);
    assert_eq!(read.removed_resources, ["gone"]);
    assert!(lengths.len() > 20, "{lengths:?}");
    assert!(lengths.iter().all(|length| *length < PIECE + 1024), "{lengths:?}");
    assert!(Arc::ptr_eq(&whole, &table.whole(true)), "made once");
    table.remove("workload-0000");
    assert_eq!(
        table.whole(true).resources().len(),
        4999,
        "and anew after a change"
    );
}
