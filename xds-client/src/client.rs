//! The asynchronous shell: one stream, kept for ever.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use proto::origin::OFFERS_HEADER;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::metadata::MetadataMap;

use crate::ask::{self, Demand, Demands, Waiters};
use crate::error::StreamError;
use crate::state::{Rejection, State, Update, Want};

#[cfg(test)]
mod tests;

/// The largest response in bytes.
pub const MAX_RESPONSE: usize = 200 << 20;

/// Requests that may wait to be sent. There is one for each type and one for each response, and responses are
/// handled one at a time.
const QUEUED_REQUESTS: usize = 16;

/// How many offers of a server are looked at.
const MAX_OFFERS: usize = 64;

/// How often names on demand are looked through for ones that nobody needs any more.
const TIDY: Duration = Duration::from_secs(60);

/// What the client needs.
pub struct ClientConfig {
    /// Type URLs to subscribe to, all resources of each, in this order.
    pub types: Vec<String>,
    /// Type URLs to subscribe to where the server says, by the response header [`OFFERS_HEADER`], that it serves them.
    pub offered_types: Vec<String>,
    /// The type of which resources are subscribed to by name only, and who asks for them.
    pub on_demand: Option<Demands>,
    /// What is in force already, from before this process began: type, name and version.
    pub held: Vec<(String, String, String)>,
    /// Who asks.
    pub node: Node,
    /// How the control plane is reached.
    pub channel: grpc_channel::ChannelConfig,
    /// Is told about messages and ends of streams.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Takes updates over.
pub trait Handler: Send {
    /// Applies an update and says what of it is not accepted; the rest is then in force. The response is
    /// acknowledged when this is done, and no other is read before.
    fn apply(&mut self, update: Update) -> impl Future<Output = Vec<Rejection>> + Send;

    /// Says of a name whether its resource is needed although nobody has asked for it lately. Only names on demand are
    /// given up, and only when this says no.
    fn in_use(&self) -> impl Fn(&str) -> bool {
        |_: &str| false
    }
}

/// How the client stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a stream is open.
    pub connected: bool,
    /// The types whose first response has been applied, even if some resources in it were not accepted.
    pub synced: BTreeSet<String>,
    /// Why the last stream ended or could not be opened, or what was last not accepted. Cleared by a response that
    /// is wholly accepted.
    pub last_error: Option<String>,
}

/// Is told what happens, for counting. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// A response arrived.
    fn message(&self, type_url: &str, bytes: usize);
    /// A stream ended or could not be opened.
    fn terminated(&self, reason: Termination);
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Termination {
    /// It could not be opened.
    ConnectionError,
    /// The control plane or the connection failed.
    Error,
    /// The control plane asked to connect again, or the connection reached its age.
    Reconnect,
    /// The control plane ended it in good order.
    Complete,
}

impl Termination {
    /// The value of the metrics' label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionError => "ConnectionError",
            Self::Error => "Error",
            Self::Reconnect => "Reconnect",
            Self::Complete => "Complete",
        }
    }
}

/// Keeps a stream open for ever; drop the future to stop.
pub async fn run<H: Handler>(config: ClientConfig, handler: H, status: watch::Sender<Status>) -> ! {
    let ClientConfig {
        types,
        offered_types,
        on_demand,
        held,
        node,
        channel,
        observer,
    } = config;
    let mut state = State::new(node, types);
    for type_url in &offered_types {
        state = state.where_offered(type_url);
    }
    for (type_url, name, version) in held {
        state = state.holding(&type_url, [(name, version)]);
    }
    if let Some(demands) = &on_demand {
        state = state.on_demand(&demands.type_url);
    }
    let address = channel.address.clone();
    // A channel is made for each attempt, so that a connection that misbehaves is never met again.
    let connect = move || channel.channel().map_err(StreamError::Configuration);
    let client = Client {
        state,
        demands: on_demand,
        waiters: Waiters::default(),
        handler,
        status,
        observer,
        address,
    };
    client.run(connect).await
}

/// Ends a stream: it failed, or the control plane closed it in good order.
type Ended = Result<(), StreamError>;

struct Client<H> {
    state: State,
    demands: Option<Demands>,
    waiters: Waiters,
    handler: H,
    status: watch::Sender<Status>,
    observer: Option<Arc<dyn Observer>>,
    address: String,
}

impl<H: Handler> Client<H> {
    async fn run<C>(mut self, connect: impl Fn() -> Result<C, StreamError>) -> !
    where
        C: GrpcService<Body, Error: Into<StdError>> + Send,
        C::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    {
        loop {
            let ended = match connect() {
                Ok(channel) => self.stream(channel).await,
                Err(error) => Err(error),
            };
            self.note_end(&ended);
            // Every way a stream ends leads through this wait.
            let wait = self.state.disconnected(now(), rand::random());
            let over = tokio::time::sleep(wait);
            tokio::pin!(over);
            loop {
                tokio::select! {
                    () = &mut over => break,
                    demand = next_demand(&mut self.demands) => self.demanded(demand),
                }
            }
        }
    }

