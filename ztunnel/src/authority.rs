//! Who signs certificates.

use crate::config::ProxyMode;
use ca::GrpcIssuer;
use grpc_channel::{ChannelConfig, ConfigError};
use mesh::Identity;
use std::sync::Arc;
use std::time::Duration;
use tls::{BoxFuture, IssueError, Issuer, WorkloadCertificate};

/// The issuer behind `channel`. A proxy of one workload proves that workload with its own token and asks for nobody
/// else; a proxy of a node names the identity it asks for.
pub(crate) fn issuer(
    channel: Option<ChannelConfig>,
    mode: &ProxyMode,
) -> Result<Arc<dyn Issuer>, ConfigError> {
    let Some(channel) = channel else {
        return Ok(Arc::new(Nobody));
    };
    let channel = channel.channel()?;
    Ok(Arc::new(match mode {
        ProxyMode::Shared => GrpcIssuer::for_node(channel),
        ProxyMode::Dedicated(_) => GrpcIssuer::for_self(channel),
    }))
}

/// There is no authority.
struct Nobody;

impl Issuer for Nobody {
    fn issue<'a>(
        &'a self,
        _identity: &'a Identity,
        _life: Duration,
    ) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        let words = "CA_ADDRESS is empty, so there is nobody who signs certificates";
        Box::pin(async move { Err(IssueError::Unavailable(words.into())) })
    }
}
