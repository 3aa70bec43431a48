//! Requests on the wire.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use proto::discovery::DeltaDiscoveryRequest;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};

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

/// Reads [`DeltaDiscoveryRequest`]s.
#[derive(Clone, Copy, Default)]
pub(crate) struct RequestDecoder;

impl Decoder for RequestDecoder {
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

#[cfg(test)]
mod tests {
    use proto::discovery::Node;

    use super::*;

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
