//! The pods that the node agent hands over: connecting to it, starting and stopping what serves a pod.
//!
//! A lost agent changes nothing for pods that are served. Its next connection begins with a snapshot; pods that
//! it does not name have left. A pod that cannot be served yet, because one of its ports is taken for example, is
//! refused to the agent and tried again until it is served or gone.

use crate::context::Context;
use crate::pod_proxy::PodProxy;
use crate::pods::{Pod, PodId, Waiting};
use crate::readiness::Task;
use mesh::Identity;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::Namespace;
use sys::seqpacket::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use zds::PodInfo;
use zds::proxy::{Event, ProtocolError, Received};

/// Pauses between attempts to reach the agent grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// When pods that cannot be served are tried again: after pauses that grow from the first to the last of these.
#[derive(Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(15);

    fn new(now: Instant) -> Self {
        Self {
            at: now + Self::FIRST,
            pause: Self::FIRST,
        }
    }

    /// Whether it is time; the next time is later.
    fn is_due(&mut self, now: Instant) -> bool {
        if now < self.at {
            return false;
        }
        self.pause = (self.pause * 2).min(Self::LAST);
        self.at = now + self.pause;
        true
    }
}

/// Owns what serves the pods.
pub(crate) struct Manager {
    context: Arc<Context>,
    serving: HashMap<PodId, PodProxy>,
    /// Pods that could not be served when they were handed over.
    waiting: HashMap<PodId, Arc<Pod>>,
    /// When those that wait are tried again.
    retry: Retry,
    draining: JoinSet<()>,
    snapshot_taken: Task,
}

