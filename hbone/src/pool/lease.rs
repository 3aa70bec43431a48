use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::state::ConnectionId;
use crate::client::{Client, ConnectRequest};
use crate::{ConnectError, ResponseHeaders, Tunnel};

/// A place for one tunnel on a pooled connection. It is free again when the lease, or the tunnel made with it, is
/// dropped.
pub struct Lease<T> {
    client: Client,
    info: T,
    ticket: Ticket,
    probing: Probing,
}

/// When a peer is asked whether it is there; see [`super::state::Limits`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    pub(super) after: Duration,
    pub(super) timeout: Duration,
}

impl<T> Lease<T> {
    pub(super) fn new(client: Client, info: T, ticket: Ticket, probing: Probing) -> Self {
        Self {
            client,
            info,
            ticket,
            probing,
        }
    }

    /// What the dialler said about this connection.
    pub fn info(&self) -> &T {
        &self.info
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens the tunnel. If the error [may be sent again](ConnectError::may_be_sent_again), get another lease: a
    /// connection that is going away, or whose peer is silent, is not handed out again.
    ///
    /// A peer that was not heard of for a while, or is silent while the request waits, is pinged: so a connection
    /// that is dead costs a moment ([`super::state::Limits::probe_timeout`]) and not the request.
    pub async fn connect(self, request: ConnectRequest) -> Result<(Tunnel, ResponseHeaders), ConnectError> {
        let Self {
            client,
            ticket,
            probing,
            ..
        } = self;
        let answered = tokio::select! {
            biased;
            answered = client.connect(request) => answered,
            () = silence(&client, probing) => {
                ticket.release.doubt(ticket.id);
                Err(ConnectError::Silent(probing.timeout))
            }
        };
        let (tunnel, headers) = answered?;
        Ok((tunnel.with_ticket(ticket), headers))
    }
}

/// Completes when the peer is silent and has let a ping go unanswered.
async fn silence(client: &Client, probing: Probing) {
    loop {
        let quiet = client.heard().elapsed();
        if quiet < probing.after {
            sleep(probing.after - quiet).await;
            continue;
        }
        let mut heard = pin!(client.heard_again());
        tokio::select! {
            biased;
            () = &mut heard => {}
            () = sleep(probing.timeout) => return,
        }
    }
}

/// Says that a place is free again, when dropped.
pub(crate) struct Ticket {
    release: Arc<dyn Release>,
    id: ConnectionId,
}

impl Ticket {
    pub(super) fn new(release: Arc<dyn Release>, id: ConnectionId) -> Self {
        Self { release, id }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.release.release(self.id);
    }
}

pub(super) trait Release: Send + Sync {
    /// A tunnel of this connection has ended.
    fn release(&self, id: ConnectionId);
    /// The peer of this connection is silent.
    fn doubt(&self, id: ConnectionId);
}
