//! Discovery on the client's side, as little or as much of it as is wanted: most streams only read what they need for an
//! acknowledgement, so that the clients cost less than what is measured.

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A response.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// How many resources it carries.
    pub(super) resources: u64,
    /// Its bytes on the wire, without what gRPC and TLS add.
    pub(super) bytes: u64,
    /// All of it, for who checks it.
    pub(super) whole: Option<DeltaDiscoveryResponse>,
}

/// Reads whole responses, or only what an acknowledgement needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skim {
    pub(super) whole: bool,
}

impl Codec for Skim {
    type Encode = DeltaDiscoveryRequest;
    type Decode = Response;
    type Encoder = Writer;
    type Decoder = Skim;

    fn encoder(&mut self) -> Writer {
        Writer
    }

    fn decoder(&mut self) -> Skim {
        *self
    }
}

/// Writes requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer;

impl Encoder for Writer {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn encode(&mut self, request: DeltaDiscoveryRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request
            .encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Skim {
    type Item = Response;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Response>, Status> {
        let bytes = buffer.remaining() as u64;
        let mut response = if self.whole {
            let whole = DeltaDiscoveryResponse::decode(buffer).map_err(failed)?;
            Response {
                type_url: whole.type_url.clone(),
                nonce: whole.nonce.clone(),
                resources: whole.resources.len() as u64,
                bytes: 0,
                whole: Some(whole),
            }
        } else {
            skim(buffer)?
        };
        response.bytes = bytes;
        Ok(Some(response))
    }
}

fn failed(error: prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// The field numbers of `DeltaDiscoveryResponse`.
const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;

fn skim(buffer: &mut impl Buf) -> Result<Response, Status> {
    let mut response = Response::default();
    while buffer.has_remaining() {
        let (field, wire_type) = decode_key(buffer).map_err(failed)?;
        if wire_type != WireType::LengthDelimited {
            prost::encoding::skip_field(wire_type, field, buffer, Default::default()).map_err(failed)?;
            continue;
        }
        let length = usize::try_from(decode_varint(buffer).map_err(failed)?).unwrap_or(usize::MAX);
        if length > buffer.remaining() {
            return Err(Status::internal("a field is longer than its message"));
        }
        match field {
            TYPE_URL | NONCE => {
                let text = String::from_utf8_lossy(&buffer.copy_to_bytes(length)).into_owned();
                if field == NONCE {
                    response.nonce = text;
                } else {
                    response.type_url = text;
                }
            }
            _ => {
                response.resources += u64::from(field == RESOURCES);
                buffer.advance(length);
            }
        }
    }
    Ok(response)
}
