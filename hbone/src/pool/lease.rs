use std::sync::Arc;

use super::state::ConnectionId;
use crate::client::{Client, ConnectRequest};
use crate::{ConnectError, ResponseHeaders, Tunnel};

/// A place for one tunnel on a pooled connection. It is free again when the lease, or the tunnel made with it, is
/// dropped.
pub struct Lease<T> {
    client: Client,
    info: T,
    ticket: Ticket,
}

impl<T> Lease<T> {
    pub(super) fn new(client: Client, info: T, ticket: Ticket) -> Self {
        Self { client, info, ticket }
    }

    /// What the dialler said about this connection.
    pub fn info(&self) -> &T {
        &self.info
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens the tunnel. If the error [is retryable](ConnectError::is_retryable), get another lease: a connection
    /// that is going away is not handed out again.
    pub async fn connect(self, request: ConnectRequest) -> Result<(Tunnel, ResponseHeaders), ConnectError> {
        let Self { client, ticket, .. } = self;
        let (tunnel, headers) = client.connect(request).await?;
        Ok((tunnel.with_ticket(ticket), headers))
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
    fn release(&self, id: ConnectionId);
}
