//! SPIFFE mutual TLS: who the peer is, proven by its certificate, and a byte stream with that peer.
//!
//! - [`connect`] and [`accept`] run a TLS 1.3 handshake over any byte stream and yield a [`Stream`] and the
//!   [`Peer`] behind it. What is refused is refused by name: [`HandshakeError`].
//! - [`WorkloadCertificate`] is a certificate with its key and the roots it came with; [`Issuer`] is whoever
//!   signs them; [`renewal`] says when to ask for the next one.
//! - [`server_auth`] is one-way TLS with a name, as used towards and by the control plane.
//!
//! This crate is the only one that names rustls, and none of its types cross this border. It deliberately has
//! no sockets of its own, starts no tasks, keeps no process-wide cryptographic default, and knows nothing of
//! workloads or policy: whether a proven identity *may* do something is decided elsewhere.

mod certificate;
mod config;
mod error;
mod handshake;
mod issuer;
mod pem;
mod provider;
pub mod renewal;
mod request;
pub mod server_auth;
mod stream;
mod verify;

pub use certificate::{CertificateError, PrivateKey, WorkloadCertificate};
pub use config::{ClientConfig, ConfigCache, ServerConfig};
pub use error::{Alert, Blame, HandshakeError};
pub use handshake::{HANDSHAKE_TIMEOUT, Peer, accept, connect};
pub use issuer::{BoxFuture, IssueError, Issuer};
pub use pem::PemError;
pub use request::{KeyAndRequest, RequestError};
pub use stream::Stream;
