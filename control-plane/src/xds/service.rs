//! `AggregatedDiscoveryService` over gRPC: who may open a stream. What becomes of one is in `stream`.

mod converging;
mod stream;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ca::rotation::Holder;
use ca::{Authenticator, Caller, bearer_token};
use http::header::{CONTENT_TYPE, HeaderValue};
use proto::origin::{OFFERS_HEADER, TRUST_BUNDLE_TYPE_URL};
use telemetry::ControlPlaneMetrics;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::codegen::{Body, Service, StdError};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tonic::{Status, Streaming};

use self::stream::Stream;
use super::body::ResponseBody;
use super::bundle::Bundle;
use super::codec::RequestDecoder;
use super::history::History;
use super::node;
use super::proxies::Proxies;
use crate::config::DryRunPolicies;
use crate::events::Events;
use crate::places::Places;
use crate::pods::Pods;
use crate::standstill::{Now, Standstill};

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
    /// About how long a response may be, in bytes.
    pub(crate) max_response: usize,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// Namespace and service account of the node proxies.
    pub(crate) trusted_node_accounts: Vec<(String, String)>,
    /// Says whether a caller's pod is there, and when it goes.
    pub(crate) pods: Pods,
    pub(crate) trust_domain: String,
    pub(crate) proxies: Proxies,
    /// Where a pod is told that its stream is refused.
    pub(crate) events: Option<Events>,
    pub(crate) metrics: ControlPlaneMetrics,
    /// The roots that are trusted, where this server knows, and who is told what proxies have acknowledged.
    pub(crate) roots: Option<Arc<dyn Roots>>,
    /// While this process is behind, no stream is begun.
    pub(crate) standstill: Standstill,
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
    if shared.settings.standstill.is_behind(Now::read()) {
        shared.settings.metrics.stream_refused("behind");
        return Err(Status::unavailable(
            "this replica stood still and reads everything anew; come again, or go to another",
        ));
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