    /// One stream from its first request to its end.
    async fn stream<C>(&mut self, channel: C) -> Ended
    where
        C: GrpcService<Body, Error: Into<StdError>> + Send,
        C::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    {
        let first = self.state.connected(now());
        let (requests, queued) = mpsc::channel(QUEUED_REQUESTS.max(first.len()));
        for request in first {
            // The queue has room for all of them.
            if requests.try_send(request).is_err() {
                return Err(StreamError::RequestsEnded);
            }
        }
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        // There is no deadline here: a control plane may hold the headers back until it has something to say. That
        // the connection lives is checked by HTTP/2 pings.
        let opening = client.delta_aggregated_resources(ReceiverStream::new(queued));
        tokio::pin!(opening);
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                // Told on the stream once it is open.
                demand = next_demand(&mut self.demands) => self.demanded(demand),
            }
        };
        let opened = opened.map_err(StreamError::Open)?;
        for request in self.state.offered(offers(opened.metadata())) {
            requests
                .send(request)
                .await
                .map_err(|_| StreamError::RequestsEnded)?;
        }
        let responses = opened.into_inner();
        self.status.send_modify(|status| status.connected = true);
        tracing::info!(address = %self.address, "connected to the control plane");
        self.receive(responses, requests).await
    }

    async fn receive(
        &mut self,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Ended {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            let response = tokio::select! {
                response = responses.message() => response.map_err(StreamError::Failed)?,
                demand = next_demand(&mut self.demands) => {
                    self.demanded(demand);
                    continue;
                }
                permit = requests.reserve(), if self.state.has_unsent() => {
                    let permit = permit.map_err(|_| StreamError::RequestsEnded)?;
                    if let Some(request) = self.state.next_request() {
                        permit.send(request);
                    }
                    continue;
                }
                _ = tidy.tick(), if self.demands.is_some() => {
                    self.tidy().await;
                    continue;
                }
            };
            let Some(response) = response else {
                return Ok(());
            };
            if let Some(observer) = &self.observer {
                observer.message(&response.type_url, response.encoded_len());
            }
            let (update, pending) = self.state.received(response);
            let rejections = match update {
                Some(update) => {
                    tracing::debug!(
                        type_url = update.type_url.as_str(),
                        changed = update.resources.len(),
                        removed = update.removed.len(),
                        "received"
                    );
                    self.handler.apply(update).await
                }
                None => Vec::new(),
            };
            let answer = self.state.applied(pending, rejections, now());
            for (name, exists) in &answer.answered {
                self.waiters.answer(name, *exists);
            }
            if let Some(rejected) = &answer.rejected {
                tracing::warn!(
                    type_url = answer.request.type_url.as_str(),
                    rejected = rejected.as_str(),
                    "the control plane sent resources that are not accepted; what was in force before stays"
                );
            }
            self.note_response(answer.rejected);
            requests
                .send(answer.request)
                .await
                .map_err(|_| StreamError::RequestsEnded)?;
        }
    }

    fn demanded(&mut self, Demand { name, answer }: Demand) {
        let Some(demands) = &self.demands else {
            return;
        };
        let (type_url, now) = (&demands.type_url, now());
        let mut want = self.state.want(type_url, &name, now);
        if want == Want::Full && self.state.make_room(type_url, now, || self.handler.in_use()) {
            want = self.state.want(type_url, &name, now);
        }
        let demand = Demand { name, answer };
        match want {
            Want::Exists | Want::Missing => {
                // Whoever asked may have given up.
                let _ = demand.answer.send(Ok(want == Want::Exists));
            }
            Want::Asked => self.waiters.add(demand),
            Want::Full => ask::refuse(demand),
        }
    }

    /// Gives up what nobody needs any more.
    async fn tidy(&mut self) {
        self.waiters.forget_the_gone();
        let updates = self.state.give_up_idle(now(), self.handler.in_use());
        for update in updates {
            tracing::debug!(
                resources = update.removed.len(),
                "gave up what nobody asked for lately"
            );
            self.handler.apply(update).await;
        }
    }

    fn note_response(&self, rejected: Option<String>) {
        let synced = &self.state;
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.synced = synced.synced().map(str::to_owned).collect();
            status.last_error = rejected;
            *status != before
        });
    }

    fn note_end(&self, ended: &Ended) {
        let reason = ended
            .as_ref()
            .map_or_else(StreamError::termination, |()| Termination::Complete);
        if let Some(observer) = &self.observer {
            observer.terminated(reason);
        }
        let text = match ended {
            Ok(()) => format!("control plane {}: it ended the stream", self.address),
            Err(error) => format!("control plane {}: {error}", self.address),
        };
        match reason {
            Termination::Complete | Termination::Reconnect => tracing::info!("{text}; connecting again"),
            Termination::ConnectionError | Termination::Error => {
                tracing::warn!("{text}; what is known stays in force, connecting again");
            }
        }
        self.status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(text);
        });
    }
}

/// The type URLs that a server offers. Of a header that is no text nothing is offered.
fn offers(metadata: &MetadataMap) -> Vec<&str> {
    let values = metadata.get_all(OFFERS_HEADER).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(',').map(str::trim))
        .filter(|url| !url.is_empty())
        .take(MAX_OFFERS)
        .collect()
}

/// The next question; never, where nothing is subscribed to on demand.
async fn next_demand(demands: &mut Option<Demands>) -> Demand {
    let demand = match demands {
        Some(demands) => demands.receiver.recv().await,
        None => None,
    };
    match demand {
        Some(demand) => demand,
        // Nobody is left who could ask.
        None => std::future::pending().await,
    }
}

/// The runtime's clock, which tests can hold still.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
