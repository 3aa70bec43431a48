//! The agent as a whole: objects in, one task per pod, node proxies and status served.

use std::{
    collections::BTreeMap, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use futures_util::StreamExt;
use object_store::{Batch, ObjectSource, ObjectWriter};
use sys::seqpacket;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    farewell::farewell,
    finder::NamespaceFinder,
    health,
    plan::{Annotation, Goal, Rules},
    pod::{PodTask, Tools},
    preflight::{NotReady, Outcome, Preflight},
    proxies::Proxies,
    status::{self, Board, PodState, PodStatus},
    tracker::{PodView, Tracker},
};

/// Pods of one node; further ones are not enrolled, and their status says so. It is what one ZDS snapshot may name.
pub const MAX_PODS: usize = zds::MAX_SNAPSHOT_PODS;

/// The usual [`Settings::check_interval`].
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// What the agent is to do.
pub struct Settings {
    /// The node whose pods it enrols.
    pub node: String,
    /// Namespaces whose pods are not enrolled, beside those that never are.
    pub excluded_namespaces: Vec<String>,
    /// Where node proxies connect.
    pub zds_socket: PathBuf,
    /// Where it answers for its status.
    pub status_socket: PathBuf,
    /// Where it answers probes; none: nowhere.
    pub health_listen: Option<SocketAddr>,
    /// Where settings below `/proc/sys/net` are written.
    pub network_settings: PathBuf,
    /// How long the node proxy has for the open connections of a pod that leaves the mesh.
    pub grace: Duration,
    /// How often an enrolled pod is asked whether it still has the same network namespace; see [`CHECK_INTERVAL`].
    pub check_interval: Duration,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Something is missing on this machine without which no pod can be enrolled.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// A socket cannot be listened on.
    #[error("cannot listen on {path}: {source}", path = .path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The address for probes cannot be listened on.
    #[error("cannot listen on {address} for probes: {source}")]
    Health {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The objects' source has ended, which it never should.
    #[error("the source of objects has ended")]
    SourceEnded,
}

/// Runs the agent until `stop` is done, and then as long as pods that leave the mesh are captured, up to
/// [`LONGEST_FAREWELL`](crate::LONGEST_FAREWELL); or until it cannot go on. What it has enrolled stays enrolled.
pub async fn run(
    settings: Settings,
    source: Arc<dyn ObjectSource>,
    writer: Arc<dyn ObjectWriter>,
    finder: Arc<dyn NamespaceFinder>,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    // Where pods are found by their processes, the finder has looked at them already.
    let found = Preflight::run(&settings.network_settings, None).await;
    for finding in &found.findings {
        if let Outcome::Lesser(lack) = &finding.outcome {
            tracing::warn!("{}: {lack}", finding.what);
        }
    }
    let firewall = found.ready()?;
    tracing::info!(
        node = settings.node,
        "redirection rules are written with {}",
        firewall.name()
    );
    let board = Board::new(&settings.node, firewall.name());
    let proxies = Proxies::new();
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| AgentError::Socket { path, source }
    };
    let zds = seqpacket::Listener::bind(&settings.zds_socket).map_err(failed(&settings.zds_socket))?;
    let status = status::bind(&settings.status_socket).map_err(failed(&settings.status_socket))?;
    let (ending, ended) = watch::channel(false);
    let tools = Arc::new(Tools {
        finder,
        firewall,
        proxies: proxies.clone(),
        writer,
        board: board.clone(),
        grace: settings.grace,
        check_interval: settings.check_interval,
        ending: ended,
    });
    let mut services = JoinSet::new();
    services.spawn(status::serve(
        status,
        board.clone(),
        proxies.clone(),
        source.clone(),
    ));
    if let Some(address) = settings.health_listen {
        let failed = |source| AgentError::Health { address, source };
        let listener = sys::socket::listen_here(address, false).map_err(failed)?;
        services.spawn(health::serve(listener, board.clone()));
    }
    let mut pods = Pods {
        tools,
        tasks: BTreeMap::new(),
        running: JoinSet::new(),
    };
    let tracker = Tracker::new(&settings.node).excluding(settings.excluded_namespaces);
    // Proxies wait at the socket until every pod that they must not let go of is known.
    let serve_proxies = || {
        services.spawn(proxies.run(zds));
    };
    tokio::select! {
        () = pods.follow(tracker, &*source, serve_proxies) => Err(AgentError::SourceEnded),
        () = async {
            stop.await;
            ending.send_replace(true);
            farewell(&board).await;
        } => Ok(()),
    }
}

