//! The asynchronous shell: one stream, kept for ever.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use proto::discovery::Node;
use tokio::sync::watch;

use crate::state::{Rejection, Update};

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
    /// acknowledged when this is done.
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
    /// The value of the `reason` label.
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
    let _ = (config, handler, status);
    std::future::pending().await
}
