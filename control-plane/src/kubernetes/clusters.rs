//! Which other clusters there are: Secrets in the control plane's namespace with the label `istio/multiCluster: "true"`, as
//! `istioctl create-remote-secret` makes them. Each key is the name of a cluster, and its value a kubeconfig.
//!
//! They are listed now and then rather than watched: a new cluster is no matter of a second, and a list needs no more than
//! one permission.

mod secrets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use compile::MAX_CLUSTERS;
use futures_util::StreamExt;
use kube_source::{ApiServer, KubernetesStore, Wanted};
use object_store::ObjectSource;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::secrets::{Digest, Named};
use crate::clusters::{Board, News};
use crate::events::{Events, Notice, Regarding};

/// How often the Secrets are listed.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether all clusters have told everything, until they have once.
const LOOK_AT_START: Duration = Duration::from_millis(50);

/// Follows other clusters.
pub(crate) struct Follower {
    /// This cluster's API.
    pub(crate) client: kube::Client,
    /// The control plane's namespace.
    pub(crate) namespace: String,
    /// The name of this cluster.
    pub(crate) own: String,
    pub(crate) look: Duration,
    pub(crate) board: Board,
    /// Where the author of a Secret is told that it is not taken.
    pub(crate) events: Option<Events>,
    pub(crate) news: mpsc::Sender<News>,
}

/// A cluster that is followed.
struct Followed {
    digest: Digest,
    /// One task.
    task: JoinSet<()>,
}

#[derive(Default)]
struct State {
    followed: BTreeMap<String, Followed>,
    /// What was said last of the value of a Secret's key.
    said: BTreeMap<(String, String), String>,
    is_settled: bool,
}

impl Follower {
    /// Until the future is dropped, or nobody takes the news.
    pub(crate) async fn follow(self) {
        let mut state = State::default();
        let mut problem: Option<String> = None;
        while !self.news.is_closed() {
            match secrets::list(&self.client, &self.namespace).await {
                Ok(named) => {
                    problem = None;
                    self.reconcile(&mut state, named).await;
                    self.settle(&mut state).await;
                }
                // Those that are known stay.
                Err(error) => {
                    let hint = match error.code() {
                        401 | 403 => "; grant this service account list on secrets there",
                        _ => "",
                    };
                    let now = format!(
                        "the Secrets of other clusters in {} cannot be listed: {error}{hint}",
                        self.namespace
                    );
                    if problem.as_ref() != Some(&now) {
                        tracing::warn!("{now}");
                    }
                    problem = Some(now);
                }
            }
            tokio::time::sleep(self.look).await;
        }
    }

    /// Waits until all clusters that are named at the start have told everything, or for as long as a look is apart.
    async fn settle(&self, state: &mut State) {
        let until = tokio::time::Instant::now() + self.look;
        while !state.is_settled && tokio::time::Instant::now() < until {
            if self.board.are_known() {
                state.is_settled = true;
                // Whoever took it has gone: the loop ends.
                let _ = self.news.send(News::Settled).await;
            } else {
                tokio::time::sleep(LOOK_AT_START).await;
            }
        }
    }

    async fn reconcile(&self, state: &mut State, named: Vec<Named>) {
        let mut wanted: BTreeMap<&str, &Named> = BTreeMap::new();
        let mut refused: Vec<(&Named, String)> = Vec::new();
        for one in &named {
            let cluster = one.cluster.as_str();
            if cluster == self.own {
                refused.push((one, "this is the name of the cluster itself".to_owned()));
            } else if let Some(other) = wanted.get(cluster) {
                let why = format!("the Secret {} names the same cluster, and counts", other.secret);
                refused.push((one, why));
            } else if wanted.len() == MAX_CLUSTERS {
                refused.push((one, format!("at most {MAX_CLUSTERS} clusters are followed")));
            } else {
                wanted.insert(cluster, one);
            }
        }
        let gone = state
            .followed
            .keys()
            .filter(|name| !wanted.contains_key(name.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        for cluster in gone {
            self.stop(state, &cluster).await;
            self.board.gone(&cluster);
            tracing::info!(
                cluster,
                "no Secret names the cluster any more: it is followed no longer"
            );
            let _ = self.news.send(News::Gone(cluster)).await;
        }
        for (cluster, one) in wanted {
            let is_alive = |followed: &mut Followed| {
                followed.digest == one.digest && followed.task.try_join_next().is_none()
            };
            if state.followed.get_mut(cluster).is_some_and(is_alive) {
                self.board.taken(cluster, &one.secret);
                state.said.remove(&one.place());
                continue;
            }
            match one.kubeconfig() {
                Ok(server) => {
                    self.stop(state, cluster).await;
                    state.followed.insert(cluster.to_owned(), self.begin(one, server));
                    state.said.remove(&one.place());
                }
                Err(why) => {
                    self.board.refused(cluster, &one.secret, &why);
                    refused.push((one, why));
                }
            }
        }
        let names: BTreeSet<&str> = named.iter().map(|one| one.cluster.as_str()).collect();
        self.board.retain(|cluster| names.contains(cluster));
        self.say(state, &named, refused);
    }

    fn begin(&self, named: &Named, server: ApiServer) -> Followed {
        let cluster = named.cluster.clone();
        let store = KubernetesStore::new(server, Wanted::for_other_cluster());
        self.board.begins(&cluster, &named.secret, store.clone());
        tracing::info!(cluster, secret = named.secret, "the cluster is followed");
        let (board, news) = (self.board.clone(), self.news.clone());
        let mut task = JoinSet::new();
        task.spawn(follow_one(cluster, store, board, news));
        Followed {
            digest: named.digest,
            task,
        }
    }

    /// Once this returns nothing more comes from it.
    async fn stop(&self, state: &mut State, cluster: &str) {
        if let Some(mut followed) = state.followed.remove(cluster) {
            followed.task.shutdown().await;
        }
    }

    /// Says once what is not taken, and to the Secret's author by an Event.
    fn say(&self, state: &mut State, named: &[Named], refused: Vec<(&Named, String)>) {
        let places: BTreeSet<_> = named.iter().map(Named::place).collect();
        state.said.retain(|place, _| places.contains(place));
        for (one, why) in refused {
            let said = state.said.insert(one.place(), why.clone());
            if said.as_ref() == Some(&why) {
                continue;
            }
            let note = format!("the cluster {:?} is not followed as written: {why}", one.cluster);
            tracing::warn!(secret = one.secret, "{note}");
            if let Some(events) = &self.events {
                events.record(Notice {
                    regarding: Regarding {
                        api_version: "v1".to_owned(),
                        kind: "Secret".to_owned(),
                        namespace: self.namespace.clone(),
                        name: one.name.clone(),
                        uid: one.uid.clone(),
                    },
                    reason: "ClusterNotFollowed".to_owned(),
                    action: "FollowCluster",
                    note,
                });
            }
        }
    }
}

/// Tells what a cluster's API tells. While it is away nothing is told, so that what was told stays.
async fn follow_one(cluster: String, store: KubernetesStore, board: Board, news: mpsc::Sender<News>) {
    let mut batches = store.watch();
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => {
                let told = News::Batch {
                    cluster: cluster.clone(),
                    batch,
                };
                if news.send(told).await.is_err() {
                    return;
                }
                board.known(&cluster);
            }
            Err(error) => {
                tracing::warn!(
                    cluster,
                    "objects of the cluster cannot be read now, and stay as they are: {error}"
                );
            }
        }
    }
}
