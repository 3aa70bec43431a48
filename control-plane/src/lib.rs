//! The control plane: watches objects, compiles them, serves workloads, services and policies to node proxies over
//! delta xDS, and hosts the CA, all on one TLS port.
//!
//! [`start`] puts the parts together over any [`object_store::ObjectSource`]. `pipeline` turns what the source tells
//! into views of the mesh; `xds` serves them; `status` writes on policies what became of them; `pods` tells the CA which identities run on which node; `rotation` leads the exchange of the CA's root; `debug` answers
//! questions about all of it.
//!
//! What this crate deliberately is not: it does not compile (`compile` does), it signs nothing itself (`ca` does), it
//! decides about no connection (`mesh` does), and it does not know where objects live (`object-store` does).

mod authority;
mod certificate;
mod clock;
mod clusters;
mod config;
mod debug;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod kubernetes;
mod leadership;
mod listener;
mod mesh_settings;
mod monitoring;
mod pipeline;
mod places;
mod pods;
mod progress;
mod rotation;
mod scope;
mod server;
mod standstill;
mod status;
mod xds;

pub use authority::NoAuthority;
pub use certificate::ServerCertificateError;
pub use config::{Config, DryRunPolicies, EntryVisibility, Store, StoreUnavailable};
pub use debug::DebugSocketError;
pub use pipeline::Stopped;
pub use server::{Error, Running, start};
