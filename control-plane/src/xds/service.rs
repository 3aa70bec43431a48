//! `AggregatedDiscoveryService` over gRPC: who may open a stream, and the task that carries a [`Session`]'s messages.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ca::{Authenticator, Caller, bearer_token};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use proto::discovery::DeltaDiscoveryRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::{Body, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};

use super::ResourceKind;
use super::codec::DeltaCodec;
use super::history::History;
use super::node::{self, ProxyName};
use super::proxies::{Connected, Proxies};
use super::session::{Client, Next, Rejection, Request, Response, Session};
use crate::config::DryRunPolicies;

/// The longest request that is read, in bytes. A proxy that comes back names every resource that it holds: 9 MB for
/// 100 000 pods. It has shown its token before anything is read.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// How many streams are open at once.
const MAX_STREAMS: usize = 16_384;
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
    pub(crate) proxies: Proxies,
    /// Ends all streams.
    pub(crate) shutdown: CancellationToken,
}

struct Shared {
    settings: Settings,
    streams: Arc<Semaphore>,
}

impl DiscoveryService {
    pub(crate) fn new(settings: Settings) -> DiscoveryService {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        DiscoveryService {
            shared: Arc::new(Shared { settings, streams }),
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
        let delta = Delta(self.shared.clone());
        Box::pin(async move {
            if !request.uri().path().ends_with("/DeltaAggregatedResources") {
                let status = Status::unimplemented("only DeltaAggregatedResources is served");
                return Ok(status.into_http());
            }
            let mut grpc = Grpc::new(DeltaCodec).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(grpc.streaming(delta, request).await)
        })
    }
}

struct Delta(Arc<Shared>);

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = Response;
    type ResponseStream = BoxStream<'static, Result<Response, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let caller = authenticate(&shared, request.metadata()).await?;
            let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
                tracing::warn!(%caller, "stream refused: {MAX_STREAMS} are open");
                Status::resource_exhausted("too many streams are open here; try another replica")
            })?;
            let (responses, outgoing) = mpsc::channel(1);
            let stream = Stream {
                shared,
                caller,
                responses,
                _permit: permit,
            };
            tokio::spawn(stream.run(request.into_inner()));
            Ok(tonic::Response::new(ReceiverStream::new(outgoing).boxed()))
        })
    }
}

async fn authenticate(shared: &Shared, metadata: &tonic::metadata::MetadataMap) -> Result<Caller, Status> {
    let caller = match bearer_token(metadata) {
        Ok(token) => shared.settings.authenticator.authenticate(token).await,
        Err(error) => Err(error),
    };
    caller.map_err(|error| {
        tracing::warn!(code = error.code(), "stream refused: {error}");
        Status::from(&error)
    })
}

/// One open stream.
struct Stream {
    shared: Arc<Shared>,
    caller: Caller,
    responses: mpsc::Sender<Result<Response, Status>>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let status = match self.begin(&mut requests).await {
            Ok(None) => return,
            Ok(Some((first, name))) => {
                let shutdown = self.shared.settings.shutdown.clone();
                tokio::select! {
                    status = self.serve(first, name, requests) => status,
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
    ) -> Result<Option<(DeltaDiscoveryRequest, ProxyName)>, Status> {
        let first = tokio::time::timeout(FIRST_REQUEST_DEADLINE, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))?;
        let Some(first) = first? else { return Ok(None) };
        let name = ProxyName::from_node(first.node.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let trusted = &self.shared.settings.trusted_node_accounts;
        name.check(&self.caller, trusted)
            .map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
        Ok(Some((first, name)))
    }

    async fn serve(
        &self,
        first: DeltaDiscoveryRequest,
        name: ProxyName,
        mut requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), Status> {
        let mut views = self.shared.settings.views.clone();
        let number: u64 = rand::random();
        let client = Client {
            node: name.node.as_str().into(),
            dry_run: match self.shared.settings.dry_run_policies {
                DryRunPolicies::Announced => node::knows_dry_run(first.node.as_ref()),
                DryRunPolicies::All => true,
                DryRunPolicies::None => false,
            },
        };
        let mut session = Session::new(number, client, views.borrow_and_update().clone());
        let connected = self.shared.settings.proxies.connect(name.clone(), number);
        tracing::info!(node = name.node, pod = name.pod, "proxy connected");
        let jitter = Duration::from_secs(rand::random::<u64>() % STREAM_LIFE_JITTER_SECONDS);
        let end = tokio::time::sleep(STREAM_LIFE + jitter);
        tokio::pin!(end);
        take(&mut session, &connected, first)?;
        // A response that waits until the client takes the one before.
        let mut pending = None;
        let mut overdue = 0;
        loop {
            let mut until = None;
            if pending.is_none() {
                match session.next(Instant::now()) {
                    Next::Send(response) => pending = Some(response),
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
                    if let Some(response) = pending.take() {
                        tracing::debug!(
                            node = name.node, kind = %response.kind, revision = response.revision,
                            resources = response.resources.len(), removed = response.removed.len(), "sending",
                        );
                        permit.send(Ok(response));
                    }
                }
                request = requests.message() => match request {
                    Ok(Some(request)) => take(&mut session, &connected, request)?,
                    Ok(None) => break,
                    Err(status) => {
                        tracing::info!(node = name.node, pod = name.pod, "stream ended: {}", status.message());
                        return Ok(());
                    }
                },
                changed = views.changed() => {
                    // The sender lives as long as the program serves.
                    if changed.is_err() { break }
                    session.update(views.borrow_and_update().clone());
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

/// Hands a request to the session, and says what the proxy rejects.
fn take(session: &mut Session, connected: &Connected, request: DeltaDiscoveryRequest) -> Result<(), Status> {
    let Some(kind) = ResourceKind::from_type_url(&request.type_url) else {
        // Asking for more than there is does no harm; no answer means that there is none.
        tracing::debug!(
            type_url = request.type_url,
            "a type that is not served was asked for"
        );
        return Ok(());
    };
    let request = Request {
        subscribe: request.resource_names_subscribe,
        unsubscribe: request.resource_names_unsubscribe,
        initial_versions: request.initial_resource_versions,
        nonce: request.response_nonce,
        error: request.error_detail.map(|error| error.message),
    };
    let rejections = session
        .request(Instant::now(), kind, request)
        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
    for Rejection { kind, name, reason } in &rejections {
        tracing::warn!(proxy = connected.name(), %kind, resource = name, "the proxy does not accept: {reason}");
    }
    connected.update(session, &rejections);
    Ok(())
}
