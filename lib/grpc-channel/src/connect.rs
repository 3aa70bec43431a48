//! Dialling: name, TCP, TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use sys::socket::{Keepalive, dial};
use tls::server_auth::{Client, RootError, RootSource};
use tls::{CompliancePolicy, HandshakeError};
use tokio::net::TcpStream;
use tower::Service;

/// The longest that looking up the name and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of TCP; whether the server lives is asked of HTTP/2 more often.
const KEEPALIVE: Keepalive = Keepalive {
    time: Duration::from_secs(300),
    interval: Duration::from_secs(75),
    retries: 9,
    user_timeout: false,
};

/// Dials one server, reading its roots anew each time.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Arc<Target>,
}

struct Target {
    host: String,
    port: u16,
    name: String,
    roots: RootSource,
    compliance: CompliancePolicy,
}

/// Why the control plane could not be reached.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There are no roots to hold the server against.
    #[error(transparent)]
    Roots(#[from] RootError),
    /// No TCP connection.
    #[error("cannot connect to {address}: {message}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's words.
        message: String,
    },
    /// No TLS.
    #[error("cannot trust {address} as {name}: {error}")]
    Tls {
        /// Host and port.
        address: String,
        /// The name that was to be proven.
        name: String,
        /// Why not.
        error: HandshakeError,
    },
}

impl Connector {
    pub(crate) fn new(
        host: String,
        port: u16,
        name: String,
        roots: RootSource,
        compliance: CompliancePolicy,
    ) -> Self {
        Self {
            target: Arc::new(Target {
                host,
                port,
                name,
                roots,
                compliance,
            }),
        }
    }
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<tls::Stream<TcpStream>>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: http::Uri) -> Self::Future {
        let target = self.target.clone();
        Box::pin(async move { target.dial().await.map(TokioIo::new) })
    }
}

impl Target {
    async fn dial(&self) -> Result<tls::Stream<TcpStream>, DialError> {
        // Roots first: without them there is no use in connecting.
        let (roots, compliance) = (self.roots.clone(), self.compliance);
        let client = tokio::task::spawn_blocking(move || Client::load_with(&roots, compliance))
            .await
            .map_err(|stopped| self.failed(&io::Error::other(stopped)))??;
        let dialling = dial(&self.host, self.port, CONNECT_TIMEOUT, KEEPALIVE);
        let socket = dialling.await.map_err(|error| self.failed(&error))?;
        let stream = client.connect(socket, &self.name).await;
        stream.map_err(|error| DialError::Tls {
            address: self.address(),
            name: self.name.clone(),
            error,
        })
    }

    fn failed(&self, error: &io::Error) -> DialError {
        DialError::Connect {
            address: self.address(),
            message: error.to_string(),
        }
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests;
