//! Requests and responses on the wire. A response is put together from resources that were encoded before, the same
//! bytes for every client.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, bytes as bytes_field, decode_key, skip_field, string as string_field};
use prost::{DecodeError, Message};
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

// Field numbers of `DeltaDiscoveryRequest`.
const NODE: u32 = 1;
const SUBSCRIBE: u32 = 3;
const UNSUBSCRIBE: u32 = 4;
const INITIAL_VERSIONS: u32 = 5;
const ERROR_DETAIL: u32 = 7;

/// How many names one request may hold, of all sorts. A proxy that comes back names what it has.
const MAX_NAMES: usize = 1 << 20;
/// How long Node and the words of a rejection may be together, in bytes. Ours are at most a quarter of that.
const MAX_WORDS: usize = 256 * 1024;

/// A request that is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("not a DeltaDiscoveryRequest: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the request holds more than {MAX_NAMES} names; at most so many are read")]
    Names,
    #[error("Node and error_detail have more than {MAX_WORDS} bytes; at most so many are read")]
    Words,
}

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
        let request = decode(buffer.copy_to_bytes(buffer.remaining()));
        request.map(Some).map_err(|error| match error {
            RequestError::Malformed(_) => Status::invalid_argument(error.to_string()),
            RequestError::Names | RequestError::Words => Status::resource_exhausted(error.to_string()),
        })
    }
}

/// Reads a request, unless it would take far more room in memory than on the wire: a name of no bytes, or a value in
/// Node, is two bytes there and dozens here.
pub(crate) fn decode(message: Bytes) -> Result<DeltaDiscoveryRequest, RequestError> {
    let (mut names, mut words) = (0, 0);
    let mut rest = &message[..];
    while rest.has_remaining() {
        let (field, wire_type) = decode_key(&mut rest)?;
        let before = rest.remaining();
        skip_field(wire_type, field, &mut rest, DecodeContext::default())?;
        match field {
            SUBSCRIBE | UNSUBSCRIBE | INITIAL_VERSIONS => names += 1,
            NODE | ERROR_DETAIL => words += before - rest.remaining(),
            _ => {}
        }
    }
    if names > MAX_NAMES {
        return Err(RequestError::Names);
    }
    if words > MAX_WORDS {
        return Err(RequestError::Words);
    }
    Ok(DeltaDiscoveryRequest::decode(message)?)
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
    use bytes::BytesMut;
    use proto::discovery::{DeltaDiscoveryResponse, Node, Resource};

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

    #[test]
    fn a_request_is_what_prost_would_read() {
        let request = DeltaDiscoveryRequest {
            node: Some(Node {
                id: "id".to_owned(),
                ..Node::default()
            }),
            resource_names_subscribe: vec!["a".to_owned(), String::new()],
            initial_resource_versions: [("b".to_owned(), "1".to_owned())].into(),
            ..DeltaDiscoveryRequest::default()
        };
        assert_eq!(decode(request.encode_to_vec().into()).unwrap(), request);
        assert!(matches!(
            decode(Bytes::from_static(&[0x0a, 0x7f])),
            Err(RequestError::Malformed(_))
        ));
    }

    /// Two bytes of the wire each, and as a value in memory many times as many.
    #[test]
    fn a_request_that_would_fill_the_memory_is_not_read() {
        let name_of_no_bytes = [(SUBSCRIBE as u8) << 3 | 2, 0];
        let names = |count| Bytes::from(name_of_no_bytes.repeat(count));
        assert_eq!(
            decode(names(MAX_NAMES)).unwrap().resource_names_subscribe.len(),
            MAX_NAMES
        );
        assert!(matches!(decode(names(MAX_NAMES + 1)), Err(RequestError::Names)));
        // What comes in many parts is merged into one.
        let node = Node {
            id: "x".repeat(100),
            ..Node::default()
        };
        let part = DeltaDiscoveryRequest {
            node: Some(node),
            ..DeltaDiscoveryRequest::default()
        };
        let part = part.encode_to_vec();
        let many = part.repeat(MAX_WORDS / (part.len() - 1) + 1);
        assert!(matches!(decode(many.into()), Err(RequestError::Words)));
    }
}
