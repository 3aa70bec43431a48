//! Other clusters of the mesh, where they are followed: what is told of them, and how it stands with each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compile::ClusterReport;
use kube_source::KubernetesStore;
use object_store::{Batch, ObjectSource};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::events::Events;
use crate::kubernetes::clusters::{Follower, LOOK};

/// How long node proxies wait at the start for what other clusters have. Whoever is served before loses what it had of a
/// cluster that answers later; so does whoever waits for one that never does, and everything else with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How many batches of all clusters wait to be taken. A cluster whose next one finds no room gathers changes meanwhile.
pub(crate) const MAX_NEWS: usize = 8;

/// What is new of other clusters, in order.
#[derive(Debug)]
pub(crate) enum News {
    /// Objects of a cluster changed.
    Batch {
        /// The cluster.
        cluster: String,
        /// Its objects.
        batch: Batch,
    },
    /// A cluster is none of the mesh any more.
    Gone(String),
    /// All that are known have told everything once.
    Settled,
}

/// Where the news come from, and who is told what becomes of them.
pub(crate) struct Others {
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) board: Board,
}

/// What follows the clusters that Secrets name, where that is wanted and there is an API to ask for them; and its end that
/// is to be compiled.
pub(crate) fn follower(
    config: &Config,
    client: Option<&kube::Client>,
    events: Option<&Events>,
) -> Option<(Follower, Others)> {
    let client = client.filter(|_| config.multi_network)?;
    let (sender, news) = mpsc::channel(MAX_NEWS);
    let board = Board::default();
    let follower = Follower {
        client: client.clone(),
        namespace: config.pod_namespace.clone(),
        own: config.cluster_id.clone(),
        look: LOOK,
        board: board.clone(),
        events: events.cloned(),
        news: sender,
    };
    Some((follower, Others { news, board }))
}

/// How it stands with each of the other clusters. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Board {
    clusters: Arc<Mutex<BTreeMap<String, Entry>>>,
}

#[derive(Default)]
struct Entry {
    /// The Secret that names it, `namespace/name`.
    secret: String,
    /// Its objects, if they are followed.
    store: Option<KubernetesStore>,
    /// It has told everything once.
    is_known: bool,
    /// Why what the Secret says now is not followed.
    refused: Option<String>,
    report: Option<ClusterReport>,
}

impl Board {
    /// It is followed as the Secret says, from now on.
    pub(crate) fn begins(&self, cluster: &str, secret: &str, store: KubernetesStore) {
        let mut clusters = self.lock();
        let entry = clusters.entry(cluster.to_owned()).or_default();
        entry.secret = secret.to_owned();
        entry.store = Some(store);
        entry.refused = None;
    }

    /// What the Secret says now is what is followed.
    pub(crate) fn taken(&self, cluster: &str, secret: &str) {
        if let Some(entry) = self.lock().get_mut(cluster) {
            secret.clone_into(&mut entry.secret);
            entry.refused = None;
        }
    }

    /// It is not followed as the Secret says; what was followed before is still.
    pub(crate) fn refused(&self, cluster: &str, secret: &str, why: &str) {
        let mut clusters = self.lock();
        let entry = clusters.entry(cluster.to_owned()).or_default();
        if entry.store.is_none() {
            entry.secret = secret.to_owned();
        }
        entry.refused = Some(why.to_owned());
    }

    /// It has told everything.
    pub(crate) fn known(&self, cluster: &str) {
        if let Some(entry) = self.lock().get_mut(cluster) {
            entry.is_known = true;
        }
    }

    /// No Secret names it.
    pub(crate) fn gone(&self, cluster: &str) {
        self.lock().remove(cluster);
    }

    /// Those that no Secret names and that are not followed are none.
    pub(crate) fn retain(&self, is_named: impl Fn(&str) -> bool) {
        self.lock()
            .retain(|name, entry| entry.store.is_some() || is_named(name));
    }

    /// Whether all that are followed have told everything once.
    pub(crate) fn are_known(&self) -> bool {
        let clusters = self.lock();
        clusters
            .values()
            .all(|entry| entry.is_known || entry.store.is_none())
    }

    /// What was compiled of them. What hinders one is said once.
    pub(crate) fn compiled(&self, reports: BTreeMap<String, ClusterReport>) {
        let mut clusters = self.lock();
        for (cluster, report) in reports {
            let Some(entry) = clusters.get_mut(&cluster) else {
                continue;
            };
            let before = entry.report.as_ref().map(|before| before.hindrance);
            if before != Some(report.hindrance) {
                match report.hindrance {
                    Some(hindrance) => {
                        tracing::warn!(cluster, "services of the cluster cannot be reached: {hindrance}");
                    }
                    None => tracing::info!(
                        cluster,
                        network = report.network,
                        gateway = report.gateway,
                        "services of the cluster can be reached"
                    ),
                }
            }
            entry.report = Some(report);
        }
    }

    /// For who looks after the mesh.
    pub(crate) fn page(&self) -> Value {
        let clusters = self.lock();
        let page = clusters.iter().map(|(name, entry)| (name.clone(), entry.page()));
        json!({ "clusters": page.collect::<BTreeMap<_, _>>() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Each field is right by itself, so a panic elsewhere does not spoil it.
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn page(&self) -> Value {
        let status = self.store.as_ref().map(ObjectSource::status).unwrap_or_default();
        // The server's own words; only the owner of this program can ask.
        let problems = status.iter().filter_map(|kind| {
            let problem = kind.problem.as_ref()?;
            Some((kind.kind.plural(), problem))
        });
        let problems: BTreeMap<_, _> = problems.collect();
        let state = match (&self.store, self.is_known) {
            (None, _) => "refused",
            (Some(_), false) => "waiting",
            (Some(_), true) if problems.is_empty() => "followed",
            // What it told last stays.
            (Some(_), true) => "behind",
        };
        let mut page = json!({ "secret": self.secret, "state": state });
        if let Some(refused) = &self.refused {
            page["refused"] = json!(refused);
        }
        if !problems.is_empty() {
            page["problems"] = json!(problems);
        }
        if let Some(report) = &self.report {
            page["network"] = json!(report.network);
            page["gateway"] = json!(report.gateway);
            page["services"] = json!(report.services);
            page["joinedServices"] = json!(report.joined);
            page["hindrance"] = json!(report.hindrance.map(compile::Hindrance::reason));
        }
        page
    }
}
