//! The wire messages of the mesh: workloads and policies, discovery, certificate signing, and the protocol
//! between node agent and node proxy.
//!
//! The texts under `text/` are our own, with the packages, names and field numbers of the public protocols, so
//! that the bytes are the same. This crate is deliberately free of logic: what a message means, and whether it
//! is acceptable, is decided in `mesh`, `zds`, `ca` and `xds-client`.
//!
//! Feature `messages` (default) gives the messages; feature `grpc` adds the clients and servers.

#![allow(missing_docs, unreachable_pub, clippy::all)]
// The texts carry the documentation; the compiler copies what it can.

/// Package `istio.workload`.
pub mod workload {
    include!(concat!(env!("OUT_DIR"), "/istio.workload.rs"));
    /// The type URL under which addresses travel.
    pub const ADDRESS_TYPE_URL: &str = "type.googleapis.com/istio.workload.Address";
}

/// Package `istio.security`.
pub mod security {
    include!(concat!(env!("OUT_DIR"), "/istio.security.rs"));
    /// The type URL under which policies travel.
    pub const AUTHORIZATION_TYPE_URL: &str = "type.googleapis.com/istio.security.Authorization";
}

/// Package `istio.v1.auth`.
pub mod auth {
    include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.rs"));
}

/// Package `istio.workload.zds`.
pub mod zds {
    include!(concat!(env!("OUT_DIR"), "/istio.workload.zds.rs"));
}

/// Package `envoy.service.discovery.v3`.
pub mod discovery {
    include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.rs"));
}

/// Package `ztunnel.dev`: what our control plane adds to the messages of others.
pub mod origin {
    include!(concat!(env!("OUT_DIR"), "/ztunnel.dev.rs"));
    /// The name of the extension that holds an [`Origin`].
    pub const ORIGIN_EXTENSION: &str = "ztunnel.dev/origin";
    /// The type URL of an [`Origin`].
    pub const ORIGIN_TYPE_URL: &str = "type.googleapis.com/ztunnel.dev.Origin";
    /// The name of the extension that holds a [`PeerAuthenticationOrigin`].
    pub const PEER_AUTHENTICATION_EXTENSION: &str = "ztunnel.dev/peer-authentication";
    /// The type URL of a [`PeerAuthenticationOrigin`].
    pub const PEER_AUTHENTICATION_TYPE_URL: &str = "type.googleapis.com/ztunnel.dev.PeerAuthenticationOrigin";
    /// The name of the extension that holds [`DryRunPolicies`].
    pub const DRY_RUN_EXTENSION: &str = "ztunnel.dev/dry-run-policies";
    /// The type URL of [`DryRunPolicies`].
    pub const DRY_RUN_TYPE_URL: &str = "type.googleapis.com/ztunnel.dev.DryRunPolicies";
    /// The type URL under which a [`TrustBundle`] travels.
    pub const TRUST_BUNDLE_TYPE_URL: &str = "type.googleapis.com/ztunnel.dev.TrustBundle";
    /// The response header by which a server lists the type URLs that it serves besides the usual ones, separated by
    /// commas.
    pub const OFFERS_HEADER: &str = "ztunnel.dev-offers";
}
