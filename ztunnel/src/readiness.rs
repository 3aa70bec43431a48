//! What has to be done before this proxy says that it is ready.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tasks still open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    open: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Readiness {
    /// Blocks readiness until the task is completed.
    pub(crate) fn task(&self, name: &'static str) -> Task {
        self.lock().insert(name);
        Task {
            name,
            readiness: self.clone(),
        }
    }

    /// Names of what is not done yet.
    pub(crate) fn open(&self) -> Vec<&'static str> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing to be done.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    name: &'static str,
    readiness: Readiness,
}

impl Task {
    /// It is done. Again is harmless.
    pub(crate) fn complete(&self) {
        self.readiness.lock().remove(self.name);
    }
}
