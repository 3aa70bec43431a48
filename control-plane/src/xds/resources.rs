//! The resources of one response: its own, or all of a table, which all clients that know nothing yet share.

use std::sync::Arc;

use bytes::Bytes;

use super::table::Whole;

/// The resources of one response, encoded.
#[derive(Clone, Debug)]
pub(crate) enum Resources {
    These(Vec<Bytes>),
    All(Arc<Whole>),
}

impl Resources {
    pub(crate) fn len(&self) -> usize {
        match self {
            Resources::These(these) => these.len(),
            Resources::All(whole) => whole.resources().len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Bytes> {
        match self {
            Resources::These(these) => these.get(at),
            Resources::All(whole) => whole.resources().get(at).map(|resource| &resource.encoded),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// How long the resources are on the wire, in bytes, each with what the field that it is in adds.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Resources::These(these) => these.iter().map(field_len).sum(),
            Resources::All(whole) => whole.encoded_len(),
        }
    }
}

/// How long a resource is as a field of a response, in bytes.
pub(crate) fn field_len(resource: &Bytes) -> usize {
    prost::encoding::bytes::encoded_len(super::pieces::RESOURCES, resource)
}

impl PartialEq for Resources {
    fn eq(&self, other: &Resources) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Resources {}
