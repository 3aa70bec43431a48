//! Discovery on the client's side, as little or as much of it as is wanted: most streams only read what they need for an
//! acknowledgement, as it comes, so that the clients cost less than what is measured, in time and in memory.

use bytes::{Buf, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tonic::Status;
use tonic::codec::{EncodeBuf, Encoder};

/// A response.
#[derive(Debug, Default, PartialEq)]
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

/// What is wrong with a stream of responses.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum SkimError {
    #[error("the response is compressed")]
    Compressed,
    #[error("a field of the response is no text, resource or name, or longer than the response")]
    Field,
    #[error("not a DeltaDiscoveryResponse: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Reads length-prefixed responses from the pieces in which they come, whole ones or only what an acknowledgement needs.
#[derive(Debug)]
pub(super) struct Skim {
    whole: bool,
    /// What is held of the input: at most one message, or without `whole` one short field.
    held: BytesMut,
    /// How much of the current message is still to come, and what is known of it.
    current: Option<(usize, Response)>,
    /// How much of a resource is still to be passed over.
    passing: usize,
}

/// The byte that tells compression, and a length in four.
const PREFIX: usize = 5;
/// How long a field's key and length are at most.
const FIELD_START: usize = 20;

/// The field numbers of `DeltaDiscoveryResponse`.
const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;

impl Skim {
    pub(super) fn new(whole: bool) -> Skim {
        Skim {
            whole,
            held: BytesMut::new(),
            current: None,
            passing: 0,
        }
    }

    /// The responses that end in this piece.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<Vec<Response>, SkimError> {
        let mut ended = Vec::new();
        loop {
            let passed = self.passing.min(piece.len());
            piece.advance(passed);
            self.passing -= passed;
            if let Some((rest, _)) = &mut self.current {
                *rest -= passed;
            }
            if self.passing == 0
                && let Some((_, response)) = self.current.take_if(|(rest, _)| *rest == 0)
            {
                ended.push(response);
                continue;
            }
            if piece.is_empty() {
                return Ok(ended);
            }
            let needed = match &self.current {
                None => PREFIX,
                Some((rest, _)) if self.whole => *rest,
                // As many bytes as say what the next field is, or all of a short one.
                Some(_) => self.held.len() + 1,
            };
            let taken = needed.saturating_sub(self.held.len()).min(piece.len());
            self.held.extend_from_slice(&piece[..taken]);
            piece.advance(taken);
            if self.held.len() >= needed {
                self.advance()?;
            }
        }
    }

    /// Reads what is held, if it is enough.
    fn advance(&mut self) -> Result<(), SkimError> {
        let Some((rest, response)) = &mut self.current else {
            if self.held.get_u8() != 0 {
                return Err(SkimError::Compressed);
            }
            let length = self.held.get_u32() as usize;
            let response = Response {
                bytes: length as u64,
                ..Response::default()
            };
            self.current = Some((length, response));
            return Ok(());
        };
        if self.whole {
            let whole = DeltaDiscoveryResponse::decode(self.held.split())?;
            response.type_url.clone_from(&whole.type_url);
            response.nonce.clone_from(&whole.nonce);
            response.resources = whole.resources.len() as u64;
            response.whole = Some(whole);
            *rest = 0;
            return Ok(());
        }
        let mut field = &self.held[..];
        let start = decode_key(&mut field).and_then(|key| Ok((key, decode_varint(&mut field)?)));
        let Ok(((number, wire_type), length)) = start else {
            let is_hopeless = self.held.len() >= FIELD_START.min(*rest);
            return if is_hopeless {
                Err(SkimError::Field)
            } else {
                Ok(())
            };
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let start = self.held.len() - field.len();
        if wire_type != WireType::LengthDelimited || length > rest.saturating_sub(start) {
            return Err(SkimError::Field);
        }
        if number == TYPE_URL || number == NONCE {
            if field.len() < length {
                return Ok(());
            }
            let text = String::from_utf8_lossy(field).into_owned();
            if number == NONCE {
                response.nonce = text;
            } else {
                response.type_url = text;
            }
        } else {
            response.resources += u64::from(number == RESOURCES);
            self.passing = length;
        }
        *rest -= self.held.len();
        self.held.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
