//! SPIFFE mutual TLS: who the peer is, proven by its certificate, and a byte stream with that peer.
//!
//! - [`connect`] and [`accept`] run a TLS 1.3 handshake (1.2 where [`Versions`] allow it) over any byte stream and yield a [`Stream`] and the
//!   [`Peer`] behind it. What is refused is refused by name: [`HandshakeError`].
//! - [`WorkloadCertificate`] is a certificate with its key and the roots it came with; [`Issuer`] is whoever
//!   signs them; [`renewal`] says when to ask for the next one.
//! - [`Trust`] is what the peers of a process are held against: roots, [`Revocation`] lists, aliases of the trust
//!   domain. [`rotation`] says which roots those are while an authority exchanges its own.
//! - [`server_auth`] is one-way TLS with a name, as used towards and by the control plane.
//!
//! This crate is the only one that names rustls, and none of its types cross this border. It deliberately has
//! no sockets of its own, starts no tasks, keeps no process-wide cryptographic default, and knows nothing of
//! workloads or policy: whether a proven identity *may* do something is decided elsewhere.

mod certificate;
mod config;
mod entropy;
mod error;
mod handshake;
mod issuer;
mod pem;
mod provider;
pub mod renewal;
mod request;
mod revocation;
mod roots;
pub mod rotation;
pub mod server_auth;
mod stream;
mod trust;
mod verify;

pub use certificate::{CertificateError, CertificateInfo, PrivateKey, WorkloadCertificate};
pub use config::{ClientConfig, ConfigCache, ServerConfig};
pub use error::{Alert, Blame, HandshakeError};
pub use handshake::{HANDSHAKE_TIMEOUT, Peer, accept, connect};
pub use issuer::{BoxFuture, IssueError, Issuer};
pub use pem::PemError;
pub use provider::{CompliancePolicy, UnknownPolicy, Versions};
pub use request::{KeyAndRequest, RequestError};
pub use revocation::{
    MAX_REVOCATION_BYTES, MAX_REVOCATION_LISTS, Revocation, RevocationError, RevocationLists,
};
pub use roots::Roots;
pub use stream::Stream;
pub use trust::{Trust, TrustChanges};
