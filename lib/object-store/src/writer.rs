//! Writing what the programs find out.

use futures_util::future::BoxFuture;
use objects::ObjectKey;
use serde_json::{Map, Value};

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

    /// Makes a status what this writer has to say; what others have written in it stays.
    fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: StatusWrite,
    ) -> BoxFuture<'static, Result<u64, WriteError>>;
}

/// All that a writer has to say in the status of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusWrite {
    /// The writer's conditions that the object is to have.
    pub conditions: Vec<Value>,
    /// The types of conditions that are the writer's: of these the object is to have none but `conditions`. All others
    /// are somebody else's.
    pub types: &'static [&'static str],
    /// Other fields of the status that are the writer's alone, such as `addresses`.
    pub fields: Map<String, Value>,
    /// The object is not this writer's any more, and another writer of the same types may have it: of `types` only
    /// what this writer itself has written goes, where the store keeps account of that.
    pub gives_back: bool,
}

impl StatusWrite {
    /// All conditions of an object that has these: those of others as they are, and then the writer's.
    pub fn conditions_among(&self, present: &[Value]) -> Vec<Value> {
        let others = present.iter().filter(|condition| !self.is_ours(condition));
        others.chain(&self.conditions).cloned().collect()
    }

    /// Whether a condition is the writer's by its type.
    pub fn is_ours(&self, condition: &Value) -> bool {
        let kind = condition.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| self.types.contains(&kind))
    }
}
