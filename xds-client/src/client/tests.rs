use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::Stream;
use prost_types::Any;
use proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use proto::discovery::{DiscoveryRequest, DiscoveryResponse, Resource};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response};

use super::*;

const POLICY: &str = "type.example/Policy";
/// What the server offers besides.
const OFFERED: &str = "type.example/Offered";
const LONG: Duration = Duration::from_secs(20);

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, tonic::Status>>;

/// One stream, as the server has it.
struct Accepted {
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: Responses,
}

impl Accepted {
    async fn request(&mut self) -> DeltaDiscoveryRequest {
        timeout(LONG, self.requests.message())
            .await
            .expect("a request in time")
            .unwrap()
            .expect("no end")
    }

    async fn send(&self, nonce: &str, resources: &[(&str, &str)], removed: &[&str]) {
        let resources = resources
            .iter()
            .map(|(name, version)| Resource {
                name: (*name).into(),
                version: (*version).into(),
                resource: Some(Any {
                    type_url: POLICY.into(),
                    value: b"body".to_vec(),
                }),
                ..Resource::default()
            })
            .collect();
        let response = DeltaDiscoveryResponse {
            type_url: POLICY.into(),
            nonce: nonce.into(),
            resources,
            removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
    }
}

/// A control plane whose streams are led by the test.
struct Service(mpsc::Sender<Accepted>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, tonic::Status>> + Send>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, tonic::Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("only delta"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, tonic::Status> {
        let (responses, stream) = mpsc::channel(4);
        let accepted = Accepted {
            requests: request.into_inner(),
            responses,
        };
        self.0
            .send(accepted)
            .await
            .map_err(|_| tonic::Status::permission_denied("go away"))?;
        let mut response = Response::new(ReceiverStream::new(stream));
        let offers = format!("type.example/Unknown, {OFFERED}");
        response
            .metadata_mut()
            .insert(OFFERS_HEADER, offers.parse().unwrap());
        Ok(response)
    }
}

async fn serve(listener: TcpListener) -> (mpsc::Receiver<Accepted>, JoinHandle<()>) {
    let (accepted, streams) = mpsc::channel(4);
    let server = Server::builder()
        .add_service(AggregatedDiscoveryServiceServer::new(Service(accepted)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let task = tokio::spawn(async move {
        server.await.unwrap();
    });
    (streams, task)
}

/// What a handler was given, and when it may go on.
struct Call {
    update: Update,
    go_on: oneshot::Sender<Vec<Rejection>>,
}

struct Recorder(mpsc::Sender<Call>);

impl Handler for Recorder {
    async fn apply(&mut self, update: Update) -> Vec<Rejection> {
        let (go_on, decided) = oneshot::channel();
        self.0.send(Call { update, go_on }).await.ok();
        decided.await.unwrap_or_default()
    }
}

#[derive(Default)]
struct Counts {
    messages: Mutex<Vec<(String, usize)>>,
    ends: Mutex<Vec<Termination>>,
}

impl Observer for Counts {
    fn message(&self, type_url: &str, bytes: usize) {
        self.messages.lock().unwrap().push((type_url.to_owned(), bytes));
    }

    fn terminated(&self, reason: Termination) {
        self.ends.lock().unwrap().push(reason);
    }
}

struct Running {
    calls: mpsc::Receiver<Call>,
    status: watch::Receiver<Status>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(connect: impl Fn() -> Result<Channel, StreamError> + Send + 'static) -> Self {
        Self::subscribed(&[], connect)
    }

    fn subscribed(
        offered: &[&str],
        connect: impl Fn() -> Result<Channel, StreamError> + Send + 'static,
    ) -> Self {
        let (sender, calls) = mpsc::channel(4);
        let (status, watched) = watch::channel(Status::default());
        let counts = Arc::new(Counts::default());
        let node = Node {
            id: "node".into(),
            ..Node::default()
        };
        let mut state = State::new(node, [POLICY.to_owned()]);
        for type_url in offered {
            state = state.where_offered(type_url);
        }
        let client = Client {
            state,
            demands: None,
            waiters: Waiters::default(),
            handler: Recorder(sender),
            status,
            observer: Some(counts.clone()),
            address: "test".into(),
        };
        let task = tokio::spawn(async move {
            client.run(connect).await;
        });
        Self {
            calls,
            status: watched,
            counts,
            task,
        }
    }

    fn to(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::start(move || Ok(endpoint.connect_lazy()))
    }

    async fn call(&mut self) -> Call {
        timeout(LONG, self.calls.recv())
            .await
            .expect("an update in time")
            .unwrap()
    }

    async fn until(&mut self, wanted: impl FnMut(&Status) -> bool) -> Status {
        timeout(LONG, self.status.wait_for(wanted))
            .await
            .expect("the status in time")
            .unwrap()
            .clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn an_update_is_acknowledged_only_when_it_is_in_force() {
    let (listener, address) = listener().await;
    let (mut streams, server) = serve(listener).await;
    let mut client = Running::to(address);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    let first = stream.request().await;
    assert_eq!(
        (first.type_url.as_str(), first.node.unwrap().id.as_str()),
        (POLICY, "node")
    );

    stream.send("n1", &[("a", "1"), ("b", "1")], &["c"]).await;
    let call = client.call().await;
    assert_eq!(call.update.resources.len(), 2);
    assert_eq!(call.update.resources[0].payload, "body");
    assert_eq!(call.update.removed, ["c"]);
    // The handler is still at work: there must be no answer yet, and the type is not synced.
    let early = timeout(Duration::from_millis(200), stream.requests.message()).await;
    assert!(early.is_err(), "acknowledged too early: {early:?}");
    assert!(client.status.borrow().connected && client.status.borrow().synced.is_empty());
    call.go_on.send(vec![]).unwrap();
    let ack = stream.request().await;
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n1", None));
    let status = client.until(|status| !status.synced.is_empty()).await;
    assert_eq!(status.last_error, None);

    stream.send("n2", &[("a", "2")], &[]).await;
    let rejection = Rejection {
        name: "a".into(),
        reason: "port 0".into(),
    };
    client.call().await.go_on.send(vec![rejection]).unwrap();
    let nack = stream.request().await;
    assert_eq!(nack.response_nonce, "n2");
    assert_eq!(nack.error_detail.unwrap().message, "a: port 0");
    let status = client.until(|status| status.last_error.is_some()).await;
    assert_eq!(status.last_error.as_deref(), Some("a: port 0"));
    let messages = client.counts.messages.lock().unwrap().clone();
    assert_eq!(messages.len(), 2);
    assert!(
        messages
            .iter()
            .all(|(url, bytes)| url == POLICY && *bytes > POLICY.len())
    );
    server.abort();
}

#[tokio::test]
async fn a_new_stream_goes_on_where_the_old_one_ended() {
    let (listener, address) = listener().await;
    let (mut streams, server) = serve(listener).await;
    let mut client = Running::to(address);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    stream.request().await;
    stream.send("n1", &[("a", "1"), ("b", "1")], &[]).await;
    client.call().await.go_on.send(vec![]).unwrap();
    stream.request().await;
    // The control plane ends the stream in good order, then breaks the next one.
    drop(stream);
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    let again = stream.request().await;
    assert_eq!(again.initial_resource_versions.len(), 2);
    assert_eq!(again.initial_resource_versions["a"], "1");
    let broken = Err(tonic::Status::internal("out of memory"));
    stream.responses.send(broken).await.unwrap();
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    assert_eq!(stream.request().await.initial_resource_versions.len(), 2);
    let status = client.until(|status| status.connected).await;
    assert_eq!(status.synced.len(), 1, "what was synced stays so");
    assert!(status.last_error.unwrap().contains("out of memory"));
    let ends = client.counts.ends.lock().unwrap().clone();
    assert_eq!(ends, [Termination::Complete, Termination::Error]);
    server.abort();
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_found_when_it_comes_back() {
    let (listener, address) = listener().await;
    drop(listener);
    let mut client = Running::to(address);
    let status = client.until(|status| status.last_error.is_some()).await;
    assert!(!status.connected);
    let error = status.last_error.unwrap();
    assert!(
        error.contains("control plane test: it cannot be reached") && error.contains("refused"),
        "{error}"
    );
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut streams, server) = serve(listener).await;
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    stream.request().await;
    client.until(|status| status.connected).await;
    assert_eq!(
        client.counts.ends.lock().unwrap().first(),
        Some(&Termination::ConnectionError)
    );
    server.abort();
}

#[tokio::test]
async fn a_refused_client_is_told_what_to_check() {
    let (listener, address) = listener().await;
    let (streams, server) = serve(listener).await;
    drop(streams);
    let mut client = Running::to(address);
    let status = client.until(|status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("refuses this client (go away)") && error.contains("check the token"),
        "{error}"
    );
    server.abort();
}

/// Time is simulated: the attempts of ten minutes are over at once.
#[tokio::test(start_paused = true)]
async fn no_error_leads_to_a_hot_loop() {
    let attempts = Arc::new(Mutex::new(0));
    let counted = attempts.clone();
    let client = Running::start(move || {
        *counted.lock().unwrap() += 1;
        Err(StreamError::RequestsEnded)
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = *attempts.lock().unwrap();
    // About ten while the waits double, then one in 7.5 to 15 s.
    assert!((40..=95).contains(&attempts), "{attempts}");
    drop(client);
}

mod on_demand;

#[tokio::test]
async fn what_the_server_offers_is_subscribed_to_and_nothing_else_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut streams, server) = serve(listener).await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = Running::subscribed(&["type.example/Missing", OFFERED], move || {
        Ok(endpoint.connect_lazy())
    });
    let mut stream = timeout(LONG, streams.recv()).await.unwrap().unwrap();
    assert_eq!(stream.request().await.type_url, POLICY);
    assert_eq!(stream.request().await.type_url, OFFERED);
    stream.send("n1", &[("a", "1")], &[]).await;
    let call = client.call().await;
    call.go_on.send(Vec::new()).unwrap();
    let answer = stream.request().await;
    assert_eq!(
        (answer.type_url.as_str(), answer.response_nonce.as_str()),
        (POLICY, "n1")
    );
    server.abort();
}
