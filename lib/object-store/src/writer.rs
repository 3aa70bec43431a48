//! Writing what the programs find out.

use futures_util::future::BoxFuture;
use objects::ObjectKey;
use serde_json::Value;

use crate::WriteError;

/// Something that takes annotations and status for objects that it holds.
///
/// Both calls name the object's uid: an object that was deleted and made again under the same name is another
/// object, and is not written ([`WriteError::Gone`]). Both return the revision of the store after the write: a
/// [`crate::Batch`] of the same store with this revision or a later one holds it. A patch that changes nothing writes
/// nothing and returns the present revision.
pub trait ObjectWriter: Send + Sync + 'static {
    /// Sets an annotation, or removes it when there is no value.
    fn patch_annotation(
        &self,
        key: &ObjectKey,
        uid: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> BoxFuture<'static, Result<u64, WriteError>>;

    /// Merges into the status by RFC 7386 (JSON merge patch): objects are merged, `null` removes, everything else
    /// (lists too) replaces.
    ///
    /// A caller gives always the same fields, with all that it has to say: a store may keep account of who said what
    /// (server-side apply does), and takes away what its caller said before and does not say any more. Conditions of
    /// others that are given as they are stay those of the others.
    fn patch_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Value,
    ) -> BoxFuture<'static, Result<u64, WriteError>>;
}
