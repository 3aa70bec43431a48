//! The stream of batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use objects::{Object, ObjectKey};

use super::lock::Lock;
use super::notify::{Dirty, Notify, Watches};
use super::{Inner, scan};
use crate::{Batch, SourceError, StoreChange, StoreError};

/// Everything is looked at again so often, in case a notification was missed.
const RESCAN: Duration = Duration::from_secs(30);
/// The pause after a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Batches for one reader. Nothing is read before the reader asks, so a slow reader finds many changes in one batch.
pub(super) fn stream(inner: Arc<Inner>) -> BoxStream<'static, Result<Batch, SourceError>> {
    let watcher = Watcher {
        inner,
        seen: Seen::default(),
        open: None,
        failures: 0,
    };
    stream::unfold(watcher, |mut watcher| async move {
        Some((watcher.next().await, watcher))
    })
    .boxed()
}

struct Watcher {
    inner: Arc<Inner>,
    seen: Seen,
    /// `None` before the first read and after a failure.
    open: Option<(Notify, Watches)>,
    failures: u32,
}

/// What the reader was told.
#[derive(Default)]
struct Seen {
    /// `None` before the first batch.
    revision: Option<u64>,
    objects: HashMap<ObjectKey, Arc<Object>>,
}

impl Watcher {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let result = self.try_next().await;
        match &result {
            Ok(_) => self.failures = 0,
            Err(_) => {
                self.failures += 1;
                self.open = None;
            }
        }
        result
    }

    async fn try_next(&mut self) -> Result<Batch, SourceError> {
        loop {
            let (notify, watches, everything) = match self.open.take() {
                Some((notify, watches)) => {
                    let path = self.inner.layout.root();
                    let waited = tokio::time::timeout(RESCAN, notify.wait()).await;
                    let everything = waited.is_err();
                    if let Ok(Err(source)) = waited {
                        return Err(SourceError::Notify {
                            path: path.to_owned(),
                            source,
                        });
                    }
                    (notify, watches, everything)
                }
                None => {
                    if self.failures > 0 {
                        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16).saturating_sub(1));
                        tokio::time::sleep(pause.min(LAST_RETRY)).await;
                    }
                    let (notify, watches) = Notify::new(&self.inner.layout)?;
                    (notify, watches, true)
                }
            };
            let (watches, batch) = self.read(watches, everything).await?;
            self.open = Some((notify, watches));
            if let Some(batch) = batch {
                return Ok(batch);
            }
        }
    }

    /// Reads what changed, on a blocking thread.
    async fn read(
        &mut self,
        mut watches: Watches,
        everything: bool,
    ) -> Result<(Watches, Option<Batch>), SourceError> {
        let inner = self.inner.clone();
        let mut seen = std::mem::take(&mut self.seen);
        let task = tokio::task::spawn_blocking(move || {
            let batch = seen.read(&inner, &mut watches, everything);
            (seen, watches, batch)
        });
        // Where the thread panicked what was seen is lost with it: the reader is told everything again.
        let (seen, watches, batch) = task
            .await
            .map_err(|error| StoreError::Refused(format!("reading the objects failed: {error}")))?;
        self.seen = seen;
        Ok((watches, batch?))
    }
}

impl Seen {
    fn read(
        &mut self,
        inner: &Inner,
        watches: &mut Watches,
        everything: bool,
    ) -> Result<Option<Batch>, SourceError> {
        // Under the lock no transaction is half done, and every notification of those before it is there.
        let _lock = Lock::shared(&inner.layout)?;
        let revision = inner.layout.read_revision()?;
        let notified = |source| SourceError::Notify {
            path: inner.layout.root().to_owned(),
            source,
        };
        let dirty = watches.take().map_err(notified)?;
        let changes = if everything || dirty.everything {
            watches.extend(&inner.layout)?;
            self.compare(scan::everything(inner)?.into_iter().collect())
        } else {
            self.look_at(inner, dirty)?
        };
        let initial = self.revision.is_none();
        let batch = Batch {
            revision,
            changes,
            initial,
        };
        let worth_telling = initial || !batch.changes.is_empty() || self.revision != Some(revision);
        self.revision = Some(revision);
        Ok(worth_telling.then_some(batch))
    }

    fn compare(&mut self, now: HashMap<ObjectKey, Arc<Object>>) -> Vec<StoreChange> {
        let before = std::mem::replace(&mut self.objects, now);
        let gone = before.keys().filter(|key| !self.objects.contains_key(key));
        let gone = gone.cloned().map(StoreChange::Delete);
        let is_same = |key: &ObjectKey, object: &Arc<Object>| {
            before.get(key).is_some_and(|old| Arc::ptr_eq(old, object))
        };
        let put = self.objects.iter().filter(|(key, object)| !is_same(key, object));
        let mut put: Vec<_> = put.collect();
        put.sort_by_key(|(key, _)| *key);
        gone.chain(
            put.into_iter()
                .map(|(_, object)| StoreChange::Put(object.clone())),
        )
        .collect()
    }

    fn look_at(&mut self, inner: &Inner, dirty: Dirty) -> Result<Vec<StoreChange>, StoreError> {
        // Everything is read before anything counts as told, so that a failure loses nothing.
        let load = |key: ObjectKey| inner.load(&key).map(|object| (key, object));
        let loaded = dirty
            .objects
            .into_iter()
            .map(load)
            .collect::<Result<Vec<_>, _>>()?;
        let mut changes = Vec::new();
        for (key, object) in loaded {
            match object {
                Some(object) => {
                    let old = self.objects.insert(key, object.clone());
                    if !old.is_some_and(|old| Arc::ptr_eq(&old, &object)) {
                        changes.push(StoreChange::Put(object));
                    }
                }
                None => {
                    if self.objects.remove(&key).is_some() {
                        changes.push(StoreChange::Delete(key));
                    }
                }
            }
        }
        Ok(changes)
    }
}
