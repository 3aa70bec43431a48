//! Where the control plane is and how we prove who we are.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tls::CompliancePolicy;
use tls::server_auth::RootSource;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::Service;

use crate::connect::Connector;
use crate::token::Token;

/// How often the connection is probed while it is idle, and how long an answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The most extra headers.
const MAX_HEADERS: usize = 64;

/// Where to connect, whom to trust there, and what to say with each call.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// `https://host:port`; without a scheme, https is meant. The port is 15012 unless given.
    pub address: String,
    /// The roots the server's certificate must lead to.
    pub roots: RootSource,
    /// The name to verify instead of the address's host.
    pub alternative_name: Option<String>,
    /// The bearer token sent with each call.
    pub token: Token,
    /// Sent as `clusterid`, unless empty.
    pub cluster_id: String,
    /// Further headers, by name and value.
    pub headers: Vec<(String, String)>,
    /// Which algorithms of TLS are spoken.
    pub compliance: CompliancePolicy,
}

/// A channel that generated clients are made with. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Channel {
    inner: tonic::transport::Channel,
    token: Token,
    headers: Arc<HeaderMap>,
}

/// What is wrong with a [`ChannelConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address cannot be used.
    #[error("'{address}' is not an address of a control plane: {reason}; write https://HOST:PORT")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A header has an impossible name or value. The value is not repeated: it may be a secret.
    #[error("the header '{0}' has an impossible name or value")]
    Header(String),
    /// Too many headers.
    #[error("{0} extra headers; at most {MAX_HEADERS} are sent")]
    TooManyHeaders(usize),
}

impl ChannelConfig {
    /// The port of the control plane, unless the address names one.
    pub const DEFAULT_PORT: u16 = 15012;

    /// A configuration with no token and no headers.
    pub fn new(address: impl Into<String>, roots: RootSource) -> Self {
        Self {
            address: address.into(),
            roots,
            alternative_name: None,
            token: Token::None,
            cluster_id: String::new(),
            headers: Vec::new(),
            compliance: CompliancePolicy::None,
        }
    }

    /// Makes the channel. Nothing is dialled or read yet, so this succeeds while the control plane is down.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address or a header is malformed.
    pub fn channel(&self) -> Result<Channel, ConfigError> {
        let uri = self.uri()?;
        let bad = |reason: &str| ConfigError::Address {
            address: self.address.clone(),
            reason: reason.to_owned(),
        };
        let host = uri
            .host()
            .ok_or_else(|| bad("no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let port = uri.port_u16().unwrap_or(Self::DEFAULT_PORT);
        let name = self.alternative_name.clone().unwrap_or_else(|| host.clone());
        let connector = Connector::new(host, port, name, self.roots.clone(), self.compliance);
        let inner = Endpoint::from(uri)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Ok(Channel {
            inner,
            token: self.token.clone(),
            headers: Arc::new(self.header_map()?),
        })
    }

    fn uri(&self) -> Result<http::Uri, ConfigError> {
        let bad = |reason: String| ConfigError::Address {
            address: self.address.clone(),
            reason,
        };
        let full = match self.address.split_once("://") {
            Some(("https", _)) => self.address.clone(),
            Some((other, _)) => return Err(bad(format!("the scheme is {other}, only https is spoken"))),
            None => format!("https://{}", self.address),
        };
        full.parse()
            .map_err(|error: http::uri::InvalidUri| bad(error.to_string()))
    }

    fn header_map(&self) -> Result<HeaderMap, ConfigError> {
        if self.headers.len() > MAX_HEADERS {
            return Err(ConfigError::TooManyHeaders(self.headers.len()));
        }
        let cluster = ("clusterid".to_owned(), self.cluster_id.clone());
        let cluster = (!self.cluster_id.is_empty()).then_some(&cluster);
        let mut map = HeaderMap::new();
        for (name, value) in cluster.into_iter().chain(&self.headers) {
            let bad = || ConfigError::Header(name.clone());
            let key = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| bad())?;
            map.append(key, value);
        }
        Ok(map)
    }
}

type Response = http::Response<Body>;
type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for Channel {
    type Response = Response;
    type Error = tonic::Status;
    type Future = BoxFuture<Result<Response, tonic::Status>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| tonic::Status::from_error(Box::new(error)))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The service that was made ready is the one to be used; the clone takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (token, headers) = (self.token.clone(), self.headers.clone());
        Box::pin(async move {
            for (name, value) in headers.iter() {
                request.headers_mut().append(name.clone(), value.clone());
            }
            let token = token
                .authorization()
                .await
                .map_err(|error| tonic::Status::unauthenticated(error.to_string()))?;
            if let Some(token) = token {
                request.headers_mut().insert(AUTHORIZATION, token);
            }
            inner
                .call(request)
                .await
                .map_err(|error| tonic::Status::from_error(Box::new(error)))
        })
    }
}

#[cfg(test)]
mod tests;
