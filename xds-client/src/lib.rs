//! The client's side of delta xDS over the aggregated stream.
//!
//! [`run`] keeps one stream to the control plane: it subscribes to every type in [`ClientConfig::types`] (of one type,
//! where [`ClientConfig::on_demand`] says so, only to the names that an [`Asker`] asks for), hands each
//! response to a [`Handler`], and acknowledges it only when the handler is done, so that an acknowledged resource is
//! one that is enforced. [`state`] is the protocol without any I/O: what is held, what to send, how long to wait.
//!
//! This crate deliberately does not know what a resource means: it is generic over type URLs and hands out bytes.
//! It holds names and versions, never resources, and gives nothing up when the control plane is away.

mod ask;
mod client;
mod error;
pub mod state;

pub use ask::{AskError, Asker, Demand, Demands, MAX_WAITING, on_demand};
pub use client::{ClientConfig, Handler, MAX_RESPONSE, Observer, Status, Termination, run};
pub use proto::discovery::Node;
pub use state::{Rejection, ResourceUpdate, Unreadable, Update};
