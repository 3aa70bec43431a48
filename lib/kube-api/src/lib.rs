//! A small Kubernetes API server for the lab and the tests. It is never for production: it keeps everything in
//! memory, trusts everybody, and knows only what the mesh uses.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kube_api::{ApiServer, Options, Requests, StatusError, Verb};
//! use serde_json::json;
//!
//! let server = ApiServer::start(Options::default()).await?;
//! // What there is at the start; clients do the rest over HTTP at `server.url()`, by kubectl too.
//! server.put(json!({
//!     "apiVersion": "v1",
//!     "kind": "Pod",
//!     "metadata": { "namespace": "demo", "name": "web" },
//!     "spec": { "nodeName": "a" },
//!     "status": { "phase": "Running", "podIP": "10.0.0.1" },
//! }))?;
//! // What goes wrong.
//! server.faults().cut_watches();
//! server.faults().fail(Requests::with_verb(Verb::List).of("pods"), StatusError::unavailable(), Some(3));
//! server.store().compact(); // 410 for whoever continues from an older revision
//! // What clients asked.
//! server.wait_for_records(|records| records.iter().any(|record| record.uri.contains("limit=500"))).await;
//! // A restart: the same objects and revisions, other connections.
//! let (store, address) = (server.store().clone(), server.address());
//! server.stop().await;
//! let server = ApiServer::start(Options { store, address, ..Options::default() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It follows the Kubernetes API conventions: discovery, tables, lists with resource versions and pages of one
//! moment, watches with bookmarks and 410, optimistic concurrency, status subresources and generations, JSON, merge
//! and strategic merge patches, server-side apply with field managers, finalizers, tokens bound to pods and nodes.
//! Custom kinds are served when their CustomResourceDefinition is stored, and not before; what is written of them is
//! held against its schema and rules; what is written of built-in kinds, against Kubernetes' types and the rules that
//! readers count on.
//!
//! What it deliberately does not: no authorization (access reviews are answered by [`ApiServer::decide_access`]), no
//! admission but what [`Options`] names, few of the rules of built-in kinds, no controllers (no endpoints, no
//! default service accounts, no garbage collection), no protobuf (but for bodies of the few kinds that kubectl sends so), no YAML bodies, no conversion between versions
//! other than of `apiVersion` and between the two forms of Events. Where it differs from a real
//! server, the real one is right: a client must not rely on a habit of this one.

mod api;
mod backing;
mod built_in;
mod columns;
mod defaults;
mod definitions;
mod delete;
mod discovery;
mod faults;
mod kinds;
mod logs;
mod managed;
mod openapi;
mod patch;
mod protobuf;
mod read;
mod records;
mod registry;
mod render;
mod request;
mod review;
mod rules;
mod scale;
mod schema;
mod selector;
mod server;
mod shape;
mod status;
mod store;
mod tokens;
mod watch;
mod write;

pub use api::{MAX_BODY_BYTES, MAX_WATCHERS};
pub use backing::{Backing, Exchange, resource};
pub use definitions::mesh_definitions;
pub use faults::{Faults, Requests, Verb};
pub use logs::{Container, Logs, MAX_LOG_BYTES};
pub use records::{MAX_RECORDS, Record};
pub use server::{ApiServer, MAX_CONNECTIONS, Options};
pub use status::StatusError;
pub use store::{EVENTS_KEPT, Key, MAX_OBJECT_BYTES, Store, Stored};
pub use tokens::{SERVER_AUDIENCE, TokenKey, TokenKeyError, TokenSubject};
