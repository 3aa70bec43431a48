//! Objects in; workloads, services and policies out, as the messages that node proxies are served.
//!
//! [`Compiler`] holds the objects and what was made of them. It is told what changed and answers what changes on the
//! wire: only resources whose bytes are other than before.
//!
//! What this crate deliberately is not: it does no I/O and watches nothing (`control-plane` does), it reads no text
//! (`objects` does), and it decides about no connection (`mesh` does).

mod authorization_policy;
mod block;
mod claim;
mod clusters;
mod compiler;
mod condition;
mod endpoint;
mod entry;
mod index;
mod network;
mod origin;
mod peer_authentication;
mod service;
mod service_entry;
mod settings;
mod trust_domain;
mod vip;
mod waypoint;
mod workload;

pub use clusters::{ClusterReport, Clusters, Hindrance, MAX_CLUSTERS};
pub use compiler::{Compiler, Output};
pub use condition::Condition;
pub use peer_authentication::{EffectiveMtls, STATIC_STRICT_POLICY};
pub use service_entry::Visibility;
pub use settings::{MeshFlags, Settings};
pub use waypoint::{InFront, as_ready};

#[cfg(test)]
mod testing;