/// Why a connection to the agent ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the connection to the node agent: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl Manager {
    /// Serves nothing yet; `snapshot_taken` is completed by the agent's first snapshot.
    pub(crate) fn new(context: Arc<Context>, snapshot_taken: Task) -> Self {
        Self {
            context,
            serving: HashMap::new(),
            waiting: HashMap::new(),
            retry: Retry::new(Instant::now()),
            draining: JoinSet::new(),
            snapshot_taken,
        }
    }

    /// Follows the agent at `socket` until `stop`, then drains every pod within the deadline of the settings.
    pub(crate) async fn run(mut self, socket: PathBuf, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => break,
                ended = self.follow(&socket, &mut pause) => ended,
            };
            if let Err(error) = ended {
                warn!(%error, socket = %socket.display(), pause_ms = pause.as_millis() as u64, "no node agent; pods already served stay served");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
            }
            self.try_again().await;
        }
        for (_, proxy) in self.serving.drain() {
            self.draining
                .spawn(proxy.leave(crate::connections::CloseReason::Stopping));
        }
        while self.draining.join_next().await.is_some() {}
    }

    async fn follow(&mut self, socket: &std::path::Path, pause: &mut Duration) -> Result<(), LinkError> {
        let link = Connection::connect(socket).await?;
        let (mut protocol, hello) = zds::proxy::Connection::new();
        link.send(&hello, None).await?;
        info!("connected to the node agent");
        loop {
            let received = tokio::select! {
                received = link.recv(zds::MAX_RECORD) => received,
                () = tokio::time::sleep_until(self.retry.at.into()), if !self.waiting.is_empty() => {
                    self.try_again().await;
                    continue;
                }
            };
            let (record, descriptors) = received?;
            *pause = FIRST_PAUSE;
            match protocol.received(&record, descriptors.len())? {
                Received::Refused { answer, violation } => {
                    warn!(%violation, "refused a request of the node agent");
                    link.send(&answer, None).await?;
                }
                Received::Event(event) => {
                    let result = self.handle(event, descriptors).await;
                    if let Err(error) = &result {
                        warn!(error, "cannot do what the node agent asks");
                    }
                    if let Some(answer) = protocol.answer(result.as_ref().map_err(String::as_str).copied()) {
                        link.send(&answer, None).await?;
                    }
                }
            }
            // Finished drains need no keeping.
            while self.draining.try_join_next().is_some() {}
        }
    }

    async fn handle(&mut self, event: Event, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let _busy = self.snapshot_taken.busy("a request of the node agent");
        match event {
            Event::Add { uid, info } => {
                let descriptor = descriptors
                    .into_iter()
                    .next()
                    .ok_or("no network namespace came with the pod")?;
                self.add(PodId::from(uid.as_str()), info, descriptor).await
            }
            Event::Keep { .. } => Ok(()),
            Event::Del { uid } => {
                self.remove(&PodId::from(uid.as_str()));
                Ok(())
            }
            Event::SnapshotSent { named } => {
                self.retain(&named);
                self.snapshot_taken.complete();
                Ok(())
            }
        }
    }

    async fn add(&mut self, id: PodId, info: PodInfo, descriptor: OwnedFd) -> Result<(), String> {
        let network =
            Namespace::from_fd(descriptor).map_err(|error| format!("not a network namespace: {error}"))?;
        if let Some(known) = self.serving.get(&id) {
            if known.pod().network.id() == network.id() {
                return Ok(());
            }
            info!(pod = %id, "the pod has another network namespace now; replacing what serves it");
            self.remove(&id);
        }
        let identity = Identity::new(
            &self.context.config.trust_domain,
            &info.namespace,
            &info.service_account,
        );
        let pod = Arc::new(Pod {
            buffers: self.context.buffers.account(),
            id: id.clone(),
            name: info.name.as_str().into(),
            identity,
            network,
        });
        let started = self.start(pod.clone()).await;
        if started.is_err() {
            if self.waiting.is_empty() {
                self.retry = Retry::new(Instant::now());
            }
            self.waiting.insert(id, pod);
        }
        started
    }

    async fn start(&mut self, pod: Arc<Pod>) -> Result<(), String> {
        let (id, name) = (pod.id.clone(), pod.full_name());
        match PodProxy::start(self.context.clone(), pod).await {
            Ok(proxy) => {
                info!(pod = name, uid = %id, "serving a pod");
                self.waiting.remove(&id);
                self.context.pods.waits_no_more(&id);
                self.serving.insert(id, proxy);
                self.context.metrics.proxy_started();
                Ok(())
            }
            Err(error) => {
                let refusal = format!("pod {name}: {error}");
                let reason = error.to_string();
                self.context.pods.waits(&id, Waiting { name, reason });
                Err(refusal)
            }
        }
    }

    /// Tries to serve the pods that wait, if it is time to.
    async fn try_again(&mut self) {
        if self.waiting.is_empty() || !self.retry.is_due(Instant::now()) {
            return;
        }
        let _busy = self.snapshot_taken.busy("pods that could not be served before");
        let pods: Vec<Arc<Pod>> = self.waiting.values().cloned().collect();
        for pod in pods {
            // Why not is shown for as long as it lasts; it was logged when the agent was told.
            if let Err(reason) = self.start(pod).await {
                debug!(reason, "a pod cannot be served yet");
            }
        }
    }

    fn remove(&mut self, id: &PodId) {
        if self.waiting.remove(id).is_some() {
            self.context.pods.waits_no_more(id);
        }
        if let Some(proxy) = self.serving.remove(id) {
            info!(pod = proxy.pod().full_name(), uid = %id, "a pod left; its open connections have the grace period");
            self.context.metrics.proxy_stopped();
            self.draining
                .spawn(proxy.leave(crate::connections::CloseReason::PodLeft));
        }
    }

    fn retain(&mut self, named: &BTreeSet<String>) {
        let known = self.serving.keys().chain(self.waiting.keys());
        let gone: Vec<PodId> = known
            .filter(|id| !named.contains(&id.to_string()))
            .cloned()
            .collect();
        for id in gone {
            self.remove(&id);
        }
    }
}
