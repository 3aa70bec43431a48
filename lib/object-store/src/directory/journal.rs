//! Putting a transaction in place so that it can be finished by somebody else.

use std::fs;
use std::io;
use std::path::Path;

use objects::{Kind, ObjectKey};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, create_dir};
use crate::StoreError;

/// What a transaction does: the revision it makes, files to move into place, and objects to remove.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Journal {
    revision: u64,
    puts: Vec<Put>,
    deletes: Vec<Name>,
}

#[derive(Serialize, Deserialize)]
struct Put {
    staged: String,
    object: Name,
}

#[derive(Serialize, Deserialize)]
struct Name {
    kind: String,
    namespace: String,
    name: String,
}

impl Journal {
    pub(super) fn new(revision: u64) -> Journal {
        Journal {
            revision,
            ..Journal::default()
        }
    }

    /// Writes an object's new text where nobody looks yet.
    pub(super) fn stage(&mut self, layout: &Layout, key: &ObjectKey, text: &str) -> Result<(), StoreError> {
        create_dir(&layout.object_dir(key))?;
        let staged = self.puts.len().to_string();
        write(&layout.staging().join(&staged), text)?;
        self.puts.push(Put {
            staged,
            object: Name::of(key),
        });
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        self.deletes.push(Name::of(key));
    }

    /// Makes the transaction count, and puts it in place.
    pub(super) fn commit(self, layout: &Layout) -> Result<(), StoreError> {
        let path = layout.journal();
        let text = serde_json::to_string(&self).map_err(|error| StoreError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        write_by_rename(layout, &path, &text)?;
        self.put_in_place(layout)
    }

    /// May be begun again after being cut off at any point.
    fn put_in_place(&self, layout: &Layout) -> Result<(), StoreError> {
        for put in &self.puts {
            let target = layout.object(&put.object.key(layout)?);
            let staged = layout.staging().join(&put.staged);
            absent_is_done("rename", &staged, fs::rename(&staged, &target))?;
        }
        for name in &self.deletes {
            let target = layout.object(&name.key(layout)?);
            absent_is_done("remove", &target, fs::remove_file(&target))?;
        }
        write_by_rename(layout, &layout.revision(), &format!("{}\n", self.revision))?;
        let journal = layout.journal();
        absent_is_done("remove", &journal, fs::remove_file(&journal))
    }
}

/// Whether a transaction counts but is not wholly in place.
pub(super) fn is_pending(layout: &Layout) -> bool {
    layout.journal().exists()
}

/// Finishes a transaction whose writer was killed; the caller holds the lock for writing.
pub(super) fn recover(layout: &Layout) -> Result<(), StoreError> {
    let path = layout.journal();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    let journal: Journal = serde_json::from_str(&text).map_err(|error| damaged(layout, error.to_string()))?;
    tracing::info!(
        revision = journal.revision,
        "finishing a transaction that was cut off"
    );
    journal.put_in_place(layout)
}

impl Name {
    fn of(key: &ObjectKey) -> Name {
        Name {
            kind: key.kind.plural().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }

    fn key(&self, layout: &Layout) -> Result<ObjectKey, StoreError> {
        let kind: Kind = self
            .kind
            .parse()
            .map_err(|_| damaged(layout, format!("unknown kind {:?}", self.kind)))?;
        let key = ObjectKey::new(kind, &self.namespace, &self.name);
        layout.check(&key)?;
        Ok(key)
    }
}

fn damaged(layout: &Layout, problem: String) -> StoreError {
    StoreError::Damaged {
        path: layout.journal(),
        problem,
    }
}

/// Readers of the target see the old text or the new, never a part.
fn write_by_rename(layout: &Layout, target: &Path, text: &str) -> Result<(), StoreError> {
    let staged = layout.staging().join("next");
    write(&staged, text)?;
    fs::rename(&staged, target).map_err(|error| StoreError::io("write", target, error))
}

fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    fs::write(path, text).map_err(|error| StoreError::io("write", path, error))
}

fn absent_is_done(action: &'static str, path: &Path, result: io::Result<()>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(action, path, error)),
        _ => Ok(()),
    }
}
