//! From batches of objects to views of the mesh.

mod debounce;
mod encode;
mod merge;
mod others;
mod said;
mod split;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compile::{Clusters, Condition, Output};
use futures_util::StreamExt;
use object_store::{Batch, ObjectSource, SourceError, StoreChange};
use objects::{AllocatedAddress, Kind, ObjectKey};
use proto::workload::Address;
use telemetry::ControlPlaneMetrics;
use tokio::sync::{oneshot, watch};

use self::debounce::Debounce;
use self::merge::Merged;
use self::others::{Scopes, Waiting, Works};
use self::said::Said;
use crate::clusters::{self, News, Others};
use crate::events::{Events, Notice};
use crate::mesh_settings::{Fixed, MeshSettings};
use crate::pods::Pods;
use crate::progress::Progress;
use crate::scope::{Changes, Scope};
use crate::standstill::Standstill;
use crate::status::Conditions;
use crate::xds::history::History;
use crate::xds::table::View;

/// Who is told of what is compiled, beside those who are served.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) pods: Pods,
    /// What becomes of policies.
    pub(crate) conditions: Option<Conditions>,
    /// Where the author of the mesh's settings is told that they are not in force.
    pub(crate) events: Option<Events>,
    pub(crate) progress: Progress,
    pub(crate) standstill: Standstill,
    pub(crate) metrics: ControlPlaneMetrics,
}

/// The views, and the settings that hold as long as the program runs.
pub(crate) type First = (watch::Receiver<Arc<History>>, Fixed);

/// Watches the source and publishes views for what changes, until the future is dropped. The first view is given
/// away when everything has been read and compiled once; later ones go to the receiver that comes with it. `others` brings
/// what is known of other clusters.
pub(crate) async fn run(
    source: Arc<dyn ObjectSource>,
    mut others: Option<Others>,
    settings: (compile::Settings, MeshSettings),
    told: Told,
    first: oneshot::Sender<First>,
) -> Result<(), Stopped> {
    let Told {
        pods,
        conditions,
        events,
        progress,
        standstill,
        metrics,
    } = told;
    let mut batches = source.watch();
    let mut worker = Worker::new(settings.0, settings.1);
    let (mut merged, mut waiting) = (Merged::default(), Waiting::default());
    let mut debounce = Debounce::default();
    let mut is_begun = false;
    // Other clusters are waited for at the start, but not for long.
    let mut is_settled = others.is_none();
    let patience = tokio::time::Instant::now() + clusters::PATIENCE;
    let mut first = Some(first);
    // How often the process had stood still when the source was begun, and whether that has told everything.
    let (mut times, mut is_reread) = (0, false);
    let mut views: Option<watch::Sender<Arc<History>>> = None;
    loop {
        let due = async {
            match debounce.due() {
                Some(due) if is_settled => tokio::time::sleep_until(due.into()).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = batches.next() => {
                let batch = batch.ok_or(Stopped::Source)?;
                is_reread |= batch.as_ref().is_ok_and(|batch| batch.initial);
                if let Some(changes) = receive(batch, &mut merged) {
                    // Who asks for a certificate right after a pod has come must not wait for the compiler.
                    pods.apply(&changes);
                    if let Some(conditions) = &conditions {
                        conditions.apply(&changes);
                    }
                    for (kind, count) in count_kinds(&changes) {
                        metrics.objects_changed(kind.as_str(), count);
                    }
                    let now = Instant::now();
                    progress.received(merged.waiting() + waiting.count(), merged.objects(), now);
                    debounce.event(now);
                    is_begun = true;
                }
                continue;
            }
            news = next(&mut others) => {
                is_settled |= waiting.add(news);
                // Before there is anything of this cluster, nothing of others is compiled.
                if is_begun && waiting.count() > 0 {
                    let now = Instant::now();
                    progress.received(merged.waiting() + waiting.count(), merged.objects(), now);
                    debounce.event(now);
                }
                continue;
            }
            () = tokio::time::sleep_until(patience), if !is_settled => {
                tracing::warn!("not all other clusters are known, and are waited for no longer");
                is_settled = true;
                continue;
            }
            () = due => debounce.clear(),
            by_now = standstill.noticed() => {
                (batches, times, is_reread) = (source.watch(), by_now, false);
                continue;
            }
        }
        let mut work = merged.take();
        work.others = waiting.take();
        let started = Instant::now();
        let (changes, revision) = (work.changes.len(), work.revision);
        // Compiling everything takes a while; it must not hold up the streams.
        worker = tokio::task::spawn_blocking(move || worker.compile(work))
            .await
            .map_err(|_| Stopped::Panic)?;
        log(&worker.view, changes, started.elapsed());
        let notice = worker.notice.take();
        if let (Some(events), Some(notice)) = (&events, notice) {
            events.record(notice);
        }
        progress.awaits_settings(worker.mesh.are_missing());
        if let Some(others) = &others {
            others.board.compiled(worker.clusters.report());
        }
        let mut found = std::mem::take(&mut worker.conditions);
        let left = worker.left(&mut found);
        if let Some(conditions) = &conditions {
            conditions.leave(&left);
            conditions.want(found);
            conditions.want_addresses(&std::mem::take(&mut worker.allocations));
        }
        let took = started.elapsed();
        let waited = progress.compiled(Instant::now());
        let Some(history) = worker.history.clone().map(Arc::new) else {
            continue;
        };
        metrics.compiled(waited.saturating_sub(took), took);
        match &views {
            Some(views) => {
                views.send_replace(history);
            }
            None => {
                let (sender, receiver) = watch::channel(history);
                tracing::info!(revision, "everything is compiled");
                if let Some(conditions) = &conditions {
                    conditions.leave_all_but(|key| worker.clusters.local().conditions().contains_key(key));
                }
                // Nobody waits for it any more: the program is stopping.
                let fixed = worker.mesh.fixed();
                let _ = first.take().map(|first| first.send((receiver, fixed)));
                views = Some(sender);
            }
        }
        if is_reread {
            standstill.caught_up(times);
        }
    }
}

/// Why nothing is compiled any more.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The source ended.
    #[error("the source of objects ended, which it never does by itself")]
    Source,
    /// The compiler panicked.
    #[error("compiling panicked; the log before this says where")]
    Panic,
}

