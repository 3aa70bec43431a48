//! `AggregatedDiscoveryService` over gRPC: who may open a stream, and the task that carries a [`Session`]'s messages.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ca::rotation::Holder;
use ca::{Authenticator, Caller, NodeAuthorizer, bearer_token};
use http::header::{CONTENT_TYPE, HeaderValue};
use proto::discovery::DeltaDiscoveryRequest;
use proto::origin::{OFFERS_HEADER, TRUST_BUNDLE_TYPE_URL};
use telemetry::ControlPlaneMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::codegen::{Body, Service, StdError};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tonic::{Status, Streaming};

use super::ResourceKind;
use super::body::ResponseBody;
use super::bundle::{Bundle, BundleSession};
use super::codec::RequestDecoder;
use super::history::History;
use super::node::{self, ProxyName, Refusal, Role};
use super::proxies::{Connected, Proxies};
use super::session::{self, Client, Next, Rejection, Request, Response, Session};
use crate::config::DryRunPolicies;
use crate::events::{self, Events, Notice};
use crate::places::{Place, Places};

/// The longest request of a node proxy that is read, in bytes. A proxy that comes back names every resource that it
/// holds: 9 MB for 100 000 pods. It has shown its token before anything is read.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// The longest request of any other pod.
const MAX_DEDICATED_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// In which a client would say that its requests are compressed.
const GRPC_ENCODING: &str = "grpc-encoding";
/// How many streams are open at once.
const MAX_STREAMS: usize = 16_384;
/// How many of them may be one pod's: one, and what is left of those before when it connects again and again.
const MAX_STREAMS_PER_POD: usize = 16;
/// The same for a pod that is no node proxy: any pod may come, and each stream may cost the longest request.
const MAX_STREAMS_PER_DEDICATED_POD: usize = 4;
/// How long a client may take to send its first request.
const FIRST_REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a stream lasts before the client has to show its token again, and how much longer at random, so that
/// not all come at once.
const STREAM_LIFE: Duration = Duration::from_secs(30 * 60);
const STREAM_LIFE_JITTER_SECONDS: u64 = 180;

/// The delta variant of aggregated discovery. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DiscoveryService {
    shared: Arc<Shared>,
}

pub(crate) struct Settings {
    /// What is served.
    pub(crate) views: watch::Receiver<Arc<History>>,
    /// Who is told of dry-run policies.
    pub(crate) dry_run_policies: DryRunPolicies,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// Namespace and service account of the node proxies.
    pub(crate) trusted_node_accounts: Vec<(String, String)>,
    /// Says whether the pod of a caller who is no node proxy is there.
    pub(crate) pods: Arc<dyn NodeAuthorizer>,
    pub(crate) trust_domain: String,
    pub(crate) proxies: Proxies,
    /// Where a pod is told that its stream is refused.
    pub(crate) events: Option<Events>,
    pub(crate) metrics: ControlPlaneMetrics,
    /// The roots that are trusted, where this server knows, and who is told what proxies have acknowledged.
    pub(crate) roots: Option<Arc<dyn Roots>>,
    /// Ends all streams.
    pub(crate) shutdown: CancellationToken,
}

/// The roots that are trusted.
pub(crate) trait Roots: Send + Sync + 'static {
    /// Follows them.
    fn bundles(&self) -> watch::Receiver<Option<Arc<Bundle>>>;
    /// A proxy has this generation of them in force.
    fn acknowledged(&self, proxy: &Holder, generation: u64);
}

struct Shared {
    settings: Settings,
    streams: Arc<Semaphore>,
    /// By namespace and uid.
    of_pods: Places<String>,
}

impl DiscoveryService {
    pub(crate) fn new(settings: Settings) -> DiscoveryService {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        DiscoveryService {
            shared: Arc::new(Shared {
                settings,
                streams,
                of_pods: Places::default(),
            }),
        }
    }
}

impl NamedService for DiscoveryService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for DiscoveryService
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with("/DeltaAggregatedResources") {
                let status = Status::unimplemented("only DeltaAggregatedResources is served");
                return Ok(status.into_http());
            }
            // Before anything of the body is read: what may be sent depends on who sends it.
            let metadata = MetadataMap::from_headers(request.headers().clone());
            let from = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
            let caller = match authenticate(&shared, &metadata, from).await {
                Ok(caller) => caller,
                Err(status) => return Ok(status.into_http()),
            };
            Ok(open(shared, caller, request).unwrap_or_else(Status::into_http))
        })
    }
}

/// What one pod may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    request_bytes: usize,
    streams: usize,
}

impl Limits {
    fn of(caller: &Caller, node_accounts: &[(String, String)]) -> Limits {
        if node::is_of(caller, node_accounts) {
            Limits {
                request_bytes: MAX_REQUEST_BYTES,
                streams: MAX_STREAMS_PER_POD,
            }
        } else {
            Limits {
                request_bytes: MAX_DEDICATED_REQUEST_BYTES,
                streams: MAX_STREAMS_PER_DEDICATED_POD,
            }
        }
    }
}

