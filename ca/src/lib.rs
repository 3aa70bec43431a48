//! The bundled certificate authority, and the client that asks one.
//!
//! Feature `server`: `Authority` signs requests with a `Material` (key, certificate, the way to a root, all trusted
//! roots) that may be exchanged while it runs; an `AuthorityStore` keeps a root of our own (`DirectoryStore` in files),
//! `Plugged` is an intermediate that somebody else issued. `Service` is the gRPC service
//! `istio.v1.auth.IstioCertificateService` around it, and tells `Observer`s what it issued and refused.
//! Who is calling is answered by an `Authenticator` (`JwtAuthenticator` reads tokens with the claims of projected
//! Kubernetes tokens), and for whom a node proxy may ask by a `NodeAuthorizer`. `TokenSigner` signs such tokens where
//! there is no Kubernetes.
//!
//! Feature `client`: `GrpcIssuer` is a [`tls::Issuer`] that asks such a service.
//!
//! This crate deliberately knows no Kubernetes API, and remembers of what it has signed only what is valid. What a request asks
//! for is never what is signed: the names in a certificate are made from the caller, the request gives its key
//! and nothing else.

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "client")]
pub use client::GrpcIssuer;
#[cfg(feature = "server")]
pub use server::*;

/// The metadata field in which a node proxy names the workload it asks for.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";
