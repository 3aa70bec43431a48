//! One stream: who has opened it, and the task that carries a [`Session`]'s messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ca::rotation::Holder;
use ca::{Caller, Denied, NodeAuthorizer};
use proto::discovery::DeltaDiscoveryRequest;
use proto::origin::TRUST_BUNDLE_TYPE_URL;
use telemetry::ControlPlaneMetrics;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tonic::{Status, Streaming};

use super::converging::Converging;
use super::{Roots, Shared};
use crate::config::DryRunPolicies;
use crate::events::{self, Notice};
use crate::places::Place;
use crate::xds::ResourceKind;
use crate::xds::bundle::BundleSession;
use crate::xds::node::{self, ProxyName, Refusal, Role};
use crate::xds::proxies::Connected;
use crate::xds::session::{Client, Next, Rejection, Request, Response, Session};

/// How long a client may take to send its first request.
const FIRST_REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a stream lasts before the client has to show its token again, and how much longer at random, so that
/// not all come at once.
const STREAM_LIFE: Duration = Duration::from_secs(30 * 60);
const STREAM_LIFE_JITTER_SECONDS: u64 = 180;

/// One open stream.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Caller,
    pub(super) responses: mpsc::Sender<Result<Response, Status>>,
    /// Its places among all streams and among those of its pod, given back when it ends.
    pub(super) _permits: (Place<String>, OwnedSemaphorePermit),
}

impl Stream {
    /// Until the client goes, or its time is over, or the program stops.
    pub(super) async fn run(self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        // From before it is asked whether the pod is there.
        let presence = self.shared.settings.pods.presence(&self.caller);
        let status = match self.begin(&mut requests).await {
            Ok(None) => return,
            Ok(Some((first, name, role))) => {
                let shutdown = self.shared.settings.shutdown.clone();
                tokio::select! {
                    status = self.serve(first, name, role, requests) => status,
                    () = presence.ended() => {
                        tracing::info!(caller = %self.caller, "stream ended: the pod has gone");
                        Err(Status::permission_denied("the pod that this stream is for has gone"))
                    }
                    () = shutdown.cancelled() => Err(Status::unavailable("the control plane is stopping")),
                }
            }
            Err(status) => {
                tracing::warn!(caller = %self.caller, "stream refused: {}", status.message());
                Err(status)
            }
        };
        if let Err(status) = status {
            // The client may be gone; then there is nobody to tell.
            let _ = tokio::time::timeout(FIRST_REQUEST_DEADLINE, self.responses.send(Err(status))).await;
        }
    }

    /// Waits for the first request, which says who is there, in its words. `None` when the client went away first.
    async fn begin(
        &self,
        requests: &mut Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Option<(DeltaDiscoveryRequest, ProxyName, Role)>, Status> {
        let settings = &self.shared.settings;
        let first = tokio::time::timeout(FIRST_REQUEST_DEADLINE, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))?;
        let Some(first) = first? else { return Ok(None) };
        let name = ProxyName::from_node(first.node.as_ref()).map_err(|error| {
            settings.metrics.stream_refused("bad_node");
            Status::invalid_argument(error.to_string())
        })?;
        let is_there = |caller: &Caller| {
            let own = caller.identity(&settings.trust_domain).ok_or(Denied::Malformed)?;
            settings.pods.may_impersonate(caller, &own)
        };
        let node = first.node.as_ref();
        let role = name
            .check(node, &self.caller, &settings.trusted_node_accounts, is_there)
            .map_err(|refusal| self.denied(&refusal))?;
        Ok(Some((first, name, role)))
    }

    fn denied(&self, refusal: &Refusal) -> Status {
        self.shared.settings.metrics.stream_refused(refusal.code());
        if refusal.may_pass() {
            return Status::unavailable(refusal.to_string());
        }
        if let Some(events) = &self.shared.settings.events
            && !self.caller.pod_name.is_empty()
        {
            events.record(Notice {
                regarding: events::of_pod(&self.caller),
                reason: "DiscoveryRefused".to_owned(),
                action: "ServeDiscovery",
                note: format!("a discovery stream is refused ({}): {refusal}", refusal.code()),
            });
        }
        Status::permission_denied(refusal.to_string())
    }

