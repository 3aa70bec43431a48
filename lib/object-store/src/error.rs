//! What can go wrong, and who has to do something about it.

use std::io;
use std::path::{Path, PathBuf};

use objects::{ObjectKey, ParseErrors};

/// The directory could not be read or written, or was asked for something impossible.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The caller gave an object or key whose name cannot be stored.
    #[error("{key}: {part} {problem}")]
    BadName {
        /// The key.
        key: ObjectKey,
        /// `name` or `namespace`.
        part: &'static str,
        /// What is wrong and what is accepted.
        problem: &'static str,
    },
    /// The caller gave an object that is too large.
    #[error("{key}: {size} bytes is more than the limit of {limit}")]
    TooLarge {
        /// The object.
        key: ObjectKey,
        /// Its size in bytes.
        size: usize,
        /// The limit, [`crate::MAX_OBJECT_BYTES`].
        limit: usize,
    },
    /// There are more objects than a directory may hold.
    #[error("the directory holds more than {limit} objects; delete some")]
    TooMany {
        /// The limit, [`crate::MAX_OBJECTS`].
        limit: usize,
    },
    /// The object would not be readable again after the write.
    #[error("{key}: cannot be stored: {errors}")]
    Invalid {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        errors: ParseErrors,
    },
    /// A file of the store's own (the revision or the journal) is damaged.
    #[error("{path} is damaged ({problem}); stop what uses the directory and remove it with everything in it", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The transaction was given up by who began it; nothing was written.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// A watch is interrupted; it goes on by itself.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel gives no notifications.
    #[error("cannot watch {path}: {source}; raise fs.inotify.max_user_instances or max_user_watches", path = .path.display())]
    Notify {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The objects cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store at the other end of a network does not answer as it should.
    #[error("cannot watch {what}: {problem}")]
    Remote {
        /// Which objects.
        what: String,
        /// Why not, and what to do.
        problem: String,
    },
}

/// A patch was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object does not exist any more, or one of the same name was made after it.
    #[error("{key} with uid {uid} is gone")]
    Gone {
        /// The object.
        key: ObjectKey,
        /// The uid that the caller knew.
        uid: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store at the other end of a network does not take the write. Whether it was written is not known where
    /// there was no answer.
    #[error("cannot write {key}: {problem}")]
    Remote {
        /// The object.
        key: ObjectKey,
        /// Why not, and what to do.
        problem: String,
    },
}
