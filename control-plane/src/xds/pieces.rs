//! Responses on the wire. A response is put together from resources that were encoded before, the same bytes for every
//! client, and piece by piece: a whole one may be a hundred megabytes, and a thousand clients may come at once.

use super::session::Response;
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{bytes as bytes_field, string as string_field};

// Field numbers of `DeltaDiscoveryResponse`.
const SYSTEM_VERSION_INFO: u32 = 1;
pub(crate) const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
const REMOVED_RESOURCES: u32 = 6;

/// About how long a piece is, in bytes; one resource is never divided.
const PIECE: usize = 64 * 1024;
/// The byte that says that a message is not compressed, and its length in four.
const PREFIX: usize = 5;

/// A response as a length-prefixed message of gRPC, in pieces.
pub(crate) struct Pieces {
    response: Response,
    /// What comes before the resources, while it is to come.
    head: Option<BytesMut>,
    /// How many resources were told.
    told: usize,
    /// How many removals were told.
    removed: usize,
}

/// A response that is longer than gRPC can say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a response of {0} bytes is longer than gRPC allows")]
pub(crate) struct TooLong(usize);

impl Pieces {
    pub(crate) fn new(response: Response) -> Result<Pieces, TooLong> {
        let mut fields = BytesMut::new();
        string_field::encode(SYSTEM_VERSION_INFO, &response.revision.to_string(), &mut fields);
        string_field::encode(TYPE_URL, &response.kind.type_url().to_owned(), &mut fields);
        string_field::encode(NONCE, &response.nonce, &mut fields);
        let removed = response.removed.iter();
        let removed: usize = removed
            .map(|name| string_field::encoded_len(REMOVED_RESOURCES, &name.to_string()))
            .sum();
        let length = fields.len() + response.resources.encoded_len() + removed;
        let mut head = BytesMut::with_capacity(PREFIX + fields.len());
        head.put_u8(0);
        head.put_u32(u32::try_from(length).map_err(|_| TooLong(length))?);
        head.put(fields);
        Ok(Pieces {
            response,
            head: Some(head),
            told: 0,
            removed: 0,
        })
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = self.head.take().unwrap_or_default();
        while piece.len() < PIECE {
            if let Some(resource) = self.response.resources.get(self.told) {
                // One allocation a piece, as long as resources are shorter.
                piece.reserve(PIECE.saturating_sub(piece.len()));
                // An embedded message and bytes are the same on the wire.
                bytes_field::encode(RESOURCES, resource, &mut piece);
                self.told += 1;
            } else if let Some(name) = self.response.removed.get(self.removed) {
                string_field::encode(REMOVED_RESOURCES, &name.to_string(), &mut piece);
                self.removed += 1;
            } else {
                break;
            }
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

#[cfg(test)]
mod tests;
