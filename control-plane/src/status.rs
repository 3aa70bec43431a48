//! Telling users on their objects what became of them: writes what compiling yields into their status: conditions, and
//! the addresses that were chosen for hosts of ServiceEntries.
//!
//! Serving never waits for this: what is to be written waits in a queue, once for each object, and a task of its own
//! writes it. A condition that an object has already is not written, so that writing, which the source tells of as of
//! any change, comes to rest.

mod conditions;
mod queue;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use compile::Condition;
use object_store::{ObjectWriter, StoreChange, StoreError, WriteError};
use objects::{AllocatedAddress, ObjectKey};
use telemetry::ControlPlaneMetrics;
use tokio::sync::Notify;

use self::queue::{Next, Queue};
use crate::events::Events;

/// Takes what is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Conditions {
    shared: Arc<Shared>,
}

/// Where it goes.
#[derive(Clone)]
pub(crate) struct Tell {
    /// Onto the objects; without, only Events tell.
    pub(crate) writer: Option<Arc<dyn ObjectWriter>>,
    /// What a user must see.
    pub(crate) events: Option<Events>,
    pub(crate) metrics: ControlPlaneMetrics,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
}

impl Conditions {
    /// For a writer, or for Events alone.
    pub(crate) fn new(writes: bool) -> Conditions {
        let conditions = Conditions::default();
        conditions.queue().only_tells = !writes;
        conditions
    }

    /// The objects are now so.
    pub(crate) fn apply(&self, changes: &[StoreChange]) {
        let mut queue = self.queue();
        for change in changes {
            match change {
                StoreChange::Put(object) => queue.put(object),
                StoreChange::Delete(key) => queue.delete(key),
            }
        }
    }

    /// These objects are to have exactly these conditions of ours.
    pub(crate) fn want(&self, conditions: BTreeMap<ObjectKey, Vec<Condition>>) {
        let mut queue = self.queue();
        for (key, conditions) in conditions {
            if !queue.want(&key, conditions) {
                tracing::warn!(%key, "its status is not written: {} wait already", queue::MAX_WAITING);
            }
        }
        self.shared.more.notify_one();
    }

    /// These objects are not ours, or not any more: what is ours on them is to go, and nothing that another control plane
    /// has written since.
    pub(crate) fn leave(&self, keys: &[ObjectKey]) {
        let mut queue = self.queue();
        leave(&mut queue, keys);
        drop(queue);
        self.shared.more.notify_one();
    }

    /// As [`leave`](Conditions::leave), for all objects with conditions of ours but these: they may have been left while
    /// nobody looked.
    pub(crate) fn leave_all_but(&self, is_ours: impl Fn(&ObjectKey) -> bool) {
        let mut queue = self.queue();
        let others = queue.with_conditions().filter(|key| !is_ours(key));
        let others: Vec<ObjectKey> = others.cloned().collect();
        leave(&mut queue, &others);
        drop(queue);
        self.shared.more.notify_one();
    }

    /// The statuses of these ServiceEntries are to list exactly these addresses.
    pub(crate) fn want_addresses(&self, addresses: &BTreeMap<ObjectKey, Vec<AllocatedAddress>>) {
        if addresses.is_empty() {
            return;
        }
        let mut queue = self.queue();
        for (key, addresses) in addresses {
            if !queue.want_addresses(key, addresses) {
                tracing::warn!(%key, "its addresses are not written: {} wait already", queue::MAX_WAITING);
            }
        }
        self.shared.more.notify_one();
    }

    /// Writes what is wanted, until the future is dropped.
    pub(crate) async fn write(self, tell: Tell) {
        loop {
            let next = self.queue().next(Instant::now(), SystemTime::now());
            let until = match next {
                Next::Write(write) => {
                    let result = match &tell.writer {
                        Some(writer) => {
                            let result = writer.write_status(&write.key, &write.uid, write.status()).await;
                            tell.metrics.status_written(outcome(&result));
                            result
                        }
                        None => Ok(0),
                    };
                    if result.is_ok()
                        && let Some(events) = &tell.events
                    {
                        for notice in conditions::notices(&write.key, &write.uid, &write.conditions) {
                            events.record(notice);
                        }
                    }
                    self.written(write, result);
                    continue;
                }
                Next::Wait(until) => until,
            };
            let retry = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.more.notified() => {}
                () = retry => {}
            }
        }
    }

    fn written(&self, write: queue::Write, result: Result<u64, WriteError>) {
        match result {
            Ok(revision) => {
                tracing::debug!(key = %write.key, revision, "status written");
                self.queue().written(write);
            }
            // Whatever took its place is told of by the source.
            Err(WriteError::Gone { .. }) => self.queue().give_up(&write.key),
            Err(WriteError::Store(error @ StoreError::Invalid { .. })) => {
                tracing::warn!("the status cannot be written until the object is corrected: {error}");
                self.queue().give_up(&write.key);
            }
            Err(error) => {
                let again = self.queue().failed(&write, Instant::now());
                tracing::warn!(key = %write.key, ?again, "the status cannot be written now: {error}");
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each entry is right by itself, so a panic elsewhere does not spoil it.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leave(queue: &mut Queue, keys: &[ObjectKey]) {
    for key in keys {
        if !queue.leave(key) {
            tracing::warn!(%key, "what is ours on it stays: {} wait already", queue::MAX_WAITING);
        }
    }
}

/// What became of a write, as it is counted.
fn outcome(result: &Result<u64, WriteError>) -> &'static str {
    match result {
        Ok(_) => "written",
        Err(WriteError::Gone { .. }) => "gone",
        Err(WriteError::Store(StoreError::Invalid { .. })) => "invalid",
        Err(_) => "failed",
    }
}
