//! Requests and responses on the wire. A response is put together from resources that were encoded before, the same
//! bytes for every client.

use bytes::BufMut;
use prost::Message;
use prost::encoding::{bytes as bytes_field, string as string_field};
use proto::discovery::DeltaDiscoveryRequest;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::session::Response;

// Field numbers of `DeltaDiscoveryResponse`.
const SYSTEM_VERSION_INFO: u32 = 1;
const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
const REMOVED_RESOURCES: u32 = 6;

/// [`DeltaDiscoveryRequest`] in, [`Response`] out.
#[derive(Clone, Copy, Default)]
pub(crate) struct DeltaCodec;

impl Codec for DeltaCodec {
    type Encode = Response;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = DeltaCodec;
    type Decoder = DeltaCodec;

    fn encoder(&mut self) -> DeltaCodec {
        DeltaCodec
    }

    fn decoder(&mut self) -> DeltaCodec {
        DeltaCodec
    }
}

impl Encoder for DeltaCodec {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(encoded_len(&response));
        encode(&response, buffer);
        Ok(())
    }
}

impl Decoder for DeltaCodec {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        DeltaDiscoveryRequest::decode(buffer)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a DeltaDiscoveryRequest: {error}")))
    }
}

fn encode(response: &Response, buffer: &mut impl BufMut) {
    string_field::encode(SYSTEM_VERSION_INFO, &response.revision.to_string(), buffer);
    for resource in &response.resources {
        // An embedded message and bytes are the same on the wire.
        bytes_field::encode(RESOURCES, resource, buffer);
    }
    string_field::encode(TYPE_URL, &response.kind.type_url().to_owned(), buffer);
    string_field::encode(NONCE, &response.nonce, buffer);
    for name in &response.removed {
        string_field::encode(REMOVED_RESOURCES, &name.to_string(), buffer);
    }
}

/// About how long the encoding is; a little more, never less.
fn encoded_len(response: &Response) -> usize {
    const KEY_AND_LENGTH: usize = 11;
    let resources: usize = response
        .resources
        .iter()
        .map(|resource| resource.len() + KEY_AND_LENGTH)
        .sum();
    let removed: usize = response
        .removed
        .iter()
        .map(|name| name.len() + KEY_AND_LENGTH)
        .sum();
    let rest = response.kind.type_url().len() + response.nonce.len() + 20 + 3 * KEY_AND_LENGTH;
    resources + removed + rest
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proto::discovery::{DeltaDiscoveryResponse, Resource};

    use super::*;
    use crate::xds::ResourceKind;

    #[test]
    fn a_response_is_what_prost_would_write() {
        let resource = Resource {
            name: "a".to_owned(),
            version: "1".to_owned(),
            ..Resource::default()
        };
        let response = Response {
            kind: ResourceKind::Address,
            nonce: "n-1".to_owned(),
            revision: 7,
            resources: vec![resource.encode_to_vec().into(), Bytes::new()],
            removed: vec!["b".into(), "c".into()],
        };
        let mut buffer = BytesMut::new();
        encode(&response, &mut buffer);
        assert!(buffer.len() <= encoded_len(&response));
        let read = DeltaDiscoveryResponse::decode(buffer.freeze()).unwrap();
        let expected = DeltaDiscoveryResponse {
            system_version_info: "7".to_owned(),
            resources: vec![resource, Resource::default()],
            type_url: ResourceKind::Address.type_url().to_owned(),
            removed_resources: vec!["b".to_owned(), "c".to_owned()],
            nonce: "n-1".to_owned(),
        };
        assert_eq!(read, expected);
    }
}
