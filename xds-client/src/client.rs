//! The asynchronous shell: one stream, kept for ever.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use prost::Message;
use proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

use crate::error::StreamError;
use crate::state::{Rejection, State, Update};

#[cfg(test)]
mod tests;

/// The largest response in bytes.
pub const MAX_RESPONSE: usize = 200 << 20;

/// Requests that may wait to be sent. There is one for each type and one for each response, and responses are
/// handled one at a time.
const QUEUED_REQUESTS: usize = 16;

/// What the client needs.
pub struct ClientConfig {
    /// Type URLs to subscribe to, all resources of each, in this order.
    pub types: Vec<String>,
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
        node,
        channel,
        observer,
    } = config;
    let address = channel.address.clone();
    // A channel is made for each attempt, so that a connection that misbehaves is never met again.
    let connect = move || channel.channel().map_err(StreamError::Configuration);
    let client = Client {
        state: State::new(node, types),
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
            let wait = self.state.disconnected(rand::random());
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream from its first request to its end.
    async fn stream<C>(&mut self, channel: C) -> Ended
    where
        C: GrpcService<Body, Error: Into<StdError>> + Send,
        C::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    {
        let first = self.state.connected();
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
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(queued))
            .await
            .map_err(StreamError::Open)?
            .into_inner();
        self.status.send_modify(|status| status.connected = true);
        tracing::info!(address = %self.address, "connected to the control plane");
        self.receive(responses, requests).await
    }

    async fn receive(
        &mut self,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Ended {
        while let Some(response) = responses.message().await.map_err(StreamError::Failed)? {
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
            let answer = self.state.applied(pending, rejections);
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
        Ok(())
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
