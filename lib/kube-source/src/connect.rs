//! Dialling the API server: in the clear, or over TLS with its name proven.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use sys::socket::{Keepalive, dial};
use tls::HandshakeError;
use tls::server_auth::{Client, RootError, RootSource};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::ApiServer;

/// The longest that looking up the name and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is gone without a word is noticed within a minute.
const KEEPALIVE: Keepalive = Keepalive {
    time: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    retries: 3,
    user_timeout: false,
};

/// Dials one API server, reading the roots anew each time.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Arc<Target>,
}

struct Target {
    host: String,
    port: u16,
    /// None: in the clear.
    roots: Option<RootSource>,
}

/// The API server could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There are no roots to hold the server against.
    #[error(transparent)]
    Roots(#[from] RootError),
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// No TLS.
    #[error("cannot trust {address}: {source}")]
    Tls {
        /// Host and port.
        address: String,
        /// Why not.
        source: HandshakeError,
    },
}

impl Connector {
    pub(crate) fn new(server: &ApiServer) -> Connector {
        let encrypted = server.url.scheme_str() == Some("https");
        let host = server.url.host().unwrap_or_default();
        // The brackets of an IPv6 address belong to the URL.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = server.url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let roots = encrypted.then(|| server.roots.clone());
        Connector {
            target: Arc::new(Target { host, port, roots }),
        }
    }
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let target = self.target.clone();
        Box::pin(async move { target.dial().await.map(TokioIo::new) })
    }
}

impl Target {
    async fn dial(&self) -> Result<Stream, DialError> {
        let address = format!("{}:{}", self.host, self.port);
        let failed = |source| DialError::Connect {
            address: address.clone(),
            source,
        };
        // Roots first: without them there is no use in connecting.
        let client = match self.roots.clone() {
            Some(roots) => {
                let loading = tokio::task::spawn_blocking(move || Client::load(&roots)).await;
                Some(loading.map_err(|stopped| failed(io::Error::other(stopped)))??)
            }
            None => None,
        };
        let dialling = dial(&self.host, self.port, CONNECT_TIMEOUT, KEEPALIVE);
        let socket = dialling.await.map_err(failed)?;
        match client {
            None => Ok(Stream::Plain(socket)),
            Some(client) => match client.connect(socket, &self.host).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
                Err(source) => Err(DialError::Tls { address, source }),
            },
        }
    }
}

/// A connection to the API server.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<tls::Stream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Stream::Plain(_) => Connected::new(),
            // The handshake offers nothing else.
            Stream::Tls(_) => Connected::new().negotiated_h2(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
