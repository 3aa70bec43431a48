//! Objects as YAML files in a directory.
//!
//! ```text
//! DIR/pods/demo/web.yaml          one file per object, status included
//! DIR/nodes/_cluster/node-a.yaml  kinds without a namespace
//! DIR/revision                    counts the transactions
//! DIR/lock                        held (flock) while anything is read or written
//! DIR/journal                     there while a transaction is being put in place
//! DIR/.staging/                   files that are not yet in place
//! ```
//!
//! A transaction is first written to `.staging`, then to `journal`, which is the moment it counts. Then files are
//! renamed into place, the revision is written, and the journal removed. Whoever takes the lock and finds a journal
//! finishes what a writer that was killed had begun; so nobody ever sees half a transaction.

mod cache;
mod journal;
mod layout;
mod lock;
mod notify;
mod patch;
mod scan;
mod stamp;
mod txn;
mod watch;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::BoxStream;
use objects::{Object, ObjectKey};

use self::cache::Cache;
use self::layout::Layout;
use self::lock::Lock;
use crate::{Batch, ObjectSource, SourceError, StoreError};

pub use self::txn::Txn;

/// The largest object that is stored or read, in bytes of YAML.
pub const MAX_OBJECT_BYTES: usize = 1024 * 1024;
/// How many objects a directory may hold.
pub const MAX_OBJECTS: usize = 200_000;

/// A directory of objects, shared by any number of processes.
///
/// Cheap to clone. The calls block on the lock and on files: from async code they belong on a blocking thread
/// (what [`ObjectSource`] and [`crate::ObjectWriter`] return does that by itself).
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

impl Directory {
    /// Opens the directory, and makes it if it does not exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Directory, StoreError> {
        let layout = Layout::create(path.as_ref())?;
        let directory = Directory {
            inner: Arc::new(Inner {
                layout,
                cache: Mutex::default(),
            }),
        };
        // Finishes what a killed writer began, and fails early when the files cannot be used.
        Lock::exclusive(&directory.inner.layout)?;
        Ok(directory)
    }

    /// Where the objects are.
    pub fn path(&self) -> &Path {
        self.inner.layout.root()
    }

    /// How many transactions have changed something.
    pub fn revision(&self) -> Result<u64, StoreError> {
        let _lock = Lock::shared(&self.inner.layout)?;
        self.inner.layout.read_revision()
    }

    /// All objects, in the order of their keys, with the revision at which they were so.
    pub fn list(&self) -> Result<(u64, Vec<Arc<Object>>), StoreError> {
        let _lock = Lock::shared(&self.inner.layout)?;
        let revision = self.inner.layout.read_revision()?;
        Ok((revision, scan::everything(&self.inner)?.into_values().collect()))
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        self.inner.layout.check(key)?;
        let _lock = Lock::shared(&self.inner.layout)?;
        self.inner.load(key)
    }

    /// Stores one object in a transaction of its own; returns it as stored.
    pub fn put(&self, object: Object) -> Result<(Arc<Object>, u64), StoreError> {
        self.transaction(|txn| txn.put(object))
    }

    /// Deletes one object in a transaction of its own; false when there was none.
    pub fn delete(&self, key: &ObjectKey) -> Result<(bool, u64), StoreError> {
        self.transaction(|txn| txn.delete(key))
    }

    /// Does several reads and writes as one: nobody sees some of the writes without the others, and nobody writes
    /// in between. An error from the closure leaves everything as it was.
    ///
    /// Returns the revision of the store afterwards; it is the one before when nothing was changed. The lock is held
    /// while the closure runs: it must not wait for anything, nor use the directory other than through the [`Txn`].
    pub fn transaction<T>(
        &self,
        body: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, u64), StoreError> {
        self.try_transaction(body)
    }

    /// [`Directory::transaction`] for a closure with an error type of its own.
    pub fn try_transaction<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&mut Txn<'_>) -> Result<T, E>,
    ) -> Result<(T, u64), E> {
        let lock = Lock::exclusive(&self.inner.layout)?;
        let before = self.inner.layout.read_revision()?;
        let mut txn = Txn::new(&self.inner, before);
        let value = body(&mut txn)?;
        let revision = txn.commit(&lock)?;
        Ok((value, revision))
    }
}

impl ObjectSource for Directory {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        watch::stream(self.inner.clone())
    }
}

struct Inner {
    layout: Layout,
    cache: Mutex<Cache>,
}

impl Inner {
    /// Reads one object; the caller holds the lock.
    fn load(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        self.cache().load(&self.layout, key)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // The cache is a map that is right entry by entry, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