/// Begins a stream of an authenticated caller.
fn open<B>(
    shared: Arc<Shared>,
    caller: Caller,
    request: http::Request<B>,
) -> Result<http::Response<tonic::body::Body>, Status>
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    if let Some(encoding) = request.headers().get(GRPC_ENCODING)
        && encoding != "identity"
    {
        return Err(Status::unimplemented("requests are not read compressed"));
    }
    let limits = Limits::of(&caller, &shared.settings.trusted_node_accounts);
    let most = limits.streams;
    // Any pod may come; none may take the places of the others.
    let pod = format!("{}/{}", caller.namespace, caller.pod_uid);
    let of_pod = shared.of_pods.take(pod, most).ok_or_else(|| {
        tracing::warn!(%caller, "stream refused: {most} of this pod are open");
        shared.settings.metrics.stream_refused("too_many_streams");
        Status::resource_exhausted("too many streams of this pod are open")
    })?;
    let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
        tracing::warn!(%caller, "stream refused: {MAX_STREAMS} are open");
        shared.settings.metrics.stream_refused("too_many_streams");
        Status::resource_exhausted("too many streams are open here; try another replica")
    })?;
    let offers = shared.settings.roots.is_some();
    let (responses, outgoing) = mpsc::channel(1);
    let stream = Stream {
        shared,
        caller,
        responses,
        _permits: (of_pod, permit),
    };
    let body = request.into_body();
    let requests = Streaming::new_request(RequestDecoder, body, None, Some(limits.request_bytes));
    tokio::spawn(stream.run(requests));
    let mut response = http::Response::new(tonic::body::Body::new(ResponseBody::new(outgoing)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    if offers {
        headers.insert(OFFERS_HEADER, HeaderValue::from_static(TRUST_BUNDLE_TYPE_URL));
    }
    Ok(response)
}

async fn authenticate(
    shared: &Shared,
    metadata: &MetadataMap,
    from: Option<IpAddr>,
) -> Result<Caller, Status> {
    let caller = match bearer_token(metadata) {
        Ok(token) => shared.settings.authenticator.authenticate(token, from).await,
        Err(error) => Err(error),
    };
    caller.map_err(|error| {
        tracing::warn!(code = error.code(), "stream refused: {error}");
        shared.settings.metrics.stream_refused(error.code());
        Status::from(&error)
    })
}

/// One open stream.
struct Stream {
    shared: Arc<Shared>,
    caller: Caller,
    responses: mpsc::Sender<Result<Response, Status>>,
    _permits: (Place<String>, OwnedSemaphorePermit),
}

impl Stream {
    async fn run(self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let status = match self.begin(&mut requests).await {
            Ok(None) => return,
            Ok(Some((first, name, role))) => {
                let shutdown = self.shared.settings.shutdown.clone();
                tokio::select! {
                    status = self.serve(first, name, role, requests) => status,
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

    /// Waits for the first request, which says who is there. `None` when the client went away first.
    async fn begin(
        &self,
        requests: &mut Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Option<(DeltaDiscoveryRequest, ProxyName, Role)>, Status> {
        let settings = &self.shared.settings;
        let first = tokio::time::timeout(FIRST_REQUEST_DEADLINE, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))?;
        let Some(first) = first? else { return Ok(None) };
        let mut name = ProxyName::from_node(first.node.as_ref()).map_err(|error| {
            settings.metrics.stream_refused("bad_node");
            Status::invalid_argument(error.to_string())
        })?;
        let is_there = |caller: &Caller| match caller.identity(&settings.trust_domain) {
            Some(own) => {
                let allowed = settings.pods.may_impersonate(caller, &own);
                allowed.map_err(|denied| denied.to_string())
            }
            None => Err("its names cannot be part of an identity".to_owned()),
        };
        let node = first.node.as_ref();
        let role = name
            .check(node, &self.caller, &settings.trusted_node_accounts, is_there)
            .map_err(|refusal| self.denied(&refusal))?;
        name.node.clone_from(&self.caller.node);
        Ok(Some((first, name, role)))
    }

    fn denied(&self, refusal: &Refusal) -> Status {
        self.shared.settings.metrics.stream_refused(refusal.code());
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
        name: ProxyName,
        role: Role,
        mut requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), Status> {
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
            max_response: session::MAX_RESPONSE_BYTES,
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
                        if let Err(refusal) = name.still(request.node.as_ref()) {
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

/// How many changes are remembered for measuring how long a proxy takes; of further ones the oldest are not measured.
const MAX_CONVERGING: usize = 64;

/// When the proxy's stream was told of revisions that the proxy has not acknowledged yet.
#[derive(Default)]
struct Converging(VecDeque<(u64, Instant)>);

impl Converging {
    fn told(&mut self, revision: u64, now: Instant) {
        if self.0.len() == MAX_CONVERGING {
            self.0.pop_front();
        }
        self.0.push_back((revision, now));
    }

    fn acknowledged(&mut self, revision: u64, now: Instant) -> impl Iterator<Item = Duration> {
        let done = self.0.iter().take_while(|(told, _)| *told <= revision).count();
        let since: Vec<_> = self.0.drain(..done).collect();
        since
            .into_iter()
            .map(move |(_, since)| now.saturating_duration_since(since))
    }
}
