//! The node proxy: one process a node, serving every pod of the node that is in the mesh.
//!
//! The node agent hands over a pod's network namespace; listeners made inside it take the pod's connections. What
//! leaves goes through HBONE tunnels in the pod's name, what arrives is authenticated, authorized, and handed to
//! the application with the caller's own address.
//!
//! Deliberately not here: decisions. Where a connection goes and whether it may is `mesh`'s; this crate finds the
//! facts for the question, does what the answer says, and reports it. It holds no `unsafe` and no TLS or HTTP/2 of
//! its own either.

mod acceptor;
mod application;
mod authority;
mod buffers;
pub mod config;
mod connections;
mod context;
mod dedicated;
mod disk;
mod dns;
mod endpoint_load;
mod enforcement;
mod failure;
mod flow;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshakes;
pub mod headers;
mod host_names;
mod http;
mod identities;
mod inbound;
mod inbound_plaintext;
mod local_file;
mod manager;
mod memory;
mod node;
mod on_demand;
mod outbound;
mod pod_proxy;
mod pod_readiness;
mod pods;
mod proxy_header;
mod readiness;
mod revocation;
mod run;
mod self_inbound;
mod series;
mod serving;
pub mod socks5;
mod sources;
mod state;
#[cfg(test)]
mod testing;
mod trust;
mod trust_bundle;
mod tunnels;
mod unproxied;

pub use local_file::LocalError;
pub use run::{RunError, run};
