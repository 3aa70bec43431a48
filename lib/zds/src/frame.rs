//! Records to values and back.

use prost::Message;
use proto::zds::{
    Ack, AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo, WorkloadRequest,
    WorkloadResponse, ZdsHello, workload_request, workload_response,
};

use crate::MAX_RECORD;

#[cfg(test)]
mod tests;

/// Who a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodInfo {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's service account.
    pub service_account: String,
}

/// What an agent sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A pod joins, or has a new network namespace. The namespace's descriptor travels with the record.
    Add {
        /// The pod's uid.
        uid: String,
        /// Who the pod is.
        info: PodInfo,
    },
    /// A pod still exists, but the agent has no descriptor of its namespace. Only before the end of the snapshot.
    Keep {
        /// The pod's uid.
        uid: String,
    },
    /// A pod leaves.
    Del {
        /// The pod's uid.
        uid: String,
    },
    /// The agent has named every pod it knows. Once in a connection.
    SnapshotSent,
}

impl Request {
    /// The uid of the pod that the request is about.
    pub fn uid(&self) -> Option<&str> {
        match self {
            Self::Add { uid, .. } | Self::Keep { uid } | Self::Del { uid } => Some(uid),
            Self::SnapshotSent => None,
        }
    }
}

/// Why a record is not understood, or cannot be written. The peer is at fault, except for [`FrameError::TooLong`]
/// on writing, where a pod's names are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_RECORD`] bytes.
    #[error("the record has {length} bytes, ZDS allows {MAX_RECORD}: shorten the pod's names")]
    TooLong {
        /// Bytes in the record.
        length: usize,
    },
    /// Not the protobuf message that stands at this place of the protocol.
    #[error("the record is no {expected}: {reason}; check that both ends speak ZDS version 1")]
    Undecodable {
        /// The message that was expected.
        expected: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// A hello of another version.
    #[error("the peer speaks ZDS version {version}, only version 1 is supported: upgrade the older side")]
    Version {
        /// The number it gave.
        version: i32,
    },
    /// A message without the payload that says what it is, or with one of a later version.
    #[error("the {message} has no payload that ZDS version 1 knows")]
    NoPayload {
        /// The message.
        message: &'static str,
    },
    /// An addition that does not say who the pod is.
    #[error("AddWorkload for pod uid {uid:?} has no workload_info")]
    NoInfo {
        /// The pod's uid.
        uid: String,
    },
    /// A request about a pod without saying which.
    #[error("the {message} has no uid")]
    NoUid {
        /// The message.
        message: &'static str,
    },
}

impl FrameError {
    /// Whether the record was a whole message, so that the request can be refused and the connection go on.
    pub fn is_refusable(&self) -> bool {
        matches!(
            self,
            Self::NoPayload { .. } | Self::NoInfo { .. } | Self::NoUid { .. }
        )
    }
}

/// The proxy's first record.
pub fn encode_hello() -> Vec<u8> {
    ZdsHello {
        version: Version::V1.into(),
    }
    .encode_to_vec()
}

/// Reads the proxy's first record.
pub fn decode_hello(record: &[u8]) -> Result<(), FrameError> {
    let hello: ZdsHello = decode("ZdsHello", record)?;
    if hello.version == i32::from(Version::V1) {
        Ok(())
    } else {
        Err(FrameError::Version {
            version: hello.version,
        })
    }
}

/// Writes a request. Fails only when the pod's names make it too long.
pub fn encode_request(request: &Request) -> Result<Vec<u8>, FrameError> {
    use workload_request::Payload;
    let payload = match request {
        Request::Add { uid, info } => Payload::Add(AddWorkload {
            uid: uid.clone(),
            workload_info: Some(WorkloadInfo {
                name: info.name.clone(),
                namespace: info.namespace.clone(),
                service_account: info.service_account.clone(),
            }),
        }),
        Request::Keep { uid } => Payload::Keep(KeepWorkload { uid: uid.clone() }),
        Request::Del { uid } => Payload::Del(DelWorkload { uid: uid.clone() }),
        Request::SnapshotSent => Payload::SnapshotSent(SnapshotSent {}),
    };
    let record = WorkloadRequest {
        payload: Some(payload),
    }
    .encode_to_vec();
    check_length(&record)?;
    Ok(record)
}

/// Reads a request.
pub fn decode_request(record: &[u8]) -> Result<Request, FrameError> {
    use workload_request::Payload;
    let request: WorkloadRequest = decode("WorkloadRequest", record)?;
    let payload = request.payload.ok_or(FrameError::NoPayload {
        message: "WorkloadRequest",
    })?;
    match payload {
        Payload::Add(AddWorkload { uid, workload_info }) => {
            let uid = known_uid("AddWorkload", uid)?;
            let Some(info) = workload_info else {
                return Err(FrameError::NoInfo { uid });
            };
            Ok(Request::Add {
                uid,
                info: PodInfo {
                    name: info.name,
                    namespace: info.namespace,
                    service_account: info.service_account,
                },
            })
        }
        Payload::Keep(KeepWorkload { uid }) => Ok(Request::Keep {
            uid: known_uid("KeepWorkload", uid)?,
        }),
        Payload::Del(DelWorkload { uid }) => Ok(Request::Del {
            uid: known_uid("DelWorkload", uid)?,
        }),
        Payload::SnapshotSent(SnapshotSent {}) => Ok(Request::SnapshotSent),
    }
}

/// Writes the answer to a request. A long error is cut so that the record fits; an empty one would mean success,
/// so it is replaced.
pub fn encode_answer(result: Result<(), &str>) -> Vec<u8> {
    // The tags and lengths around the text take less than this.
    const ENVELOPE: usize = 16;
    let error = match result {
        Ok(()) => String::new(),
        Err("") => "refused without a reason".to_owned(),
        Err(error) => cut(error, MAX_RECORD - ENVELOPE).to_owned(),
    };
    let payload = workload_response::Payload::Ack(Ack { error });
    WorkloadResponse {
        payload: Some(payload),
    }
    .encode_to_vec()
}

/// Reads the answer to a request: the outer result says whether the record is an answer, the inner one what the
/// proxy says.
pub fn decode_answer(record: &[u8]) -> Result<Result<(), String>, FrameError> {
    let response: WorkloadResponse = decode("WorkloadResponse", record)?;
    match response.payload {
        Some(workload_response::Payload::Ack(Ack { error })) if error.is_empty() => Ok(Ok(())),
        Some(workload_response::Payload::Ack(Ack { error })) => Ok(Err(error)),
        None => Err(FrameError::NoPayload {
            message: "WorkloadResponse",
        }),
    }
}

fn decode<M: Message + Default>(expected: &'static str, record: &[u8]) -> Result<M, FrameError> {
    check_length(record)?;
    M::decode(record).map_err(|error| FrameError::Undecodable {
        expected,
        reason: error.to_string(),
    })
}

fn check_length(record: &[u8]) -> Result<(), FrameError> {
    if record.len() > MAX_RECORD {
        Err(FrameError::TooLong { length: record.len() })
    } else {
        Ok(())
    }
}

fn known_uid(message: &'static str, uid: String) -> Result<String, FrameError> {
    if uid.is_empty() {
        Err(FrameError::NoUid { message })
    } else {
        Ok(uid)
    }
}

/// The longest prefix of at most `limit` bytes that ends between two characters.
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}