    async fn serve(
        &self,
        first: DeltaDiscoveryRequest,
        said: ProxyName,
        role: Role,
        mut requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), Status> {
        let name = said.clone().on_node_of(&self.caller);
        let metrics = &self.shared.settings.metrics;
        let mut views = self.shared.settings.views.clone();
        let number: u64 = rand::random();
        let client = Client {
            node: name.node.as_str().into(),
            dry_run: match self.shared.settings.dry_run_policies {
                DryRunPolicies::Announced => node::knows_dry_run(first.node.as_ref()),
                DryRunPolicies::All => true,
                DryRunPolicies::None => false,
            },
            max_response: self.shared.settings.max_response,
        };
        let mut session = Session::new(number, client, views.borrow_and_update().clone());
        let version = node::version(first.node.as_ref());
        let connected = self
            .shared
            .settings
            .proxies
            .connect(name.clone(), role, version, number);
        tracing::info!(node = name.node, pod = name.pod, ?role, "proxy connected");
        let roots = self.shared.settings.roots.as_deref();
        // Without roots to serve nothing ever comes out of it.
        let (_none, nothing) = watch::channel(None);
        let mut bundles = roots.map_or(nothing, Roots::bundles);
        let mut taker = Taker {
            connected: &connected,
            metrics,
            stale: 0,
            bundle: BundleSession::new(number, bundles.borrow_and_update().clone()),
        };
        let mut acknowledged = None;
        let mut converging = Converging::default();
        let jitter = Duration::from_secs(rand::random::<u64>() % STREAM_LIFE_JITTER_SECONDS);
        let end = tokio::time::sleep(STREAM_LIFE + jitter);
        tokio::pin!(end);
        taker.take(&mut session, first)?;
        // A response that waits until the client takes the one before.
        let mut pending = None;
        let mut overdue = 0;
        loop {
            let mut until = None;
            if taker.bundle.acknowledged() != acknowledged {
                acknowledged = taker.bundle.acknowledged();
                if let (Some(roots), Some(generation)) = (roots, acknowledged) {
                    let holder = Holder {
                        node: name.node.clone(),
                        namespace: name.namespace.clone(),
                        pod: name.pod.clone(),
                    };
                    roots.acknowledged(&holder, generation);
                }
            }
            if pending.is_none() {
                pending = taker.bundle.next().map(|response| (response, Instant::now()));
            }
            if pending.is_none() {
                match session.next(Instant::now()) {
                    Next::Send(response) => pending = Some((response, Instant::now())),
                    Next::Wait(deadline) => until = deadline,
                    Next::Restart => {
                        tracing::warn!(
                            node = name.node,
                            pod = name.pod,
                            "proxy is too far behind, it must reconnect"
                        );
                        return Ok(());
                    }
                }
                connected.update(&session, &[]);
                if session.overdue() > overdue {
                    overdue = session.overdue();
                    metrics.answer_overdue();
                    tracing::warn!(
                        node = name.node,
                        pod = name.pod,
                        sent = session.sent(),
                        acknowledged = session.acknowledged(),
                        "the proxy does not answer in time"
                    );
                }
            }
            let deadline = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                permit = self.responses.reserve(), if pending.is_some() => {
                    let Ok(permit) = permit else { break };
                    if let Some((response, since)) = pending.take() {
                        let bytes = response.resources.encoded_len();
                        metrics.pushed(&response.kind.to_string(), bytes, since.elapsed());
                        tracing::debug!(
                            node = name.node, kind = %response.kind, revision = response.revision,
                            resources = response.resources.len(), removed = response.removed.len(), "sending",
                        );
                        permit.send(Ok(response));
                    }
                }
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(refusal) = said.still(request.node.as_ref()) {
                            tracing::warn!(caller = %self.caller, "stream ended: {refusal}");
                            return Err(self.denied(&refusal));
                        }
                        taker.take(&mut session, request)?;
                        for after in converging.acknowledged(session.acknowledged(), Instant::now()) {
                            metrics.converged(after);
                        }
                    }
                    Ok(None) => break,
                    Err(status) => {
                        tracing::info!(node = name.node, pod = name.pod, "stream ended: {}", status.message());
                        return Ok(());
                    }
                },
                changed = views.changed() => {
                    // The sender lives as long as the program serves.
                    if changed.is_err() { break }
                    let history = views.borrow_and_update().clone();
                    converging.told(history.latest().revision, Instant::now());
                    session.update(history);
                }
                changed = bundles.changed(), if roots.is_some() => {
                    if changed.is_err() { break }
                    taker.bundle.update(bundles.borrow_and_update().clone());
                }
                () = deadline => {}
                () = self.responses.closed() => break,
                () = &mut end => break,
            }
        }
        tracing::info!(node = name.node, pod = name.pod, "proxy disconnected");
        Ok(())
    }
}

/// Hands requests to the session, and says what the proxy rejects.
struct Taker<'a> {
    connected: &'a Connected,
    metrics: &'a ControlPlaneMetrics,
    stale: u64,
    bundle: BundleSession,
}

impl Taker<'_> {
    fn take(&mut self, session: &mut Session, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let kind = match ResourceKind::from_type_url(&request.type_url) {
            Some(kind) => kind,
            None if request.type_url == TRUST_BUNDLE_TYPE_URL => ResourceKind::TrustBundle,
            None => {
                // Asking for more than there is does no harm; no answer means that there is none.
                tracing::debug!(
                    type_url = request.type_url,
                    "a type that is not served was asked for"
                );
                return Ok(());
            }
        };
        let request = Request::from(request);
        let rejections = match kind {
            ResourceKind::TrustBundle => self.bundle.request(request).into_iter().collect(),
            ResourceKind::Authorization | ResourceKind::Address => session
                .request(Instant::now(), kind, request)
                .map_err(|error| Status::resource_exhausted(error.to_string()))?,
        };
        for Rejection { kind, name, reason } in &rejections {
            self.metrics.rejected(&kind.to_string());
            tracing::warn!(proxy = self.connected.name(), %kind, resource = name, "the proxy does not accept: {reason}");
        }
        if session.stale() > self.stale {
            self.stale = session.stale();
            self.metrics.expired_nonce(&kind.to_string());
        }
        self.connected.update(session, &rejections);
        if kind == ResourceKind::TrustBundle {
            let (acknowledged, rejected) = (self.bundle.acknowledged(), self.bundle.rejected());
            self.connected.bundle(acknowledged, rejected);
        }
        Ok(())
    }
}
