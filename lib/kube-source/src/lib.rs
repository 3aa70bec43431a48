//! Objects in a Kubernetes API, as an [`ObjectSource`](object_store::ObjectSource) and an
//! [`ObjectWriter`](object_store::ObjectWriter).
//!
//! [`ApiServer`] says where the API is and how to speak to it, [`Wanted`] which objects are wanted of it, and
//! [`KubernetesStore`] watches and writes them:
//!
//! ```no_run
//! # async fn example() -> Result<(), kube_source::ConfigError> {
//! use kube_source::{ApiServer, KubernetesStore, Wanted};
//!
//! let store = KubernetesStore::new(ApiServer::in_cluster()?, Wanted::for_control_plane());
//! # Ok(())
//! # }
//! ```
//!
//! [`object_of`] makes an object of what the API gave somebody else.
//!
//! How it works: for every kind there is one task that lists the objects page by page and then watches them.
//! `machine` decides what it does next and how long it waits after a failure; `mirror` holds the latest state of
//! every object and what the reader has not been told yet. Both are plain state machines that are given time and
//! entropy. `prune` drops what nobody reads, `read` makes objects of the rest.
//!
//! The requests, and the framing and decoding of their answers, are the `kube` client's. Its `watcher` is not used,
//! because it does not recover from all that happens here: a 410 or a `ResourceVersionTooLarge` by which a watch is
//! *refused* (rather than ended) makes it ask the same again without end, a watch that is always cut at once makes it
//! ask without any pause, and an event that cannot be decoded is skipped, so that its change is lost.
//!
//! What this crate deliberately is not: it does not know what an object means, it names no rustls (the connections
//! are `tls`'s), does nothing that a kubeconfig wants beside a server, its authority and a token ([`ApiServer::from_kubeconfig`]),
//! and leans on no habit of a particular API server: resource versions are compared only within one kind, and only where
//! both are numbers.

mod body;
mod config;
mod connect;
mod crds;
mod error;
mod follow;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http_client;
mod item;
mod kinds;
mod kubeconfig;
mod machine;
mod mirror;
mod prune;
mod read;
mod retry_after;
mod store;
mod stream;
mod token;
mod writer;

pub use config::{ApiServer, ConfigError};
pub use connect::DialError;
pub use kinds::Wanted;
pub use kubeconfig::{KubeconfigError, MAX_KUBECONFIG_BYTES};
pub use mirror::{KindState, KindStatus};
pub use read::object_of;
pub use store::KubernetesStore;
pub use writer::FIELD_MANAGER;
