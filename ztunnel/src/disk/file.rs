//! The file: a line that says what it is, a digest of the rest, a header as JSON, and two discovery responses, first
//! workloads and services, then policies.

use super::{Entry, Scope, Stored};
use aws_lc_rs::digest;
use prost::Message;
use proto::discovery::{DeltaDiscoveryResponse, Resource};
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xds_client::{ResourceUpdate, Unreadable, Update};

/// The first line; another format has another one.
const MAGIC: &[u8] = b"ztunnel state 1\n";
/// SHA-256.
const DIGEST: usize = 32;

/// Why a file is not used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum FileError {
    #[error("it is not a state file of this version")]
    Format,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it belongs to {theirs}, this proxy to {ours}")]
    Scope { theirs: String, ours: String },
    #[error("it is {} s old, more than the {} s of ZTUNNEL_STATE_MAX_AGE", .age.as_secs(), .limit.as_secs())]
    TooOld { age: Duration, limit: Duration },
    #[error("it was written in the future; the clock of this node has been set back")]
    Future,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// When it was written.
    pub(crate) written: SystemTime,
    /// Workloads and services.
    pub(crate) addresses: Update,
    /// Policies.
    pub(crate) policies: Update,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    /// Seconds since 1970.
    written: u64,
    scope: Scope,
}

/// The bytes of a file.
pub(crate) fn encode(
    scope: &Scope,
    written: SystemTime,
    addresses: &Stored,
    policies: &Stored,
) -> Result<Vec<u8>, serde_json::Error> {
    let written = written
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let header = Header {
        written,
        scope: scope.clone(),
    };
    let header = serde_json::to_vec(&header)?;
    let mut bytes = MAGIC.to_vec();
    bytes.resize(content_at(), 0);
    header.encode_length_delimited(&mut bytes).ok();
    for (type_url, stored) in [(ADDRESS_TYPE_URL, addresses), (AUTHORIZATION_TYPE_URL, policies)] {
        let resource = |(name, entry): (&String, &Entry)| match entry {
            Entry::Message { version, payload } => Resource {
                name: name.clone(),
                version: version.clone(),
                resource: Some(prost_types::Any {
                    type_url: type_url.to_owned(),
                    value: payload.to_vec(),
                }),
                ..Resource::default()
            },
            Entry::Unreadable { aliases } => Resource {
                name: name.clone(),
                aliases: aliases.clone(),
                ..Resource::default()
            },
        };
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            resources: stored.iter().map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        // A vector grows, so there is always room.
        response.encode_length_delimited(&mut bytes).ok();
    }
    let digest = digest_of(&bytes[content_at()..]);
    bytes[MAGIC.len()..content_at()].copy_from_slice(&digest);
    Ok(bytes)
}

/// Reads a file's bytes and holds them to what this proxy may use.
pub(crate) fn decode(
    bytes: &[u8],
    scope: &Scope,
    now: SystemTime,
    limit: Duration,
) -> Result<Loaded, FileError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(FileError::Format)?;
    let (expected, mut rest) = rest
        .split_at_checked(DIGEST)
        .ok_or(FileError::Damaged("it ends early"))?;
    if digest_of(rest) != expected {
        return Err(FileError::Damaged("its digest does not fit"));
    }
    let unread = |_| FileError::Damaged("it cannot be read");
    let header = Vec::<u8>::decode_length_delimited(&mut rest).map_err(unread)?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| FileError::Damaged("its header cannot be read"))?;
    if header.scope != *scope {
        return Err(FileError::Scope {
            theirs: header.scope.to_string(),
            ours: scope.to_string(),
        });
    }
    let written = UNIX_EPOCH
        .checked_add(Duration::from_secs(header.written))
        .ok_or(FileError::Future)?;
    // A second is lost in writing.
    let age = (now + Duration::from_secs(1))
        .duration_since(written)
        .map_err(|_| FileError::Future)?;
    if age > limit {
        return Err(FileError::TooOld { age, limit });
    }
    let mut lists = Vec::new();
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        let response = DeltaDiscoveryResponse::decode_length_delimited(&mut rest).map_err(unread)?;
        if response.type_url != type_url {
            return Err(FileError::Damaged("its parts are in another order"));
        }
        let mut update = Update {
            type_url: response.type_url,
            ..Update::default()
        };
        for resource in response.resources {
            match resource.resource {
                Some(body) => update.resources.push(ResourceUpdate {
                    name: resource.name,
                    aliases: Vec::new(),
                    version: resource.version,
                    payload: body.value.into(),
                }),
                None => update.unreadable.push(Unreadable {
                    name: resource.name,
                    aliases: resource.aliases,
                    reason: "came without a message of its type before this proxy was started".to_owned(),
                }),
            }
        }
        lists.push(update);
    }
    let policies = lists.pop().unwrap_or_default();
    let addresses = lists.pop().unwrap_or_default();
    Ok(Loaded {
        written,
        addresses,
        policies,
    })
}

/// Where the content begins, behind its digest.
pub(crate) const fn content_at() -> usize {
    MAGIC.len() + DIGEST
}

pub(crate) fn digest_of(content: &[u8]) -> [u8; DIGEST] {
    let mut bytes = [0; DIGEST];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    bytes
}
