use proto::discovery::Resource;

use super::*;

fn responses() -> Vec<DeltaDiscoveryResponse> {
    let resource = |length: usize| Resource {
        name: "n".repeat(length),
        ..Resource::default()
    };
    let response = |nonce: &str, lengths: &[usize]| DeltaDiscoveryResponse {
        system_version_info: "7".to_owned(),
        resources: lengths.iter().map(|length| resource(*length)).collect(),
        type_url: "type.googleapis.com/a".to_owned(),
        removed_resources: vec!["gone".to_owned()],
        nonce: nonce.to_owned(),
    };
    vec![
        response("1", &[0, 1, 300, 70_000]),
        DeltaDiscoveryResponse::default(),
        response("2", &[]),
    ]
}

fn wire() -> Vec<u8> {
    let mut wire = Vec::new();
    for response in responses() {
        let message = response.encode_to_vec();
        wire.push(0);
        wire.extend_from_slice(&(message.len() as u32).to_be_bytes());
        wire.extend_from_slice(&message);
    }
    wire
}

#[test]
fn responses_are_read_in_whatever_pieces_they_come() {
    for whole in [false, true] {
        for length in [1, 2, 3, 7, 1000, 1_000_000] {
            let mut skim = Skim::new(whole);
            let pieces = wire();
            let read: Vec<Response> = pieces
                .chunks(length)
                .flat_map(|piece| skim.take(piece).unwrap())
                .collect();
            assert_eq!(read.len(), 3, "{whole} {length}");
            for (read, sent) in read.iter().zip(responses()) {
                assert_eq!((&read.nonce, &read.type_url), (&sent.nonce, &sent.type_url));
                assert_eq!(read.resources, sent.resources.len() as u64);
                assert_eq!(read.bytes, sent.encoded_len() as u64);
                let is_empty = sent == DeltaDiscoveryResponse::default();
                assert_eq!(read.whole, (whole && !is_empty).then_some(sent));
            }
        }
    }
}

#[test]
fn what_is_no_response_is_said_to_be_none() {
    let mut skim = Skim::new(false);
    assert_eq!(skim.take(&[1, 0, 0, 0, 1]), Err(SkimError::Compressed));
    // A resource that is longer than its message.
    let mut skim = Skim::new(false);
    assert_eq!(skim.take(&[0, 0, 0, 0, 3, 0x12, 9, 0]), Err(SkimError::Field));
}
