//! What every pod is served with, the proxy's own included: the acceptance of connections, its identity, and an end in
//! good order.

use crate::acceptor::Acceptor;
use crate::connections::CloseReason;
use crate::context::Context;
use crate::handshakes::Handshakes;
use crate::identities::Held;
use crate::inbound::{Inbound, Waiting};
use crate::pods::Pod;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Reporter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the tasks of connections that are closed may take to say so.
const CLOSING: Duration = Duration::from_secs(1);

/// Serves one pod. Its end is [`Serving::drain`], where that was not in time [`Serving::close_open`], and
/// [`Serving::end`].
pub(crate) struct Serving {
    pub(crate) context: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    /// Takes connections until the pod drains; what it has taken is tracked until it is served to its end.
    pub(crate) acceptor: Acceptor,
    /// Ends tunnels.
    ended: CancellationToken,
    _identity: Held,
}

impl Serving {
    pub(crate) fn new(context: Arc<Context>, pod: Arc<Pod>) -> Self {
        Self {
            acceptor: Acceptor {
                stop: CancellationToken::new(),
                open: TaskTracker::new(),
                reserve: context.reserve.clone(),
                metrics: context.metrics.clone(),
            },
            ended: CancellationToken::new(),
            _identity: context.identities.hold(&pod.identity),
            context,
            pod,
        }
    }

    /// Takes tunnels of others; in the proxy's own pod they reach one port only.
    pub(crate) fn take_tunnels(&self, listener: TcpListener, only_port: Option<u16>) {
        let inbound = Arc::new(Inbound {
            context: self.context.clone(),
            pod: self.pod.clone(),
            handshakes: Handshakes::default(),
            waiting: Waiting::default(),
            draining: self.acceptor.stop.clone(),
            ended: self.ended.clone(),
            open: self.acceptor.open.clone(),
            only_port,
        });
        self.acceptor
            .serve(listener, Reporter::Destination, move |stream| {
                let inbound = inbound.clone();
                async move { inbound.serve(stream).await }
            });
    }

    /// Takes no more connections and waits for those that have come, at most for the drain deadline. Returns whether
    /// all of them have ended.
    ///
    /// Tunnels of others are told to open no more streams; those already under way are served, and a tunnel ends with
    /// its last stream.
    pub(crate) async fn drain(&self) -> bool {
        self.acceptor.stop.cancel();
        self.acceptor.open.close();
        let deadline = self.context.config.drain_deadline;
        tokio::time::timeout(deadline, self.acceptor.open.wait())
            .await
            .is_ok()
    }

    /// Closes the connections that are open, with `reason`. Returns how many there were.
    pub(crate) async fn close_open(&self, reason: &CloseReason) -> usize {
        let closed = self.context.connections.close_where(CLOSING, |open| {
            Arc::ptr_eq(&open.pod, &self.pod).then(|| reason.clone())
        });
        closed.await
    }

    /// Ends what tunnels there are.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}
