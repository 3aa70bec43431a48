//! The protocol without I/O.

use bytes::Bytes;

/// A resource that is new or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceUpdate {
    /// The resource's name.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// Its version, opaque.
    pub version: String,
    /// The encoded message, without the envelope that names its type.
    pub payload: Bytes,
}

/// What one response changes. Apply `resources` first, then `removed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The type of everything in it.
    pub type_url: String,
    /// New or changed resources, each name once.
    pub resources: Vec<ResourceUpdate>,
    /// Names of resources that no longer exist; also such that were never held.
    pub removed: Vec<String>,
}

/// A resource that the handler does not accept. It goes into the answer to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The resource's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}
