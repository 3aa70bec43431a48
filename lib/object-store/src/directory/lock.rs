//! The lock that all processes of a directory share.

use std::fs::File;
use std::io;

use super::journal;
use super::layout::Layout;
use crate::StoreError;

/// Held while files are read or written; released when dropped or when the process dies.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// For writing. What a killed writer began is finished first.
    pub(super) fn exclusive(layout: &Layout) -> Result<Lock, StoreError> {
        let lock = Lock::take(layout, File::lock)?;
        journal::recover(layout)?;
        Ok(lock)
    }

    /// For reading; while it is held no transaction is half in place.
    pub(super) fn shared(layout: &Layout) -> Result<Lock, StoreError> {
        loop {
            let lock = Lock::take(layout, File::lock_shared)?;
            if !journal::is_pending(layout) {
                return Ok(lock);
            }
            drop(lock);
            Lock::exclusive(layout)?;
        }
    }

    fn take(layout: &Layout, how: impl Fn(&File) -> io::Result<()>) -> Result<Lock, StoreError> {
        let path = layout.lock();
        // A file of its own for every holder: the lock belongs to the open file, so threads exclude each other too.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(&path);
        let file = file.map_err(|error| StoreError::io("open", &path, error))?;
        loop {
            match how(&file) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("lock", &path, error)),
            }
        }
    }
}
