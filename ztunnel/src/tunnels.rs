//! Every tunnel that is open in this proxy, and what its peer has shown, so that a change of trust can close those
//! that rest on what is no longer trusted.
//!
//! A tunnel enters the register before its peer is judged once more by what is then in force. A change is stored
//! first and the register walked after. So none slips through between the two.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use telemetry::Reporter;
use tls::{HandshakeError, Peer, Trust};
use tokio_util::sync::CancellationToken;

/// Names a tunnel within this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TunnelId(u64);

impl TunnelId {
    /// As a number that is never 0.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The register.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tunnels {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: AtomicU64,
    open: Mutex<HashMap<TunnelId, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    reporter: Reporter,
    peer: Arc<Peer>,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    token: CancellationToken,
    reason: OnceLock<HandshakeError>,
}

/// A tunnel whose peer would not be accepted any more.
#[derive(Clone, Debug)]
pub(crate) struct Untrusted {
    /// Which.
    pub(crate) id: TunnelId,
    /// Which end of it we are.
    pub(crate) reporter: Reporter,
    /// Who is at the other.
    pub(crate) peer: Arc<Peer>,
    /// Why not.
    pub(crate) reason: HandshakeError,
    end: Arc<End>,
}

impl Tunnels {
    /// Enters a tunnel to `peer`; it leaves when the guard is dropped.
    ///
    /// Fails if trust has changed since the handshake and the peer would not be accepted any more.
    pub(crate) fn enter(
        &self,
        reporter: Reporter,
        peer: Peer,
        trust: &Trust,
    ) -> Result<OpenTunnel, HandshakeError> {
        let id = TunnelId(self.inner.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let entry = Entry {
            reporter,
            peer: Arc::new(peer),
            end: Arc::default(),
        };
        let tunnel = OpenTunnel {
            id,
            end: entry.end.clone(),
            register: self.clone(),
        };
        let peer = entry.peer.clone();
        self.lock().insert(id, entry);
        trust.recheck(&peer)?;
        Ok(tunnel)
    }

    /// Those whose peer `trust` would not accept any more. Verifies signatures: not for a thread that moves bytes.
    pub(crate) fn untrusted(&self, trust: &Trust) -> Vec<Untrusted> {
        let entries: Vec<(TunnelId, Entry)> = self
            .lock()
            .iter()
            .map(|(id, entry)| (*id, entry.clone()))
            .collect();
        entries
            .into_iter()
            .filter_map(|(id, entry)| {
                let reason = trust.recheck(&entry.peer).err()?;
                Some(Untrusted {
                    id,
                    reporter: entry.reporter,
                    peer: entry.peer,
                    reason,
                    end: entry.end,
                })
            })
            .collect()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelId, Entry>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Untrusted {
    /// Tells the tunnel to end.
    pub(crate) fn close(&self) {
        // A second reason is of no interest: the tunnel is ending already.
        let _ = self.end.reason.set(self.reason.clone());
        self.end.token.cancel();
    }
}

/// A place in the register.
#[derive(Debug)]
pub(crate) struct OpenTunnel {
    id: TunnelId,
    end: Arc<End>,
    register: Tunnels,
}

impl OpenTunnel {
    /// Which.
    pub(crate) fn id(&self) -> TunnelId {
        self.id
    }

    /// Ends when the tunnel was told to end, with the reason.
    pub(crate) async fn untrusted(&self) -> HandshakeError {
        self.end.token.cancelled().await;
        // It is told with a reason, always.
        let reason = self.end.reason.get().cloned();
        reason.unwrap_or(HandshakeError::UntrustedIssuer)
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.register.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
