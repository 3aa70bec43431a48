//! Objects that were read before, so that a file is parsed only when it changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use objects::{Object, ObjectKey};

use super::MAX_OBJECT_BYTES;
use super::layout::Layout;
use super::stamp::Stamp;
use crate::StoreError;

/// Bounded by the number of files, [`super::MAX_OBJECTS`].
#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<ObjectKey, Entry>,
}

struct Entry {
    stamp: Stamp,
    read_at: SystemTime,
    /// The last good version; `None` for a file that never was good.
    object: Option<Arc<Object>>,
    /// What is wrong with the file as it is.
    problem: Option<String>,
}

impl Cache {
    /// The object as its file has it now; the last good version while the file is damaged, or for a policy that has
    /// none what refuses everything in its place ([`Object::closed`]); `None` when there is no file. The same `Arc` is returned as long as the file does not change. The caller holds the lock.
    pub(super) fn load(
        &mut self,
        layout: &Layout,
        key: &ObjectKey,
    ) -> Result<Option<Arc<Object>>, StoreError> {
        let path = layout.object(key);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => {
                self.entries.remove(key);
                return Ok(None);
            }
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let stamp = Stamp::of(&metadata);
        if let Some(entry) = self.entries.get(key)
            && entry.stamp == stamp
            && stamp.is_settled(entry.read_at)
        {
            return Ok(entry.object.clone());
        }
        let read_at = SystemTime::now();
        let read = read(&path, key);
        let entry = self.entries.entry(key.clone()).or_insert(Entry {
            stamp,
            read_at,
            object: None,
            problem: None,
        });
        entry.stamp = stamp;
        entry.read_at = read_at;
        match read {
            Ok(object) => {
                entry.problem = None;
                let same = entry.object.as_ref().is_some_and(|old| old.raw() == object.raw());
                if !same {
                    entry.object = Some(Arc::new(object));
                }
            }
            Err(problem) => {
                // Said once for each way of being damaged.
                if entry.problem.as_ref() != Some(&problem) {
                    let kept = match &entry.object {
                        Some(object) if !object.is_placeholder() => "its last good version",
                        _ => {
                            // A policy that vanishes could open what it closed.
                            entry.object = Object::closed(key, &problem).map(Arc::new);
                            entry
                                .object
                                .as_ref()
                                .map_or("nothing", |_| "a policy that closes")
                        }
                    };
                    tracing::warn!(file = %path.display(), "ignoring a damaged file, keeping {kept}: {problem}");
                    entry.problem = Some(problem);
                }
            }
        }
        Ok(entry.object.clone())
    }

    /// How many files are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets files that are not there any more.
    pub(super) fn retain(&mut self, exists: impl Fn(&ObjectKey) -> bool) {
        self.entries.retain(|key, _| exists(key));
    }

    /// Remembers what was just written under the lock.
    pub(super) fn written(&mut self, layout: &Layout, key: &ObjectKey, object: &Arc<Object>) {
        // Without a stamp there is nothing to compare with: the file is read when it is asked for.
        if let Ok(metadata) = std::fs::symlink_metadata(layout.object(key)) {
            let entry = Entry {
                stamp: Stamp::of(&metadata),
                read_at: SystemTime::now(),
                object: Some(object.clone()),
                problem: None,
            };
            self.entries.insert(key.clone(), entry);
        }
    }
}

/// One object from a file, or what is wrong with the file.
fn read(path: &Path, key: &ObjectKey) -> Result<Object, String> {
    let text = read_bounded(path)?;
    let file = path.display().to_string();
    objects::parse_stored(&file, &text, key).map_err(|errors| errors.to_string())
}

fn read_bounded(path: &Path) -> Result<String, String> {
    // Neither a link nor a pipe that somebody put there is followed or waited for.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = String::new();
    let limit = MAX_OBJECT_BYTES as u64;
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    Ok(text)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