fn count_kinds(changes: &[StoreChange]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for change in changes {
        let kind = match change {
            StoreChange::Put(object) => object.kind(),
            StoreChange::Delete(key) => key.kind,
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts
}

/// What is new of other clusters, if any are followed.
async fn next(others: &mut Option<Others>) -> News {
    let news = match others {
        Some(others) => others.news.recv().await,
        None => None,
    };
    match news {
        Some(news) => news,
        None => std::future::pending().await,
    }
}

fn receive(batch: Result<Batch, SourceError>, merged: &mut Merged) -> Option<Vec<StoreChange>> {
    match batch {
        Ok(batch) => Some(merged.add(batch)),
        // What is known stays in force, and the source tries again by itself.
        Err(error) => {
            tracing::warn!("objects cannot be read now: {error}");
            None
        }
    }
}

fn log(view: &View, changes: usize, took: Duration) {
    tracing::debug!(
        revision = view.revision,
        changes,
        addresses = view.addresses.len(),
        policies = view.policies.len(),
        ?took,
        "compiled"
    );
}

struct Worker {
    /// What the command line says; the rest is `mesh`'s.
    settings: compile::Settings,
    mesh: MeshSettings,
    scope: Scope,
    clusters: Clusters,
    others: Scopes,
    view: View,
    /// Empty until everything is compiled once.
    history: Option<History>,
    /// What waits for settings that can be read.
    held: Changes,
    held_others: Works,
    /// What was found last to have become of policies.
    conditions: BTreeMap<ObjectKey, Vec<Condition>>,
    said: Said,
    /// What the author of the mesh's settings is to be told.
    notice: Option<Notice>,
    /// The addresses that were chosen last for ServiceEntries.
    allocations: BTreeMap<ObjectKey, Vec<AllocatedAddress>>,
}

impl Worker {
    fn new(settings: compile::Settings, mesh: MeshSettings) -> Worker {
        Worker {
            scope: Scope::new(settings.root_namespace.clone(), mesh.revision()),
            clusters: Clusters::new(settings.clone()),
            others: Scopes::default(),
            settings,
            mesh,
            view: View::default(),
            history: None,
            held: Changes::new(),
            held_others: Works::new(),
            conditions: BTreeMap::new(),
            said: Said::default(),
            notice: None,
            allocations: BTreeMap::new(),
        }
    }

    /// What of the changes is compiled, by the settings.
    fn scoped(&mut self, mut changes: Changes) -> Changes {
        changes.retain(|key, _| key.kind != Kind::ConfigMap);
        if self.history.is_none() {
            let fixed = self.mesh.fixed();
            self.settings.trust_domain = fixed.trust_domain;
            self.settings.trust_domain_aliases = fixed.trust_domain_aliases;
            self.settings.root_namespace.clone_from(&fixed.root_namespace);
            self.clusters = Clusters::new(self.settings.clone());
            self.scope = Scope::new(fixed.root_namespace, self.mesh.revision());
        }
        self.scope.select(self.mesh.selectors().to_vec());
        self.scope.apply(changes)
    }

    /// Takes out the objects that are not compiled any more: deleted, or another control plane's.
    fn left(&self, conditions: &mut BTreeMap<ObjectKey, Vec<Condition>>) -> Vec<ObjectKey> {
        let ours = self.clusters.local().conditions();
        let left: Vec<ObjectKey> = conditions
            .keys()
            .filter(|key| !ours.contains_key(key))
            .cloned()
            .collect();
        conditions.retain(|key, _| ours.contains_key(key));
        left
    }

    /// Compiles so that each policy is a change of its own. The revision is reached with the last of them.
    fn compile(mut self, work: merge::Work) -> Worker {
        let mut changes = std::mem::take(&mut self.held);
        changes.extend(work.changes);
        others::append(&mut self.held_others, work.others);
        if let Some(settings) = changes.remove(self.mesh.key()) {
            self.notice = self.mesh.read(settings.as_deref());
        }
        if self.mesh.are_missing() {
            self.held = changes;
            return self;
        }
        let changes = self.scoped(changes);
        let steps = match self.history {
            Some(_) => split::steps(changes),
            // Nobody has been told anything yet.
            None => vec![changes],
        };
        let mut outputs: Vec<Output> = Vec::with_capacity(steps.len());
        for changes in steps {
            let given: Vec<ObjectKey> = changes.keys().cloned().collect();
            let mut output = self.clusters.apply(changes);
            for warning in self.said.news(&given, std::mem::take(&mut output.warnings)) {
                tracing::warn!("{warning}");
            }
            outputs.push(output);
        }
        for output in &mut outputs {
            self.conditions.append(&mut output.conditions);
            self.allocations.append(&mut output.allocations);
        }
        let others = std::mem::take(&mut self.held_others);
        outputs.push(self.others.compile(&mut self.clusters, &mut self.mesh, others));
        outputs.retain(|output| !output.is_empty());
        let last = outputs.pop().unwrap_or_default();
        for output in outputs {
            self.publish(output, self.view.revision);
        }
        self.publish(last, work.revision);
        self
    }

    fn publish(&mut self, output: Output, revision: u64) {
        publish(&mut self.view, output, revision);
        let view = Arc::new(self.view.clone());
        match &mut self.history {
            Some(history) => history.push(view),
            None => self.history = Some(History::new(view)),
        }
    }
}

fn publish(view: &mut View, output: Output, revision: u64) {
    view.revision = revision;
    view.generation += 1;
    for (name, policy) in &output.policies {
        view.policies.put(encode::policy(name, policy));
    }
    for name in &output.removed_policies {
        view.policies.remove(name);
    }
    for (name, address) in &output.addresses {
        let address: &Address = address;
        view.addresses.put(encode::address(name, address));
    }
    for name in &output.removed_addresses {
        view.addresses.remove(name);
    }
}
