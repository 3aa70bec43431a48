//! Every connection that is open in this proxy, so that a change can close those no longer allowed.
//!
//! A connection enters the register before it asks whether it may exist. A change is stored first and the
//! register walked after. So either the connection saw the change when it asked, or the walk sees the
//! connection: none slips through between the two.

use crate::pods::Pod;
use crate::tunnels::TunnelId;
use mesh::Identity;
use mesh::standing::{Opened, Stale};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Why an open connection was closed from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The policy in force does not allow it any more; the text is the decision's.
    Policy(String),
    /// The peer's certificate is no longer trusted, or was revoked.
    PeerUntrusted(tls::HandshakeError),
    /// What an outbound connection rests on has changed.
    Stale(Stale),
    /// Its pod left the mesh and the grace period is over.
    PodLeft,
    /// This proxy is stopping and the drain deadline is over.
    Stopping,
}

impl CloseReason {
    /// Stable word for metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Policy(_) => "policy_changed",
            Self::PeerUntrusted(reason) => crate::trust::code(reason),
            Self::Stale(stale) => stale.code(),
            Self::PodLeft => "pod_left",
            Self::Stopping => "proxy_stopping",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(decision) => write!(formatter, "closed, because policy changed: {decision}"),
            Self::PeerUntrusted(reason) => write!(formatter, "closed, because trust changed: {reason}"),
            Self::Stale(stale) => write!(formatter, "closed, because {stale}"),
            Self::PodLeft => {
                formatter.write_str("closed, because the pod left the mesh and the grace period is over")
            }
            Self::Stopping => {
                formatter.write_str("closed, because the proxy is stopping and the drain deadline is over")
            }
        }
    }
}

/// Which way a connection goes, and for an inbound one what its permission rests on.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// From a captured pod; asked again whenever workloads change.
    Outbound(OutboundSubject),
    /// Towards a captured pod; asked again whenever policy or workloads change.
    Inbound(InboundSubject),
}

/// Where an outbound connection goes, once that is known. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutboundSubject {
    goes: Arc<Mutex<Option<Arc<Opened>>>>,
}

impl OutboundSubject {
    /// Where it goes now.
    pub(crate) fn set(&self, opened: Opened) {
        *self.lock() = Some(Arc::new(opened));
    }

    /// Where it goes.
    pub(crate) fn get(&self) -> Option<Arc<Opened>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Opened>>> {
        self.goes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an inbound connection's permission rests on.
#[derive(Clone, Debug)]
pub(crate) struct InboundSubject {
    /// Identity of the TLS session, none for plaintext.
    pub(crate) peer: Option<Identity>,
    /// Address of the TCP peer.
    pub(crate) source_ip: IpAddr,
    /// Application address inside the pod.
    pub(crate) destination: SocketAddr,
}

/// One open connection as others see it.
#[derive(Clone, Debug)]
pub(crate) struct OpenConnection {
    /// Unique within this process.
    pub(crate) id: u64,
    /// Pod it belongs to. A pod that left and came back is another one.
    pub(crate) pod: Arc<Pod>,
    /// Direction and grounds.
    pub(crate) subject: Subject,
    /// Client address.
    pub(crate) source: SocketAddr,
    /// Destination as the client named it.
    pub(crate) destination: SocketAddr,
    /// When it was accepted.
    pub(crate) since: Instant,
    cancel: Arc<Cancel>,
}

#[derive(Debug, Default)]
struct Cancel {
    token: CancellationToken,
    reason: OnceLock<CloseReason>,
    /// Number of the tunnel that carries the connection, 0 while there is none.
    tunnel: AtomicU64,
}

impl OpenConnection {
    /// Asks the connection to end; the first reason given is the one it reports.
    pub(crate) fn close(&self, reason: CloseReason) {
        // A second reason is of no interest: the connection is ending already.
        let _ = self.cancel.reason.set(reason);
        self.cancel.token.cancel();
    }

    /// The number of the tunnel that carries it, once there is one.
    pub(crate) fn tunnel(&self) -> Option<u64> {
        Some(self.cancel.tunnel.load(Ordering::Acquire)).filter(|number| *number != 0)
    }
}

/// The register.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: AtomicU64,
    open: Mutex<HashMap<u64, OpenConnection>>,
    left: Notify,
}

impl Connections {
    /// Enters a connection; it leaves when the guard is dropped.
    pub(crate) fn enter(
        &self,
        pod: Arc<Pod>,
        subject: Subject,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Registered {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let cancel = Arc::new(Cancel::default());
        let connection = OpenConnection {
            id,
            pod,
            subject,
            source,
            destination,
            since: Instant::now(),
            cancel: cancel.clone(),
        };
        self.lock().insert(id, connection);
        Registered {
            id,
            cancel,
            register: self.clone(),
        }
    }

    /// Everything open now.
    pub(crate) fn list(&self) -> Vec<OpenConnection> {
        self.lock().values().cloned().collect()
    }

    /// How many are open now.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Closes what `judge` gives a reason for and waits, `patience` at most, until all of it has ended.
    /// Returns how many were told to close.
    pub(crate) async fn close_where(
        &self,
        patience: Duration,
        mut judge: impl FnMut(&OpenConnection) -> Option<CloseReason>,
    ) -> usize {
        let mut closing = Vec::new();
        for connection in self.list() {
            if let Some(reason) = judge(&connection) {
                connection.close(reason);
                closing.push(connection.id);
            }
        }
        let told = closing.len();
        // Running out of patience is not an error: the connection has been told and will end.
        let _ = tokio::time::timeout(patience, self.ended(closing)).await;
        told
    }

    async fn ended(&self, ids: Vec<u64>) {
        self.until(|open| !ids.iter().any(|id| open.contains_key(id)))
            .await;
    }

    async fn until(&self, condition: impl Fn(&HashMap<u64, OpenConnection>) -> bool) {
        loop {
            let left = self.inner.left.notified();
            tokio::pin!(left);
            // Listen before looking, or a departure between the two would go unheard.
            left.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OpenConnection>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the register.
#[derive(Debug)]
pub(crate) struct Registered {
    id: u64,
    cancel: Arc<Cancel>,
    register: Connections,
}

impl Registered {
    /// Says which tunnel carries the connection.
    pub(crate) fn carried_by(&self, tunnel: TunnelId) {
        self.cancel.tunnel.store(tunnel.number(), Ordering::Release);
    }

    /// Ends when the connection was told to close.
    pub(crate) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.cancel.token.cancelled()
    }

    /// The reason given, once told to close.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.cancel.reason.get().cloned()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.register.lock().remove(&self.id);
        self.register.inner.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
