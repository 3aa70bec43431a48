//! The pods that the node agent hands over: connecting to it, starting and stopping what serves a pod.
//!
//! A lost agent changes nothing for pods that are served. Its next connection begins with a snapshot; pods that
//! it does not name have left.

use crate::context::Context;
use crate::pod_proxy::PodProxy;
use crate::pods::{Pod, PodId};
use crate::readiness::Task;
use mesh::Identity;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use sys::Namespace;
use sys::seqpacket::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zds::PodInfo;
use zds::proxy::{Event, ProtocolError, Received};

/// Pauses between attempts to reach the agent grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// Owns what serves the pods.
pub(crate) struct Manager {
    context: Arc<Context>,
    serving: HashMap<PodId, PodProxy>,
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
            let (record, descriptors) = link.recv(zds::MAX_RECORD).await?;
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
            id: id.clone(),
            name: info.name.as_str().into(),
            identity,
            network,
        });
        let name = pod.full_name();
        let proxy = PodProxy::start(self.context.clone(), pod)
            .await
            .map_err(|error| format!("pod {name}: {error}"))?;
        info!(pod = name, uid = %id, "serving a pod");
        self.serving.insert(id, proxy);
        self.context.metrics.proxy_started();
        Ok(())
    }

    fn remove(&mut self, id: &PodId) {
        if let Some(proxy) = self.serving.remove(id) {
            info!(pod = proxy.pod().full_name(), uid = %id, "a pod left; its open connections have the grace period");
            self.context.metrics.proxy_stopped();
            self.draining
                .spawn(proxy.leave(crate::connections::CloseReason::PodLeft));
        }
    }

    fn retain(&mut self, named: &BTreeSet<String>) {
        let gone: Vec<PodId> = self
            .serving
            .keys()
            .filter(|id| !named.contains(&id.to_string()))
            .cloned()
            .collect();
        for id in gone {
            self.remove(&id);
        }
    }
}
