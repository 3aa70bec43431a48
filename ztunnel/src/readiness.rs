//! Whether this proxy is ready to serve, and whether it makes progress.
//!
//! Ready: everything that has to be known at the start is known. Alive: no part that works on one thing at a time has
//! been at the same thing for longer than [`STALLED`], and the runtime that moves connections has run its tasks within
//! [`RUNTIME_STALLED`]; a proxy that is not alive is best restarted, one that is not ready only has to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Nothing that this proxy does in one go takes so long; the longest is a pod's drain, which has tasks of its own.
pub(crate) const STALLED: Duration = Duration::from_secs(60);

/// A runtime that runs no task for so long moves no byte either.
pub(crate) const RUNTIME_STALLED: Duration = Duration::from_secs(10);

/// How often the runtime shows that it runs tasks.
const BEAT: Duration = Duration::from_secs(1);

/// The tasks still open, notes on what is in force, and what is being worked on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeSet<&'static str>,
    notes: BTreeMap<&'static str, String>,
    busy: BTreeMap<u64, Work>,
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    with: &'static str,
    since: Instant,
    limit: Duration,
}

impl Readiness {
    /// Blocks readiness until the task is completed.
    pub(crate) fn task(&self, name: &'static str) -> Task {
        self.lock().open.insert(name);
        Task {
            name,
            readiness: self.clone(),
        }
    }

    /// Names of what is not done yet.
    pub(crate) fn open(&self) -> Vec<&'static str> {
        self.lock().open.iter().copied().collect()
    }

    /// Says something of a ready proxy that whoever asks should know. None takes it back.
    pub(crate) fn note(&self, about: &'static str, text: Option<String>) {
        let mut inner = self.lock();
        match text {
            Some(text) => drop(inner.notes.insert(about, text)),
            None => drop(inner.notes.remove(about)),
        }
    }

    /// What is to be known of a ready proxy.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.lock().notes.values().cloned().collect()
    }

    /// Work on one thing begins; it ends when the guard is dropped.
    pub(crate) fn busy(&self, with: &'static str) -> Busy {
        self.busy_within(with, STALLED)
    }

    fn busy_within(&self, with: &'static str, limit: Duration) -> Busy {
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        let since = Instant::now();
        inner.busy.insert(number, Work { with, since, limit });
        Busy {
            number,
            readiness: self.clone(),
        }
    }

    /// What has been worked on for longer than it may take, at `now`.
    pub(crate) fn stalled(&self, now: Instant) -> Vec<&'static str> {
        let inner = self.lock();
        let stalled = |work: &&Work| now.saturating_duration_since(work.since) > work.limit;
        inner
            .busy
            .values()
            .filter(stalled)
            .map(|work| work.with)
            .collect()
    }

    /// Shows for ever that the runtime that this is spawned on runs its tasks.
    pub(crate) async fn beat(self) {
        loop {
            let waiting = self.busy_within("the runtime's tasks", RUNTIME_STALLED);
            tokio::time::sleep(BEAT).await;
            drop(waiting);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.readiness.lock().open.remove(self.name);
    }

    /// As [`Readiness::busy`], for whoever does the task.
    pub(crate) fn busy(&self, with: &'static str) -> Busy {
        self.readiness.busy(with)
    }
}

/// Work that has begun.
#[derive(Debug)]
pub(crate) struct Busy {
    number: u64,
    readiness: Readiness,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.readiness.lock().busy.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_task_is_done_and_notes_come_and_go() {
        let readiness = Readiness::default();
        let (one, other) = (readiness.task("one"), readiness.task("other"));
        one.complete();
        assert_eq!(readiness.open(), ["other"]);
        other.complete();
        other.complete();
        assert!(readiness.open().is_empty());
        readiness.note("state", Some("from disk".into()));
        assert_eq!(readiness.notes(), ["from disk"]);
        readiness.note("state", None);
        assert!(readiness.notes().is_empty());
    }

    #[test]
    fn work_that_does_not_end_is_a_stall_and_waiting_for_work_is_none() {
        let readiness = Readiness::default();
        let begun = Instant::now();
        let at = |seconds| readiness.stalled(begun + Duration::from_secs(seconds));
        drop(readiness.busy("done"));
        let _stuck = readiness.busy("a pod of the node agent");
        assert!(at(1).is_empty());
        assert_eq!(at(120), ["a pod of the node agent"]);
    }
}