/// The tasks of the pods.
struct Pods {
    tools: Arc<Tools>,
    tasks: BTreeMap<String, watch::Sender<PodView>>,
    running: JoinSet<()>,
}

impl Pods {
    /// Hands all news to the pods' tasks, until there is no more. `ready` is called once everything was read.
    async fn follow(&mut self, mut tracker: Tracker, source: &dyn ObjectSource, ready: impl FnOnce()) {
        let board = self.tools.board.clone();
        let mut objects = source.watch();
        let mut ready = Some(ready);
        while let Some(batch) = objects.next().await {
            match batch {
                Ok(batch) => {
                    let first = ready.take();
                    self.take_in(&mut tracker, &batch, first.is_some());
                    board.caught_up(batch.revision);
                    if let Some(ready) = first {
                        ready();
                    }
                }
                Err(error) => {
                    tracing::warn!("the objects cannot be read: {error}");
                    board.failed((&error).into(), &error.to_string());
                }
            }
        }
    }

    fn take_in(&mut self, tracker: &mut Tracker, batch: &Batch, first: bool) {
        while self.running.try_join_next().is_some() {}
        for view in tracker.apply(batch) {
            if view.deleted {
                self.end(view);
            } else if let Some(task) = self.tasks.get(&view.uid) {
                self.tell(task, view);
            } else if self.tasks.len() >= MAX_PODS {
                let error = format!("not enrolled: this node has more than {MAX_PODS} pods");
                tracing::warn!(pod = %view.key, "{error}");
                self.show(PodStatus {
                    error: Some(error),
                    ..unknown(&view)
                });
            } else {
                self.start(view, first);
            }
        }
    }

    /// Hands news to the pod's task, and takes back at the same moment that it has nothing left to do: who reads the
    /// board after a batch must not be told so on account of what was before.
    fn tell(&self, task: &watch::Sender<PodView>, view: PodView) {
        self.tools.board.change(|pods| {
            if let Some(pod) = pods.get_mut(&view.uid) {
                pod.settled = false;
                pod.state = PodState::Unknown;
            }
            task.send_replace(view);
        });
    }

    fn end(&mut self, view: PodView) {
        match self.tasks.remove(&view.uid) {
            // Without its sender the task ends once it has cleaned up.
            Some(task) => self.tell(&task, view),
            None => {
                self.tools.board.change(|pods| pods.remove(&view.uid));
            }
        }
    }

    fn show(&self, status: PodStatus) {
        self.tools
            .board
            .change(|pods| pods.insert(status.uid.clone(), status));
    }

    fn start(&mut self, view: PodView, first: bool) {
        self.show(unknown(&view));
        // A pod that comes while we run has nothing of ours, unless it says so.
        let marked = view.annotation != Annotation::None;
        let rules = if first || marked {
            Rules::Unknown
        } else {
            Rules::Absent
        };
        let resume = first && marked && view.goal != Goal::Gone;
        let uid = view.uid.clone();
        let (sender, receiver) = watch::channel(view);
        let mut task = PodTask::new(self.tools.clone(), receiver, rules);
        if resume {
            task.resume_service();
        }
        self.running.spawn(task.run());
        self.tasks.insert(uid, sender);
    }
}

fn unknown(view: &PodView) -> PodStatus {
    PodStatus {
        namespace: view.info.namespace.clone(),
        name: view.info.name.clone(),
        uid: view.uid.clone(),
        wanted: view.goal == Goal::Enrolled,
        reason: view.reason.clone(),
        state: PodState::Unknown,
        settled: false,
        error: None,
    }
}

#[cfg(test)]
mod tests;
