//! Looking at every file.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use objects::{Kind, Object, ObjectKey};

use super::layout::Layout;
use super::{Inner, MAX_OBJECTS};
use crate::StoreError;

/// All objects; the caller holds the lock.
pub(super) fn everything(inner: &Inner) -> Result<BTreeMap<ObjectKey, Arc<Object>>, StoreError> {
    let mut objects = BTreeMap::new();
    let mut files = HashSet::new();
    let mut cache = inner.cache();
    for folder in folders(&inner.layout)? {
        for file in names(&folder.path)? {
            let Some(key) = Layout::key_of(folder.kind, &folder.namespace, &file) else {
                continue;
            };
            if files.len() == MAX_OBJECTS {
                return Err(StoreError::TooMany { limit: MAX_OBJECTS });
            }
            if let Some(object) = cache.load(&inner.layout, &key)? {
                objects.insert(key.clone(), object);
            }
            files.insert(key);
        }
    }
    cache.retain(|key| files.contains(key));
    Ok(objects)
}

/// A folder with the objects of one kind and namespace.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) namespace: String,
}

/// Every folder that may hold objects.
pub(super) fn folders(layout: &Layout) -> Result<Vec<Folder>, StoreError> {
    let mut folders = Vec::new();
    for kind in Kind::ALL {
        let parent = layout.kind_dir(kind);
        for name in names(&parent)? {
            if let Some(namespace) = Layout::namespace_of(kind, &name) {
                folders.push(Folder {
                    path: parent.join(&name),
                    kind,
                    namespace,
                });
            }
        }
    }
    Ok(folders)
}

/// What a folder holds; nothing when it does not exist.
fn names(path: &Path) -> Result<Vec<OsString>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    entries
        .map(|entry| Ok(entry.map_err(failed)?.file_name()))
        .collect()
}
