//! Follows the objects: runs the controllers, starts and ends pods, and keeps names and Service NAT true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use object_store::{Batch, Directory, ObjectSource, StoreChange, StoreError};
use objects::{Kind, Object, ObjectKey};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pod::{self, PodHost};
use super::services;
use crate::controllers::{self, Surroundings, Write, is_node_proxy};
use crate::nat::Virtual;
use crate::zone::{SharedZone, Zone};

/// Rounds of the controllers in one transaction; what is left then is for the next.
const ROUNDS_MAX: usize = 16;
/// After a failed write, wait so long.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Keeper {
    store: Directory,
    host: Arc<PodHost>,
    zone: SharedZone,
    reconciled: Arc<AtomicU64>,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// By uid.
    running: BTreeMap<String, CancellationToken>,
    tasks: JoinSet<String>,
    hurry: CancellationToken,
    nat: Option<Vec<Virtual>>,
}

impl Keeper {
    pub(super) fn new(
        store: Directory,
        host: Arc<PodHost>,
        zone: SharedZone,
        reconciled: Arc<AtomicU64>,
    ) -> Keeper {
        Keeper {
            store,
            host,
            zone,
            reconciled,
            objects: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            hurry: CancellationToken::new(),
            nat: None,
        }
    }

    /// Works until the end, and then ends every pod.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let mut batches = self.store.watch();
        let mut revision = 0;
        let mut again = false;
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                batch = batches.next() => match batch {
                    Some(Ok(batch)) => {
                        revision = batch.revision;
                        self.take(batch);
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the objects cannot be watched");
                        continue;
                    }
                    // Never, by contract.
                    None => break,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(uid) = ended {
                        self.running.remove(&uid);
                    }
                }
                () = tokio::time::sleep(AGAIN), if again => {}
            }
            match self.work().await {
                Ok(true) => {
                    self.reconciled.store(revision, Ordering::Release);
                    again = false;
                }
                // What was written comes back as a batch.
                Ok(false) => again = false,
                Err(error) => {
                    tracing::error!(%error, "the lab's controllers cannot do their work; trying again");
                    again = true;
                }
            }
        }
        self.hurry.cancel();
        for stop in self.running.values() {
            stop.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn take(&mut self, batch: Batch) {
        if batch.initial {
            self.objects.clear();
        }
        for change in batch.changes {
            match change {
                StoreChange::Put(object) => drop(self.objects.insert(object.key(), object)),
                StoreChange::Delete(key) => drop(self.objects.remove(&key)),
            }
        }
    }

    /// True when nothing had to be written: everything is as it should be.
    async fn work(&mut self) -> Result<bool, String> {
        let objects: Vec<Arc<Object>> = self.objects.values().cloned().collect();
        self.stop_and_start_pods();
        let gone = self.ended_pods();
        let ipv6 = self.host.network.ipv6();
        let mut changed = false;
        if !gone.is_empty() || !plan(&objects, ipv6).is_empty() {
            let store = self.store.clone();
            let outcome = tokio::task::spawn_blocking(move || settle(&store, ipv6, &gone)).await;
            changed = outcome
                .map_err(|panic| panic.to_string())?
                .map_err(|error| error.to_string())?;
        }
        self.zone.replace(Zone::new(&objects));
        let virtuals = services::virtuals(&objects);
        if self.nat.as_ref() != Some(&virtuals) {
            services::write_nat(&self.host.network, &virtuals)
                .await
                .map_err(|error| error.to_string())?;
            self.nat = Some(virtuals);
        }
        Ok(!changed)
    }

    fn stop_and_start_pods(&mut self) {
        let pods: BTreeMap<&str, &Arc<Object>> = self
            .objects
            .values()
            .filter(|object| object.kind() == Kind::Pod && !is_node_proxy(object))
            .map(|object| (object.metadata.uid.as_str(), object))
            .collect();
        for (uid, stop) in &self.running {
            let stays = pods
                .get(uid.as_str())
                .is_some_and(|object| object.metadata.deletion_timestamp.is_none());
            if !stays {
                stop.cancel();
            }
        }
        for (uid, object) in pods {
            let placed = object.as_pod().is_some_and(|pod| {
                self.host.network.node(&pod.spec.node_name).is_some() && !pod.status.phase.is_terminal()
            });
            if !placed || object.metadata.deletion_timestamp.is_some() || self.running.contains_key(uid) {
                continue;
            }
            let stop = CancellationToken::new();
            self.running.insert(uid.to_owned(), stop.clone());
            let (host, object, hurry) = (self.host.clone(), object.clone(), self.hurry.clone());
            let uid = uid.to_owned();
            self.tasks.spawn(async move {
                pod::run(host, object, stop, hurry).await;
                uid
            });
        }
    }

    /// Pods that are being deleted and have nothing left on this machine.
    fn ended_pods(&self) -> Vec<(ObjectKey, String)> {
        self.objects
            .values()
            .filter(|object| object.kind() == Kind::Pod && object.metadata.deletion_timestamp.is_some())
            .filter(|object| !self.running.contains_key(&object.metadata.uid))
            .map(|object| (object.key(), object.metadata.uid.clone()))
            .collect()
    }
}

fn plan(objects: &[Arc<Object>], ipv6: bool) -> Vec<Write> {
    let mut entropy = rand::random::<u64>;
    let now = objects::timestamp(SystemTime::now());
    controllers::reconcile(
        objects,
        &mut Surroundings {
            entropy: &mut entropy,
            now,
            ipv6,
        },
    )
}

/// Removes pods that have ended and runs the controllers until they have nothing more to write, all as one change.
/// True when something was written.
pub(super) fn settle(
    store: &Directory,
    ipv6: bool,
    gone: &[(ObjectKey, String)],
) -> Result<bool, StoreError> {
    let (wrote, _) = store.transaction(|txn| {
        let mut wrote = false;
        for (key, uid) in gone {
            // Another pod may have taken the name.
            if txn.get(key)?.is_some_and(|object| object.metadata.uid == *uid) {
                wrote |= txn.delete(key)?;
            }
        }
        for _ in 0..ROUNDS_MAX {
            let objects = txn.list()?;
            let writes = plan(&objects, ipv6);
            if writes.is_empty() {
                break;
            }
            for write in writes {
                match write {
                    Write::Delete(key) => drop(txn.delete(&key)?),
                    Write::Put(value) => match Object::from_value(value) {
                        Ok(object) => drop(txn.put(object)?),
                        Err(errors) => return Err(StoreError::Refused(errors.to_string())),
                    },
                }
            }
            wrote = true;
        }
        Ok(wrote)
    })?;
    Ok(wrote)
}
