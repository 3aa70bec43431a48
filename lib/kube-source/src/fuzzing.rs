//! Reading an object of a list or a watch as a function of bytes, for the fuzz target.

use std::sync::Arc;

use objects::{Kind, Object, ObjectKey};

use crate::item::Item;
use crate::read::{self, Seen};

/// The object that this JSON is, where it has a name, or what is wrong with it; read twice it is the same.
pub fn object(kind: Kind, json: &[u8]) -> Option<(ObjectKey, Result<Arc<Object>, String>)> {
    let item: Item = serde_json::from_slice(json).ok()?;
    let version = kind.api_versions()[0];
    let again = read::read(kind, version, item.clone());
    let Seen { key, object, .. } = read::read(kind, version, item)?;
    if let (
        Ok(one),
        Some(Seen {
            object: Ok(other), ..
        }),
    ) = (&object, &again)
    {
        assert_eq!(one.key(), key, "an object is what it was asked for as");
        assert!(read::same(one, other));
    }
    Some((key, object))
}
