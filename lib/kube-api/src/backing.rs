//! Objects that somebody else keeps, and others write as well.

use std::sync::Arc;

use serde_json::Value;

use crate::kinds::resource_id;
use crate::status::StatusError;
use crate::store::Key;

/// Keeps the objects of some resources in place of the store's memory. The store makes each step on one of them there,
/// and shows by its watches what others do to them once it is told to look ([`crate::Store::refresh`]).
///
/// Revisions stay the store's own: the `metadata.resourceVersion` of what is kept here is of no account.
pub trait Backing: Send + Sync + 'static {
    /// Whether this resource (`pods`, `peerauthentications.security.istio.io`) is kept here.
    fn keeps(&self, resource: &str) -> bool;

    /// One step on one object, while nobody else changes any: `step` is given the object as it is, and says what is to
    /// become of it. Returns what is there afterwards.
    ///
    /// Objects are given and taken with or without `apiVersion` and `kind`; what is put has neither.
    ///
    /// # Errors
    /// Those of `step`, and why what it wants cannot be done; nothing is changed then.
    fn exchange(
        &self,
        key: &Key,
        step: &mut dyn FnMut(Option<&Value>) -> Result<Exchange, StatusError>,
    ) -> Result<Option<Value>, StatusError>;
}

/// What a step does with its object.
#[derive(Clone, Debug, PartialEq)]
pub enum Exchange {
    /// Nothing.
    Keep,
    /// This is to be there.
    Put(Value),
    /// Nothing is to be there.
    Remove,
}

/// A [`Backing`] that is there, or not.
#[derive(Clone, Default)]
pub(crate) struct Elsewhere(pub(crate) Option<Arc<dyn Backing>>);

impl Elsewhere {
    pub(crate) fn of(&self, key: &Key) -> Option<Arc<dyn Backing>> {
        self.0
            .as_ref()
            .filter(|backing| backing.keeps(&key.resource))
            .cloned()
    }
}

/// The name of a resource as stores know it, by group (empty for the core group) and plural.
pub fn resource(group: &str, plural: &str) -> String {
    resource_id(group, plural)
}
